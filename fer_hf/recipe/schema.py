"""The recipe: one YAML file is one experiment.

Design: typed pydantic classes whose fields are the documentation; unknown keys are errors that name the nearest known
key; `train` takes the fields of `transformers.TrainingArguments` that have a use here by their own names;
a recipe dumps with every default filled in, and that dump loads to the same recipe.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[float, Field(gt=0)]
Range = tuple[Positive, Positive]

FIND = "find"
"""The value of `evaluate.copies` that looks for copies in the data themselves."""

# Keys of `train` that change neither the weights nor the figures.
NOT_OF_WEIGHTS = ("save_steps", "save_total_limit", "logging_steps", "report_to", "per_device_eval_batch_size")


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values are checked."""

    model_config = ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)


class Model(Section):
    name: str = "timm/efficientnet_b0.ra_in1k"
    """Hub id, timm name (with or without `timm/`), or a local folder."""
    pretrained: bool = True
    """False starts from random weights (timm's own initialisation for timm models)."""
    image_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Input height and width in pixels; by default what the model was trained with."""
    drop_rate: Fraction = 0.0
    """Dropout before the classifier (timm models)."""
    drop_path_rate: Fraction = 0.0
    """Stochastic depth (timm models)."""
    attention: bool = False
    """Squeeze-excite and CBAM between the features of a timm model and its classifier."""
    weights: str | None = None
    """A state dict (`.pt`, `.pth`, `.safetensors`) of the same architecture, such as VGGFace2's or HSEmotion's. Names
    are timm's, or else all tensors are in timm's order, as in files of torchvision and EfficientNet-PyTorch."""
    args: dict[str, bool | int | float | str | list[int] | None] = {}
    """Further arguments of timm's constructor, such as `{pad_type: same}` for weights that were trained with
    TensorFlow's padding."""
    mean: tuple[Fraction, Fraction, Fraction] | None = None
    """Mean of each channel, of images in [0, 1], where weights want another than the architecture's usual one."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Standard deviation of each channel, likewise."""


