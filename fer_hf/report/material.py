"""What the page of a run is drawn from: records, predictions, pictures of faces, and a run to hold it against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from fer_hf.errors import UserError
from fer_hf.report import facts
from fer_hf.runs.folder import Run
from fer_hf.runs.predictions import Predictions, read_predictions
from fer_hf.runs.records import Evaluation, Metrics

if TYPE_CHECKING:
    from fer_hf.evaluation.compare import Change


class OfEvaluation(Protocol):
    """A record that names the evaluation it is about."""

    @property
    def evaluation(self) -> str: ...


R = TypeVar("R", bound=OfEvaluation)


@dataclass(frozen=True)
class Pictures:
    """JPEGs of faces by the id of their image, or the reason why there are none; `left_out`: nobody may see any."""

    of: Mapping[str, bytes] = field(default_factory=dict)
    reason: str = ""
    left_out: bool = False


@dataclass(frozen=True)
class Baseline:
    """Another run, and how this one differs from it on the same images: in accuracy, and in the F1 of each class."""

    name: str
    changes: Sequence["Change"]


@dataclass(frozen=True)
class Material:
    """What the page of a run is drawn from.

    `problems` says, by section of metrics.json, which records cannot be read and why; `metrics` is without them.
    """

    run: Run
    metrics: Metrics
    problems: Mapping[str, str] = field(default_factory=dict)
    pictures: Pictures = Pictures()
    baseline: Baseline | None = None

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All of them, in the order of the card."""
        return facts.evaluations(self.metrics)

    @cached_property
    def main(self) -> Evaluation:
        """The evaluation that the page is about. Raises `UserError` when there is none of the PyTorch model."""
        return facts.headline(self.evaluations)

    @cached_property
    def labels(self) -> list[str]:
        """The classes in their order."""
        return facts.labels_of(self.main, self.metrics)

    @cached_property
    def key(self) -> str:
        """The key of the main evaluation in metrics.json."""
        return next(key for key, evaluation in self.metrics.evaluations.items() if evaluation is self.main)

    @cached_property
    def predictions(self) -> Predictions:
        """Those of the main evaluation.

        Raises:
            UserError: the file is missing or damaged, or is not what metrics.json was computed from.
        """
        name = self.main.predictions
        if not name:
            raise UserError(f"metrics.json does not say where the predictions are: {self.again}")
        if not (self.run.path / name).is_file():
            raise UserError(f"{name} is missing. This makes it again: {self.again}")
        found = read_predictions(self.run.path / name)
        if len(found.ids) != self.main.images or set(found.label_names) != set(self.main.per_class):
            raise UserError(
                f"{name} holds {len(found.ids):,} images with the labels {', '.join(found.label_names)}, but "
                f"metrics.json has figures of {self.main.images:,} images with the labels "
                f"{', '.join(self.main.per_class)}. Make both anew: {self.again}"
            )
        return found

    @property
    def again(self) -> str:
        """The command that makes the predictions of the main evaluation again."""
        own = "" if self.metrics.owns(self.main) else " --data SOURCE"
        return f"fer-hf evaluate RUN{own} --split {self.main.split}"

    def mine(self, records: Mapping[str, R]) -> list[R]:
        """The records of an analysis that are about the main evaluation."""
        return [record for record in records.values() if record.evaluation == self.key]
