"""Predictions are made once and kept: every figure is computed from the Parquet file that is written here."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as tv

from fer_hf.console import track
from fer_hf.errors import UserError
from fer_hf.images.batches import FaceDataset, as_is
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform


def views(images: Tensor | list[Tensor], tta: str) -> list[Any]:
    """What a model sees of uint8 `images` `(B, C, H, W)`, or of a list of `(C, H, W)`: whole batches, of the same kind.

    `none`: the images. `flip`: the images and their mirror images. `ten_crop`: the corners and the centre, of 7/8 of
    height and width, and the same of the mirror images (Krizhevsky et al., 2012, section 4.1: 224 of 256 pixels).
    """
    if not isinstance(images, Tensor):
        return [list(view) for view in zip(*(views(image, tta) for image in images), strict=True)]
    if tta == "ten_crop":
        return list(tv.ten_crop(images, [round(pixels * 7 / 8) for pixels in images.shape[-2:]]))
    return [images, tv.horizontal_flip(images)] if tta == "flip" else [images]


@torch.inference_mode()
def predict_logits(
    model: Callable[..., Any],
    dataset: Dataset,
    spec: ImageSpec,
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    tta: str = "none",
    pixels: np.ndarray | None = None,
) -> np.ndarray:
    """Logits `(N, C)` float32 of a dataset with `image` and `label`, in its order.

    With test-time augmentation they are the logarithm of the mean probability over the `views`, each resized and
    cropped as any image: their softmax is that mean.

    Args:
        model: called as `model(pixel_values=...)`, returns something with `.logits`: a torch module, or an ONNX Runtime
            model of Optimum.
        accelerator: shares the work among processes; every one of them gets all logits. None: this process alone.
        pixels: the images as `Faces.pixels` has them; None: they are decoded here.
    """
    loader: Any = DataLoader(FaceDataset(dataset, pixels=pixels), batch_size=batch_size, collate_fn=as_is)
    device = torch.device("cpu")
    if isinstance(model, torch.nn.Module):
        model.eval()
        device = accelerator.device if accelerator else next(model.parameters()).device
        model.to(device)
    if accelerator:
        loader = accelerator.prepare_data_loader(loader)
    transform = EvalTransform(spec)
    rows = []
    for batch in track(loader, "predicting", quiet=bool(accelerator and not accelerator.is_main_process)):
        images = batch["images"]
        images = images.to(device) if isinstance(images, torch.Tensor) else [image.to(device) for image in images]
        seen = [torch.as_tensor(model(pixel_values=transform(view)).logits).float() for view in views(images, tta)]
        logits = seen[0] if tta == "none" else torch.stack(seen).log_softmax(-1).logsumexp(0) - math.log(len(seen))
        rows.append((accelerator.gather_for_metrics(logits) if accelerator else logits).cpu().numpy())
    return np.concatenate(rows)


FLOAT, INT8 = "model.onnx", "model_int8.onnx"


def require_optimum() -> None:
    """Raises `UserError` with the way to install what exporting needs."""
    if importlib.util.find_spec("optimum") is None or importlib.util.find_spec("onnxruntime") is None:
        raise UserError(
            "Exporting needs Optimum and ONNX Runtime: pip install 'fer_hf[onnx]', or '.[onnx]' in a checkout (it "
            "brings transformers 4.57). A recipe runs without them with export.onnx=false export.int8=false."
        )


def load_onnx(model_folder: Path | str, file_name: str = FLOAT) -> Any:
    """An `ORTModelForImageClassification` from a local model folder or the Hub, on the CPU."""
    require_optimum()
    from optimum.onnxruntime import ORTModelForImageClassification

    try:
        return ORTModelForImageClassification.from_pretrained(model_folder, subfolder="onnx", file_name=file_name)
    except (OSError, ValueError) as error:  # which one, depends on where Optimum misses the file
        raise UserError(
            f"onnx/{file_name} of {str(model_folder)!r} could not be loaded: {error} A run gets it by "
            f"`fer-hf export RUN{' --int8' if file_name == INT8 else ''}`."
        ) from error