class Weighted(Section):
    """A source among several."""

    source: str
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many times its training images count: 2 repeats them, 0.5 takes half of each class."""


class Data(Section):
    source: str | Annotated[list[str | Weighted], Field(min_length=1)] = "toy"
    """`toy`, `KIND:PATH` (fer2013, ferplus, rafdb, affectnet, ckplus, folder) or `hub:org/name`; or a list of these,
    each perhaps as `{source: ..., weight: ...}`."""
    label_set: Literal["fer6", "fer7", "fer8"] | Annotated[list[str], Field(min_length=2)] = "fer7"
    """Which emotions, by set or by name; images of other emotions are dropped and counted."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images set aside when the source has no validation split, the same of each class: by person
    or picture where the source knows them (`subject`, `picture`), so that none stands on both sides."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share set aside likewise when the source has no test split; 0 makes none, and there are no test figures then."""
    split_seed: int = 0
    """Seed of the splits and subsets that are drawn here."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What an unreadable image does: stop with its name, or be skipped, counted and listed."""
    exclude: str | None = None
    """A csv with the columns `split` and `id` of images to leave out, as `fer-hf data audit` writes it."""
    absent_classes: Literal["allow", "error"] = "allow"
    """Whether a source may lack a class of the label set."""
    mixture: Annotated[dict[str, dict[str, Fraction]], Field(min_length=1, max_length=1)] | None = None
    """Shares of an attribute in each class of the training split, such as `{gender: {female: 0.75, male: 0.25}}`.
    Mixtures of the same values have equal size and class shares; name a value with share 0 to leave it out."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Train on this share of each class."""
    per_class: Annotated[int, Field(ge=1)] | None = None
    """Train on at most so many images of each class."""
    validation_per_class: Annotated[int, Field(ge=1)] | None = None
    """Validate on at most so many images of each class."""
    test_per_class: Annotated[int, Field(ge=1)] | None = None
    """Test on at most so many images of each class."""
    votes: Literal["majority", "argmax", "soft"] = "majority"
    """FER+: keep images with a majority of votes for one emotion, those where an emotion has the most votes of all ten
    columns, or those that pass the filter for soft labels."""
    stream_images: Annotated[int, Field(ge=1)] | None = None
    """Hub: take only so many images of each split, streamed, instead of downloading all."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> "Data":
        for attribute, shares in (self.mixture or {}).items():
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"mixture: the shares of {attribute} add up to {sum(shares.values()):g}, not to 1")
        return self


def _without_path(source: Any) -> Any:
    """A source, or several, without paths of this machine: `fer2013:/home/me/x` becomes `fer2013:PATH`."""
    if isinstance(source, list):
        return [_without_path(entry) for entry in source]
    if isinstance(source, dict):
        return source | {"source": _without_path(source["source"])}
    kind, separator, _ = source.partition(":")
    return f"{kind}:PATH" if separator and kind != "hub" else source


class Augment(Section):
    """Training only. Drawn per image from (seed, epoch, index), so it does not depend on workers or on a resume."""

    enabled: bool = True
    crop_scale: Range = (0.8, 1.0)
    """Random resized crop: area as a share of the image; above 1 zooms out."""
    crop_ratio: Range = (0.9, 1.11)
    """Aspect ratio of that crop."""
    horizontal_flip: Fraction = 0.5
    """Probability."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Degrees, to either side."""
    shift: Fraction = 0.0
    """Share of width and of height, to either side; what comes in at the border is its reflection."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    """Degrees by which upright lines lean, to either side."""
    brightness: Fraction = 0.2
    """Colour jitter: factors are drawn from [1 - x, 1 + x]."""
    contrast: Fraction = 0.2
    saturation: Fraction = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the colour circle, to either side: 0.5 is any hue."""
    erasing: Fraction = 0.0
    """Probability of random erasing (2 to 20 % of the area, filled with the mean colour)."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Alpha of mixup (arXiv 1710.09412), 0.2 in its paper: each batch and its labels are blended with themselves."""
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Alpha of CutMix (arXiv 1905.04899), 1.0 in its paper; with both, each batch gets one of them by a fair coin."""

    @model_validator(mode="after")
    def _ordered(self) -> "Augment":
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is (low, high), and {low} is above {high}")
        return self


class Stage(Section):
    """A part of training with its own epochs, rate and schedule; what it leaves out is as in `train`."""

    trainable: Literal["head", "all"] | Annotated[int, Field(ge=1)] | Annotated[list[str], Field(min_length=1)] = "all"
    """What learns: the head; everything; the head and so many of the last layers; or the head and the parts with these
    names, such as `[blocks.6, conv_head]`. Batch norm of frozen parts keeps its statistics."""
    num_train_epochs: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    lr_scheduler_type: str | None = None
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None


class Train(Section):
    """Ours, and by their own names the fields of `transformers.TrainingArguments` in `recipe.checks.PASSED_ON`."""

    model_config = ConfigDict(extra="allow", validate_default=True, use_attribute_docstrings=True)

    num_train_epochs: Annotated[float, Field(gt=0)] = 10
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 32
    per_device_eval_batch_size: Annotated[int, Field(ge=1)] = 128
    auto_find_batch_size: bool = False
    """Where a batch does not fit into memory, take the largest part of it that does, and accumulate: the optimiser sees
    as many images as before."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """The classifier's own rate (of new attention, too); by default the same."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer learns at this multiple of the next layer's rate (0.65 to 0.8 for pretrained transformers)."""
    lr_scheduler_type: str = "cosine"
    """Any of the Trainer's, `reduce_lr_on_plateau` (of the metric that chooses the model), or `one_cycle`."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of all steps over which the rate rises from 0."""
    stages: list[Stage] = []
    """Train in stages, such as the head first, then everything; each goes on from the last weights of the one before.
    Their epochs take the place of `num_train_epochs`."""
    progressive_sizes: list[Annotated[int, Field(ge=8)]] = []
    """Edges of training images before the model's own, each for an equal share of the epochs, such as [32, 48]: small
    images are quick to learn the beginnings from. Evaluation is always at the model's own size, so its figures stay low
    until training comes to that."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of weights, never of biases and norms."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum, for `optim: sgd` (any other `optim` of the Trainer's works too; AdamW by default)."""
    sam_rho: Annotated[float, Field(ge=0)] = 0.0
    """Radius of sharpness-aware minimisation (arXiv 2010.01412), 0.05 in its paper; doubles the time of a step."""
    sam_adaptive: bool = False
    """Adaptive SAM (arXiv 2102.11600): the radius is relative to each weight, and wants to be about 10 times larger."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep an exponential moving average of the weights, such as 0.999 a step; it is what is evaluated and saved."""
    sampling: Literal["shuffled", "class_balanced"] = "shuffled"
    """`class_balanced` draws every class equally often, images of rare classes several times an epoch."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradient clipping; 0 switches it off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 or else fp16 on a GPU that has it, fp32 elsewhere. What is fp32 is multiplied in TF32 where a GPU
    has that; not with `tf32: false`, a field of TrainingArguments."""
    channels_last: bool = True
    """Memory format of the convolutions; up to 1.6 times faster, same results."""
    torch_compile: bool = False
    """Compile the network with `torch.compile`: minutes at the beginning, which long trainings on a GPU repay."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    save_steps: Annotated[int, Field(ge=1)] = 100
    """Optimiser steps between checkpoints; there is one after each evaluation as well."""
    save_total_limit: Annotated[int, Field(ge=1)] | None = 3
    """How many checkpoints are kept; null keeps all."""
    metric_for_best_model: Literal["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "loss"] = "macro_f1"
    """Validation metric that chooses the model that is kept."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Evaluations without gain before the run stops."""
    logging_steps: Annotated[int, Field(ge=1)] = 50
    report_to: list[str] = ["tensorboard"]

    @property
    def passed_through(self) -> dict[str, Any]:
        """The fields that only `TrainingArguments` knows."""
        return dict(self.model_extra or {})


