"""Every section of metrics.json as a frozen dataclass; no other module spells a key of that file.

Reading is tolerant: keys that are not known are passed over, and a section or figure that an older file lacks is None
or empty. Writing keeps the keys and their order as they have always been. All figures that are shares lie in [0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from fer_hf.metrics import Confusion, largest_confusions
from fer_hf.runs.analyses import (
    Calibration,
    Domains,
    Ensemble,
    Explanation,
    Robustness,
    Slices,
    Transfer,
    WithoutCopies,
)

Record = TypeVar("Record")
Interval = tuple[float, float]
PLAIN = "none"
"""The value of `tta` without test-time augmentation."""
MISSING: Any = None
"""Default of figures that every evaluation has, so that a file without one of them can be read all the same."""


@dataclass(frozen=True)
class ClassScores:
    """Figures of one class; `support` is its number of images.

    `roc_auc` and `average_precision` are those of its probability against all other classes, None where it has no
    images or all, and `calibration_error` is the gap between that probability and how often it is the true class. All
    three are None in files of earlier versions.
    """

    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float | None = None
    average_precision: float | None = None
    calibration_error: float | None = None


@dataclass(frozen=True)
class ValenceGroup:
    """The images whose true class is one of `labels`, such as the negative emotions.

    `accuracy` is the share of them whose very class is predicted, `recall` the share for which one of `labels` is.
    """

    labels: Sequence[str]
    images: int
    accuracy: float
    recall: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The images of one bin of confidence: their mean confidence, their accuracy and their number."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """All figures of one file of a model (`format`: "pytorch", "onnx" or "int8") on one split of a dataset.

    `images` were drawn from so many (`images_of`), if not all of them were taken. `predictions` is the file they are
    computed from, relative to the run folder. `content` is a hash of the images and labels, `own` says whether they are
    the run's own data, and `attributes` of how many images gender, age and race are known; all three are None in files
    of earlier versions. Intervals are 95 % bootstrap intervals; `log_loss` is in nats; a row of `confusion_matrix` is a
    true class; `top_k_accuracy` has what the recipe asks for beside `top_2_accuracy`.

    The figures from `cohen_kappa` on are None in files of earlier versions, and where they cannot be computed. The
    `brier_score` is from 0 to 2; `aurc` is the area below the risk-coverage curve, lower being better;
    `macro_roc_auc` and `macro_average_precision` are means over classes, each against the rest;
    `confidence_when_right` and `confidence_when_wrong` are means over the images that are predicted right and wrong;
    `valence` has the groups of `emotions.VALENCE` that have images, and `valence_accuracy` is the share of images that
    are given a class of the right group. `intervals` has the interval of every single figure, by its name.
    """

    dataset: str
    split: str
    format: str = "pytorch"
    tta: str = PLAIN
    predictions: str = ""
    processes: int = 1
    label_names: Sequence[str] = ()
    images: int = 0
    images_of: int | None = None
    accuracy: float = MISSING
    balanced_accuracy: float = MISSING
    macro_precision: float = MISSING
    macro_recall: float = MISSING
    macro_f1: float = MISSING
    weighted_precision: float = MISSING
    weighted_recall: float = MISSING
    weighted_f1: float = MISSING
    top_2_accuracy: float = MISSING
    expected_calibration_error: float = MISSING
    log_loss: float = MISSING
    accuracy_ci: Interval | None = None
    macro_f1_ci: Interval | None = None
    per_class: Mapping[str, ClassScores] = field(default_factory=dict)
    confusion_matrix: Sequence[Sequence[int]] = ()
    reliability: Sequence[ReliabilityBin] = ()
    content: str | None = None
    own: bool | None = None
    attributes: Mapping[str, int] | None = None
    top_k_accuracy: Mapping[int, float] | None = None
    without_copies: WithoutCopies | None = None
    cohen_kappa: float | None = None
    matthews_correlation: float | None = None
    brier_score: float | None = None
    classwise_calibration_error: float | None = None
    adaptive_calibration_error: float | None = None
    aurc: float | None = None
    macro_roc_auc: float | None = None
    macro_average_precision: float | None = None
    confidence_when_right: float | None = None
    confidence_when_wrong: float | None = None
    valence_accuracy: float | None = None
    valence: Mapping[str, ValenceGroup] | None = None
    intervals: Mapping[str, Interval] | None = None

    @property
    def of_all(self) -> str:
        """Out of how many the images were drawn, as words to follow their number; empty when all were taken."""
        return f" of {self.images_of:,}" if self.images_of else ""

    @property
    def top_k(self) -> dict[int, float]:
        """Every top-k accuracy there is, by k."""
        return dict(sorted({2: self.top_2_accuracy, **(self.top_k_accuracy or {})}.items()))

    def confusions(self, most: int = 5) -> list[Confusion]:
        """The largest systematic errors, see `metrics.largest_confusions`."""
        return largest_confusions(self.confusion_matrix, self.label_names or list(self.per_class), most)

    @property
    def plain(self) -> bool:
        """Whether this is the PyTorch model without test-time augmentation: what all other figures are held against."""
        return self.format == "pytorch" and self.tta == PLAIN

    @property
    def files(self) -> str:
        """What marks the file and the augmentation in names: `""` for the plain one, `"-int8"`, `"-flip"`."""
        return ("" if self.format == "pytorch" else f"-{self.format}") + ("" if self.tta == PLAIN else f"-{self.tta}")


@dataclass(frozen=True)
class Split:
    """The images of a split, and of each class in it."""

    images: int
    per_class: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """What the model was trained on; `dropped` counts images of emotions outside the label set."""

    source: str | None = None
    dataset: str | None = None
    hub_id: str | None = None
    license: str | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Model:
    """The network: where it comes from, its size, and how it wants its images (height and width, mean, std).

    Of a model that was fine-tuned again, `base_model`, `pretrained` and `weights` (a file) are those that the first of
    its ancestors began with, and `parent` names the run or folder that it began with itself. `attention` says whether
    it brings code of its own.
    """

    name: str | None = None
    base_model: str | None = None
    architecture: str | None = None
    pretrained: bool = True
    parameters: int | None = None
    image_size: Sequence[int] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    head: str | None = None
    notes: Sequence[str] = ()
    parent: str | None = None
    weights: str | None = None
    attention: bool | None = None


@dataclass(frozen=True)
class Epoch:
    """One evaluation during training. The training loss is the mean over the steps since the evaluation before.

    The training accuracy is a running one: of the augmented images since then as the network saw them, while its
    weights changed. There is none where their targets are no single class: with mixup, CutMix or soft labels.
    """

    epoch: float
    step: int = 0
    train_loss: float | None = None
    validation_loss: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None
    learning_rate: float | None = None
    train_accuracy: float | None = None


@dataclass(frozen=True)
class Best:
    """The evaluation whose weights were kept, and the metric that chose it."""

    metric: str
    value: float
    epoch: float
    step: int = 0


@dataclass(frozen=True)
class Stage:
    """A part of training with parameters, schedule and epochs of its own; `parameters` counts those that learn."""

    trainable: str | int | Sequence[str]
    parameters: int
    epochs: float
    steps: int
    learning_rate: float


@dataclass(frozen=True)
class Training:
    """How the weights were made.

    `seconds` is over all resumes; `profile` holds seconds by part of a step; `date` is the day on which it ended, as
    2026-01-31.
    """

    epochs: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    images_per_second: float | None = None
    effective_batch_size: int | None = None
    processes: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    seed: int | None = None
    peak_memory_mb: float | None = None
    stopped_early: bool = False
    resumed_at_steps: Sequence[int] = ()
    stages: Sequence[Stage] = ()
    events: str | None = None
    best: Best | None = None
    history: Sequence[Epoch] = ()
    profile: Mapping[str, float] | None = None
    date: str | None = None


@dataclass(frozen=True)
class ExportedFile:
    """An ONNX file below the model's folder. Calibration is of INT8 files, the difference of logits of float32 ones."""

    file: str
    megabytes: float
    max_logit_difference: float | None = None
    calibration: str | None = None
    calibration_images: int | None = None


