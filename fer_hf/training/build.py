"""From a recipe to trainers: the one place where its sections become the parts of a training.

A run is one stage, or several. Each stage has a Trainer of its own, with its own parameters, optimiser, schedule and
checkpoints; the model, the decoded images and the teacher are made once and shared.
"""

import gc
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from fer_hf.data.cache import decoded
from fer_hf.data.decode import Array
from fer_hf.data.faces import Faces
from fer_hf.errors import UserError
from fer_hf.images.batches import FaceDataset, as_is
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform, TrainTransform
from fer_hf.metrics import classification_metrics
from fer_hf.models.attention import EmotionAttentionForImageClassification
from fer_hf.models.load import load_model
from fer_hf.recipe.schema import Loss, Recipe, Stage, Train
from fer_hf.runs.folder import Run
from fer_hf.runs.records import Model
from fer_hf.training.arguments import compiler_fault, training_arguments
from fer_hf.training.batch_size import batch_that_fits, memory_explained, try_step, what_to_lower
from fer_hf.training.callbacks import Clock, ExactResume
from fer_hf.training.launch import processes
from fer_hf.training.losses import TrainLoss, balanced_weights, effective_number_weights
from fer_hf.training.mixing import Mix
from fer_hf.training.parameters import set_trainable
from fer_hf.training.sampling import ClassBalancedSampler
from fer_hf.training.teacher import Teacher
from fer_hf.training.trainer import FerTrainer, TrainerParts


@dataclass(frozen=True)
class StagePlan:
    """One stage with every setting filled in.

    `name` says what learns: `head`, `all`, `2` (layers), `blocks.6+conv_head`; `key` names that setting in errors.
    Checkpoints go to `folder` and TensorBoard's files to `events`.
    """

    number: int
    trainable: str | int | list[str]
    name: str
    key: str
    train: Train
    folder: Path
    events: Path

    @property
    def seed(self) -> int:
        """The seed of what is drawn for images and batches: each stage draws others."""
        return self.train.seed + self.number


def plan_stages(recipe: Recipe, run: Run) -> list[StagePlan]:
    """The stages of a recipe; where it names none, a single one of all parameters."""
    plans, several = [], bool(recipe.train.stages)
    events = run.tensorboard / re.sub(r"[^\w.-]+", "-", recipe.public()["model"]["name"])
    for number, stage in enumerate(recipe.train.stages or [Stage()]):
        train = recipe.train.model_copy(update=stage.model_dump(exclude={"trainable"}, exclude_none=True))
        key = f"train.stages.{number}.trainable"
        name = "+".join(stage.trainable) if isinstance(stage.trainable, list) else str(stage.trainable)
        folder = run.checkpoints / f"stage-{number + 1}" if several else run.checkpoints
        files = events / (f"{number + 1}-{name}" if several else name)
        plans.append(StagePlan(number, stage.trainable, name, f"{key} ({recipe.where(key)})", train, folder, files))
    return plans