class Loss(Section):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced", "effective_number"] | list[Annotated[float, Field(gt=0)]] = "none"
    """`balanced`: n / (classes * n_class), as in scikit-learn; `effective_number`: arXiv 1901.05555; or one weight per
    label, in the label set's order."""
    effective_number_beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """From 0, no weights, towards 1, inverse frequency."""
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Focal loss (arXiv 1708.02002), 2 in its paper: images that are classified well count less."""
    soft_labels: bool = False
    """Learn the annotators' distribution where the source has one (`ferplus:`)."""
    teacher: str | None = None
    """Learn from this run or model too (distillation, arXiv 1503.02531)."""
    teacher_weight: Fraction = 0.5
    """Share of the teacher in the loss."""
    temperature: Annotated[float, Field(gt=0)] = 4.0
    """Softens the probabilities of teacher and student."""


class Evaluate(Section):
    splits: Annotated[list[Literal["train", "validation", "test"]], Field(min_length=1)] = ["validation", "test"]
    """Evaluated with the best model after training."""
    tta: Literal["none", "flip", "ten_crop"] = "none"
    """Evaluate once more with test-time augmentation: mean probabilities of an image and its mirror image, or of ten
    crops. The figures without it stay the main ones."""
    top_k: list[Annotated[int, Field(ge=1)]] = []
    """Report also for how many images the true class is among the k most probable, for these k beside 2, such as
    [1, 3]. `fer-hf evaluate RUN` reads it from the run's recipe.yaml, so it may be changed there after training."""
    copies: str | None = None
    """Report beside the figures those without the images that have a copy, exact or near, in the training split: `find`
    looks for copies in the data and keeps them as `copies.csv` of the run; or the folder or csv of `fer-hf data audit`.
    FER2013's 35,887 images take about half a minute."""


class Export(Section):
    onnx: bool = False
    """Write `onnx/model.onnx` after training (needs the extra `onnx`)."""
    int8: bool = False
    """Write `onnx/model_int8.onnx` too: static quantisation, calibrated on training images."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    calibration_images: Annotated[int, Field(ge=1)] = 256


class Report(Section):
    title: str | None = None
    """Title of the model card; by default the name of the recipe."""
    author: str | None = None
    """Who made the model, for the card and its citation; by default whom `hub.repo_id` belongs to."""
    description: str | None = None
    """A paragraph for the top of the card."""


class Hub(Section):
    repo_id: str | None = None
    """`someone/name`; `fer-hf push` uses it when it is called without `--repo-id`."""
    private: bool = False
    license: str = "other"
    """Licence of the published weights, as a Hub licence id; it depends on the data, so the default claims nothing."""
    tags: list[str] = []


class Recipe(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^(\w[\w .-]*)?$")] = ""
    """Name of the run folder; by default the name of the file."""
    model: Model = Model()
    data: Data = Data()
    augment: Augment = Augment()
    train: Train = Train()
    loss: Loss = Loss()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    report: Report = Report()
    hub: Hub = Hub()

    _origin: dict[str, str] = PrivateAttr(default_factory=dict)

    def where(self, key: str) -> str:
        """Where a key such as `train.stages.0.trainable` was set: `mine.yaml, line 12`, or `the default`."""
        while key and key not in self._origin:
            key = key.rpartition(".")[0]
        return self._origin.get(key, "the default")

    def public(self) -> dict[str, Any]:
        """The recipe as plain objects without paths of this machine: `fer2013:/home/me/x` becomes `fer2013:PATH`."""
        content = self.model_dump(mode="json")
        content["data"]["source"] = _without_path(content["data"]["source"])
        if self.data.exclude:
            content["data"]["exclude"] = Path(self.data.exclude).name
        if self.evaluate.copies not in (None, FIND):
            content["evaluate"]["copies"] = Path(self.evaluate.copies).name
        for section, key in (("model", "name"), ("model", "weights"), ("loss", "teacher")):
            if (value := content[section][key]) and Path(value).exists():
                content[section][key] = Path(value).resolve().name
        for key, value in self.train.passed_through.items():
            if isinstance(value, str) and Path(value).is_absolute():
                content["train"][key] = "PATH"
        return content

    def differences(self, other: "Recipe") -> list[str]:
        """The keys whose values differ in another recipe, in words.

        All but the name and the batch of evaluations, which may have been too large for the memory.
        """
        mine, theirs = self.flat(), other.flat()
        keys = sorted((mine.keys() | theirs.keys()) - {"train.per_device_eval_batch_size"})
        return [f"{k} was {mine.get(k)!r}, now {theirs.get(k)!r}" for k in keys if mine.get(k) != theirs.get(k)]

    def flat(self) -> dict[str, Any]:
        """Every setting but the name, as plain objects by keys such as `train.seed`."""
        sections = self.model_dump(mode="json", exclude={"name"})
        return {f"{section}.{key}": value for section, settings in sections.items() for key, value in settings.items()}

    def to_yaml(self) -> str:
        """The recipe with every default filled in; loading it gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