@dataclass(frozen=True)
class Hub:
    """How the run is to be published."""

    repo_id: str | None = None
    private: bool = False
    license: str = "other"
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Metrics:
    """The whole of metrics.json.

    `recipe` is the recipe without paths of this machine, and `environment` what `machine.environment` returns. The keys
    of `evaluations` are those of `Run.evaluation_key`, the keys of `export` are formats. The sections after it are
    those of `runs.analyses`; their keys begin with that of the evaluation they are about.
    """

    schema_version: int = 1
    name: str | None = None
    label_names: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Data | None = None
    hub: Hub | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    model: Model | None = None
    training: Training | None = None
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    export: Mapping[str, ExportedFile] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    slices: Mapping[str, Slices] = field(default_factory=dict)
    robustness: Mapping[str, Robustness] = field(default_factory=dict)
    explanations: Mapping[str, Explanation] = field(default_factory=dict)
    domains: Mapping[str, Domains] = field(default_factory=dict)
    transfers: Mapping[str, Transfer] = field(default_factory=dict)
    ensembles: Mapping[str, Ensemble] = field(default_factory=dict)
    finished: bool = False

    def owns(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation is on the data that the model was trained on, or on another split of them."""
        if evaluation.own is not None:
            return evaluation.own
        return self.data is not None and evaluation.dataset == self.data.dataset  # all that an older file tells

    def own_evaluations(self, split: str) -> list[Evaluation]:
        """The evaluations on a split of the run's own data, in all formats."""
        return [e for e in self.evaluations.values() if e.split == split and self.owns(e)]


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_record(kind: type[Record], content: Any) -> Record:
    """A record from plain objects, as JSON has them.

    Args:
        kind: the dataclass.
        content: a mapping; keys that the dataclass does not have are passed over.

    Returns:
        The record, with the records inside of it.

    Raises:
        pydantic.ValidationError: a value has a wrong type, or one without a default is missing.

    Example:
        >>> read_record(ReliabilityBin, {"confidence": 1, "accuracy": 0.5, "count": 3, "new": 0})
        ReliabilityBin(confidence=1.0, accuracy=0.5, count=3)
    """
    return _adapter(kind).validate_python(content)  # type: ignore[arg-type]


OPTIONAL = {
    Evaluation: tuple(Evaluation.__dataclass_fields__),
    ClassScores: ("roc_auc", "average_precision", "calibration_error"),
    Model: ("parent", "weights", "attention"),
    Epoch: ("train_accuracy",),
    Training: ("profile", "date"),
    ExportedFile: ("max_logit_difference", "calibration", "calibration_images"),
}
"""Fields that are not written where they are None, or "none" for `tta`."""


def plain(record: Any) -> Any:
    """A record, a mapping of records, or a plain value as plain objects for JSON.

    Example:
        >>> plain({"test": Split(images=3)})
        {'test': {'images': 3, 'per_class': {}}}
    """
    if isinstance(record, Mapping):
        return {str(name): plain(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [plain(value) for value in record]
    if not is_dataclass(record) or isinstance(record, type):
        return record
    left_out = OPTIONAL.get(type(record), ())
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {k: plain(v) for k, v in values.items() if k not in left_out or v not in (None, PLAIN)}
