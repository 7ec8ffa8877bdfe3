"""What a training looks at: images that are decoded once, and how they are augmented."""

import math

import torch
from datasets import Dataset
from torch import nn

from fer_hf.data.cache import decoded
from fer_hf.data.decode import Array
from fer_hf.errors import UserError
from fer_hf.images.batches import FaceDataset
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import TrainTransform
from fer_hf.recipe.schema import Augment, Recipe, Train
from fer_hf.training.launch import processes


def batches(
    recipe: Recipe, data: Dataset, spec: ImageSpec, training: bool = False, pixels: Array | None = None
) -> FaceDataset:
    """Batches of images that are decoded once, and lie on the GPU where they take no more than a quarter of it.

    Those of training are as large as the smallest random crop needs them; those of evaluation as they are, and decoded
    anew each time where they are of many sizes.

    Args:
        pixels: what the check has decoded already (`Faces.pixels`).
    """
    soft = training and recipe.loss.soft_labels
    largest = math.inf
    if training and recipe.augment.enabled:
        largest = math.ceil(max(spec.size) / math.sqrt(min(1.0, recipe.augment.crop_scale[0])))
    with processes().local_main_process_first():  # the others find what it has written
        array = decoded(data, "training" if training else "validation", largest, pixels)
    if array is None:
        return FaceDataset(data, soft)
    images, device = torch.from_numpy(array), processes().device
    needed_on_cpu = any(recipe.train.passed_through.get(key) for key in ("use_cpu", "dataloader_num_workers"))
    if device.type == "cuda" and not needed_on_cpu and array.nbytes <= torch.cuda.mem_get_info(device)[0] // 4:
        images = images.to(device)
    return FaceDataset(data, soft, images)


def train_transform(
    augment: Augment, train: Train, spec: ImageSpec, num_samples: int, seed: int
) -> TrainTransform | None:
    """The augmentation of a stage, whose images grow over its epochs as `train` says; None without any.

    Args:
        num_samples: the number of training images.
        seed: of what is drawn for them.
    """
    if not augment.enabled:
        return None
    smaller = train.progressive_sizes
    share = train.num_train_epochs / (len(smaller) + 1)
    sizes = [size for i, size in enumerate(smaller) for _ in range(round(i * share), round((i + 1) * share))]
    settings = augment.model_dump(exclude={"enabled", "mixup", "cutmix"})
    return TrainTransform(spec, num_samples, seed, **settings, sizes=sizes)


@torch.no_grad()
def check_sizes(recipe: Recipe, model: nn.Module, size: tuple[int, int]) -> None:
    """Raise `UserError` for progressive sizes that are not below the model's `size`, or that it cannot take.

    A ViT takes no other size than its own.
    """
    key = f"train.progressive_sizes ({recipe.where('train.progressive_sizes')})"
    for edge in recipe.train.progressive_sizes:
        if edge >= min(size):
            raise UserError(
                f"{key}: {edge} is not below the {size[0]} x {size[1]} pixels of the model, which come last."
            )
        try:
            model.eval()(pixel_values=torch.zeros(1, 3, edge, edge))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(f"{key}: {recipe.model.name} takes no images of {edge} pixels: {error}") from error