class TrainerBuilder:
    """Makes the model of a run, and the trainer of each of its stages.

    Args:
        recipe: what to train, and how.
        faces: the images, or their splits `train` and `validation`.
        run: where checkpoints and the best model go.

    Raises:
        UserError: the model, the data or a stage does not go with the recipe. Nothing has been written then.
    """

    def __init__(self, recipe: Recipe, faces: Faces | DatasetDict, run: Run):
        splits, pixels = (faces.splits, faces.pixels) if isinstance(faces, Faces) else (faces, lambda _: None)
        self.recipe, self.run, self.train = recipe, run, splits["train"]
        self.labels = tuple(self.train.features["label"].names)
        settings = recipe.model.model_dump(exclude={"name", "pretrained"})
        self.loaded = load_model(recipe.model.name, self.labels, pretrained=recipe.model.pretrained, **settings)
        self.model, self.spec = self.loaded.model, ImageSpec.from_processor(self.loaded.processor)
        check_sizes(recipe, self.model, self.spec.size)
        self.stages = plan_stages(recipe, run)
        for stage in self.stages:
            set_trainable(self.model, stage.trainable, stage.key)
            training_arguments(recipe, stage.folder, stage.train)
        for key in ("gradient_checkpointing", "activation_checkpointing"):
            if recipe.train.passed_through.get(key) and not self.model.supports_gradient_checkpointing:
                where = recipe.where(f"train.{key}")
                raise UserError(f"train.{key} ({where}): {recipe.model.name} has no checkpointing, leave it out.")
        if recipe.loss.soft_labels and "soft_label" not in self.train.column_names:
            where = recipe.where("loss.soft_labels")
            raise UserError(f"loss.soft_labels ({where}): this source has no soft labels; `ferplus:` has.")
        self.datasets: dict[str, Any] = {
            "train_dataset": batches(recipe, self.train, self.spec, True, pixels("train")),
            "eval_dataset": batches(recipe, splits["validation"], self.spec, pixels=pixels("validation")),
        }
        self.teacher: Teacher | None = None

    def arguments(self, stage: StagePlan) -> TrainingArguments:
        """The arguments of a stage, for `trainer`."""
        args = training_arguments(self.recipe, stage.folder, stage.train)
        args.run_name = f"{self.recipe.name}/{self.run.path.name}"
        on_gpu = [data.pixels is not None and data.pixels.is_cuda for data in self.datasets.values()]
        args.dataloader_pin_memory &= not any(on_gpu)  # what lies there need not be sent
        if stage.number:
            args.data_seed = stage.seed
        if stage.train.torch_compile and (reason := compiler_fault(args.device)):
            raise UserError(f"train.torch_compile=true does not work here: {reason}")
        return args

    def trainer(self, stage: StagePlan, args: TrainingArguments, resumed: TrainerState | None = None) -> FerTrainer:
        """The trainer of a stage, whose batch is known to fit into memory where it might not.

        With `auto_find_batch_size` the batch becomes one that does, accumulated; on a resume, that of the checkpoint.
        Larger images of later epochs are tried now, not then.
        """
        set_trainable(self.model, stage.trainable, stage.key)
        wanted = size = args.per_device_train_batch_size
        if stage.train.auto_find_batch_size or stage.train.progressive_sizes:
            size = resumed.train_batch_size or wanted if resumed else self._size_that_fits(stage, args)
        args.per_device_train_batch_size = size
        args.gradient_accumulation_steps *= wanted // size
        gc.collect()  # what an earlier stage, or the attempt, has left on the GPU, in cycles
        return self._trainer(stage, args)

    def _size_that_fits(self, stage: StagePlan, args: TrainingArguments) -> int:
        """The batch, or the part of it, that fits into memory. Raises `UserError` when none does."""
        trainer = self._trainer(stage, args)
        with memory_explained(lambda: what_to_lower(trainer)):
            if stage.train.auto_find_batch_size:
                return batch_that_fits(trainer)
            try_step(trainer, args.per_device_train_batch_size)
        return args.per_device_train_batch_size

    def _trainer(self, stage: StagePlan, args: TrainingArguments) -> FerTrainer:
        """A trainer with the callbacks that every training has."""
        parts, patience = self._parts(stage, args.device), stage.train.early_stopping_patience
        callbacks = [ExactResume(), Clock(), *([EarlyStoppingCallback(patience)] if patience else [])]
        settings = self.datasets | {"data_collator": as_is, "compute_metrics": self._metrics, "callbacks": callbacks}
        trainer = FerTrainer(self.model, args, parts, **settings)
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        return trainer

    def _parts(self, stage: StagePlan, device: torch.device) -> TrainerParts:
        """What the sections `train`, `augment` and `loss` say, as objects."""
        train, augment, loss, seed = stage.train, self.recipe.augment, self.recipe.loss, stage.seed
        weight = class_weights(loss, self.train)
        scalars = loss.model_dump(include={"label_smoothing", "focal_gamma", "teacher_weight", "temperature"})
        balanced, mixes = train.sampling == "class_balanced", augment.mixup or augment.cutmix
        if loss.teacher and not self.teacher:
            key = f"loss.teacher ({self.recipe.where('loss.teacher')})"
            self.teacher = Teacher(loss.teacher, self.labels, self.spec, device, key)
        return TrainerParts(
            settings=train,
            best_model=self.run.model,
            processor=self.loaded.processor,
            eval_transform=EvalTransform(self.spec),
            train_transform=self._train_transform(stage) if augment.enabled else None,
            train_loss=TrainLoss(None if weight is None else weight.to(device), **scalars),
            sampler=ClassBalancedSampler(np.asarray(self.train["label"][:]), seed) if balanced else None,
            mix=Mix(len(self.labels), augment.mixup, augment.cutmix, seed) if mixes else None,
            teacher=self.teacher,
        )

    def _train_transform(self, stage: StagePlan) -> TrainTransform:
        """The augmentation of a stage, whose images grow over its epochs as `progressive_sizes` says."""
        smaller = stage.train.progressive_sizes
        share = stage.train.num_train_epochs / (len(smaller) + 1)
        sizes = [size for i, size in enumerate(smaller) for _ in range(round(i * share), round((i + 1) * share))]
        settings = self.recipe.augment.model_dump(exclude={"enabled", "mixup", "cutmix"})
        return TrainTransform(self.spec, len(self.train), stage.seed, **settings, sizes=sizes)

    def _metrics(self, result: Any) -> dict[str, float]:
        """The single figures of an evaluation, from the Trainer's `EvalPrediction`."""
        metrics = classification_metrics(result.predictions, result.label_ids, self.labels, resamples=0)
        return {name: value for name, value in metrics.items() if isinstance(value, float)}

    def describe_model(self) -> Model:
        """The section `model` of metrics.json."""
        config, model = self.model.config, self.recipe.model
        parent = parent_of(model.name) if model.pretrained and not model.weights else Model()
        return Model(
            name=self.recipe.public()["model"]["name"],
            base_model=self.loaded.base_model or parent.base_model,
            architecture=getattr(config, "architecture", config.model_type),
            pretrained=parent.pretrained if parent.parent else bool(model.pretrained or model.weights),
            parameters=self.model.num_parameters(),
            image_size=self.spec.size,
            mean=self.spec.mean,
            std=self.spec.std,
            head=self.loaded.head,
            notes=self.loaded.notes or parent.notes,
            parent=parent.parent,
            weights=Path(model.weights).name if model.weights else parent.weights,
            attention=True if isinstance(self.model, EmotionAttentionForImageClassification) else None,
        )


def parent_of(name: str) -> Model:
    """What a run, or the folder of a model, that is fine-tuned again records of itself; `parent` is its name.

    All fields are empty for any other model.
    """
    path = Path(name)
    if not path.is_dir():
        return Model()
    path = path.resolve()
    run = Run(path.parent) if Run(path.parent).model == path and Run(path.parent).exists() else Run(path)
    metrics = run.metrics
    own_name = f"{metrics.name}/{run.path.name}" if metrics.name else run.path.name
    return replace(metrics.model or Model(), parent=own_name)


def class_weights(loss: Loss, train: Dataset) -> torch.Tensor | None:
    """Weights `(C,)` of the loss in the order of the labels, or None."""
    if loss.class_weights == "none":
        return None
    counts = np.bincount(train["label"][:], minlength=len(train.features["label"].names))
    if loss.class_weights == "balanced":
        return balanced_weights(counts)
    if loss.class_weights == "effective_number":
        return effective_number_weights(counts, loss.effective_number_beta)
    return torch.tensor(loss.class_weights, dtype=torch.float32)


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


@torch.no_grad()
def check_sizes(recipe: Recipe, model: nn.Module, size: tuple[int, int]) -> None:
    """Raise `UserError` for progressive sizes that are not below the model's `size`, or that it cannot take.

    A ViT takes no other size than its own.
    """
    key = f"train.progressive_sizes ({recipe.where('train.progressive_sizes')})"
    for edge in recipe.train.progressive_sizes:
        if edge >= min(size):
            pixels = f"{size[0]} x {size[1]} pixels"
            raise UserError(f"{key}: {edge} is not below the {pixels} of the model, which come last.")
        try:
            model.eval()(pixel_values=torch.zeros(1, 3, edge, edge))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(f"{key}: {recipe.model.name} takes no images of {edge} pixels: {error}") from error
