"""The sections of metrics.json that an analysis writes, one dataclass for each; see `runs.records` for the rest.

Every figure that is a share lies in [0, 1], every interval is a 95 % bootstrap interval, and a key names an evaluation
as `Metrics.evaluations` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SMALL = 30
"""Images below which a group is small, and below which a rate is not compared: of 29 images, the 95 % interval of an
accuracy of 50 % reaches 18 points to either side, more than the gaps between groups that are worth finding."""
FEW_UNITS = 5
"""People below which a group is small, however many images there are of them: two do not tell how others would do."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class WithoutCopies:
    """An evaluation again, without the images that have a copy, exact or near, among the training images.

    `copies` images were left out and `images` remain. `difference` is the official accuracy less this one, and
    `accuracy_of_copies` that of the images left out, None where there are none. `audit` names the audited data.
    """

    audit: str
    images: int
    copies: int
    accuracy: Estimate
    macro_f1: Estimate
    difference: Estimate
    accuracy_of_copies: float | None = None


@dataclass(frozen=True)
class Transfer:
    """An evaluation on other data, held against that on the run's own test set; labels are aligned by name.

    `left_out` counts the images of emotions that the model does not know. The emotions that the data lack are `absent`:
    `answered_absent` images got one of them for an answer, which is wrong, and `accuracy_of_shared` is the accuracy if
    only the others compete, None where that is one alone. `own` is the key of the evaluation on the run's own test set;
    where there is none it is None, and so are the gaps. `gap` is the accuracy there less that here; `balanced_gap`, the
    same of the mean recall of the emotions that both have, does not depend on how frequent each is; `recall_gap` has it
    for each emotion.
    """

    own: str | None
    left_out: Mapping[str, int]
    absent: Sequence[str]
    answered_absent: int
    accuracy_of_shared: float | None
    gap: Estimate | None = None
    balanced_gap: Estimate | None = None
    recall_gap: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """A model of an ensemble, on the images of the ensemble. `latency_ms` is of one image on the CPU, the median."""

    name: str
    accuracy: float
    macro_f1: float
    parameters: int | None
    megabytes: float
    latency_ms: float


@dataclass(frozen=True)
class Ensemble:
    """The mean of the probabilities of several models beside each of them; its own figures are the evaluation's.

    `best` is the member with the highest accuracy, and `difference` the ensemble's accuracy less that one's, with `p`
    of a paired bootstrap and `mcnemar_p` of McNemar's exact test. What it costs is the sum over the members, which run
    one after another, on the CPU `cpu` with so many `threads` (None: all).
    """

    members: Sequence[Member]
    best: str
    difference: Estimate
    p: float
    mcnemar_p: float
    parameters: int | None
    megabytes: float
    latency_ms: float
    threads: int | None = None
    cpu: str | None = None


@dataclass(frozen=True)
class CalibrationScores:
    """How good the probabilities of a split are; `log_loss` is in nats."""

    accuracy: float
    log_loss: float
    brier_score: float
    expected_calibration_error: float
    classwise_calibration_error: float
    adaptive_calibration_error: float


@dataclass(frozen=True)
class Abstention:
    """Answers are given only from a confidence on, chosen on validation for at most `target_error` of wrong answers.

    `threshold` is a probability after temperature scaling; below it no answer is given. It is None where no threshold
    would do, and then `coverage` is 0 and `error` None. `coverage` is the share of test images that are answered and
    `error` the share of these answers that is wrong, with `error_ci`, its 95 % interval (Wilson's).
    """

    target_error: float
    threshold: float | None
    coverage: float
    error: float | None
    error_ci: tuple[float, float] | None = None


@dataclass(frozen=True)
class Conformal:
    """Sets of labels that hold the right one with probability `level`, fitted on validation (arXiv 2107.07511).

    A set has the labels whose probability after temperature scaling is `threshold` or more. `coverage` is how often
    sets hold the right label on test (its interval is Wilson's), `mean_size` how many labels a set has, `sizes` how
    many sets have 0, 1, 2 ... labels, and `coverage_per_class` the coverage of each class that has images.
    """

    level: float
    threshold: float
    coverage: Estimate
    mean_size: float
    sizes: Sequence[int] = ()
    coverage_per_class: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Scalings of the logits, fitted on the evaluation `fitted_on` alone and measured on `measured_on`.

    `methods` has the figures on `measured_on` of "none" (the network as it was trained), "temperature", "vector" and
    "isotonic"; the last two only where validation has images enough of every class. `validation_log_loss` is their log
    loss on validation, cross-fitted: each image by a scaling that was fitted without it. It says which of them is
    `best`. `abstention` and `conformal` are of probabilities after temperature scaling.

    `folded` says that `temperature` is in the weights of the model's last layer, so that every file of it gives
    calibrated probabilities, and that the logits of predictions files have been divided by it.
    """

    fitted_on: str
    measured_on: str
    temperature: float
    methods: Mapping[str, CalibrationScores]
    folded: bool = False
    abstention: Sequence[Abstention] = ()
    conformal: Conformal | None = None
    validation_log_loss: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The method of the smallest log loss on validation."""
        return min(self.validation_log_loss, key=self.validation_log_loss.__getitem__, default="temperature")

    def before(self, logits: Any) -> Any:
        """The logits of the network as it was trained, from those of a predictions file."""
        return logits * self.temperature if self.folded else logits

    def after(self, logits: Any) -> Any:
        """Logits divided by the temperature, from those of a predictions file."""
        return logits if self.folded else logits / self.temperature


@dataclass(frozen=True)
class Group:
    """The images that share the `values` of some attributes; `small` marks groups of which little can be said.

    `expected` is the accuracy that the classes of its images alone would give: the mean over them of the recall that
    each class has among all images. `units` counts the people, or pictures of several faces, that the images are from,
    where they are known.
    """

    values: Sequence[str]
    images: int
    accuracy: Estimate
    macro_f1: Estimate
    small: bool = False
    expected: float | None = None
    units: int | None = None


@dataclass(frozen=True)
class Slices:
    """An evaluation by the values of one attribute or several.

    `gap` is the accuracy of the best group less that of the worst, small groups left out; both were chosen after
    looking, so what counts is `p`, the chance of a gap as large where groups do not matter. It is from permutations of
    what `permuted` says, whole people where they are known ("person", "picture", "photograph" or "image"), and
    corrected by Holm for `tested`, the number of gaps that were tested together. None of these are there with fewer
    than two groups that are not small.

    `equalised_odds_difference` is the largest difference between two groups, small ones left out, of a class's true or
    false positive rate, and `equalised_odds_at` says which, as "recall of sad" or "false positives of sad". `unknown`
    images have no value, and `others` have one that is not among the twenty commonest: `groups` does not hold them.
    """

    evaluation: str
    attributes: Sequence[str]
    groups: Sequence[Group]
    gap: Estimate | None = None
    best: Sequence[str] = ()
    worst: Sequence[str] = ()
    p: float | None = None
    equalised_odds_difference: float | None = None
    unknown: int = 0
    equalised_odds_at: str | None = None
    others: int = 0
    permuted: str | None = None
    tested: int = 1


@dataclass(frozen=True)
class Corruption:
    """A corruption at a strength from 1 to 5; 0 is the images as they are."""

    name: str
    strength: int
    accuracy: float
    macro_f1: float
    expected_calibration_error: float


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruption, on images that are the same for every corruption and every model.

    `images` were taken, at most `per_class` of each class where that is not None. `mean_corruption_error` is the mean
    over corruptions of the error summed over strengths, relative to that of the run `baseline` (arXiv 1903.12261), or
    the plain mean error without one. `predictions` holds the logits of every corrupted image, `figure` draws
    `corruptions`, `examples` shows one image under each of them; all three are files of the run.
    """

    evaluation: str
    images: int
    clean: Corruption
    corruptions: Sequence[Corruption]
    mean_corruption_error: float
    baseline: str | None = None
    per_class: int | None = None
    predictions: str | None = None
    figure: str | None = None
    examples: str | None = None

    def at(self, strength: int) -> list[Corruption]:
        """Every corruption at a strength."""
        return [each for each in self.corruptions if each.strength == strength]

    def by_name(self) -> dict[str, list[Corruption]]:
        """The strengths of each corruption, weakest first, without the clean images."""
        names = dict.fromkeys(each.name for each in self.corruptions)
        return {
            name: sorted((c for c in self.corruptions if c.name == name), key=lambda c: c.strength) for name in names
        }


@dataclass(frozen=True)
class Explanation:
    """Maps of what the network looks at, and whether they are any better than random ones.

    `images` were explained, so many of them (`right`) classified rightly, and `scored` of them were scored. `road` is
    the ROAD score (arXiv 2202.00449) of the maps and `road_random` that of random maps on the same images: half of
    what confidence loses when the most important places are taken out less what it loses with the least important
    ones. `difference` is that of the two, image by image; maps are `better_than_random` where its interval lies above
    0 and it is at least 0.01, and otherwise they must not be shown as an explanation. `sheet`, `means` and `scores`
    (csv) are files of the run, None where they were written elsewhere.
    """

    evaluation: str
    method: str
    layer: str
    images: int
    road: Estimate
    road_random: Estimate
    better_than_random: bool
    sheet: str | None = None
    means: str | None = None
    right: int | None = None
    scored: int | None = None
    difference: Estimate | None = None
    scores: str | None = None


@dataclass(frozen=True)
class Domains:
    """How far two sets of images are apart in the features before the classifier.

    `frechet` is the Frechet distance of two Gaussians, `mmd` the squared maximum mean discrepancy, and
    `probe_accuracy` how often a linear classifier tells which of the two an image is from (chance: `probe_chance`).
    """

    first: str
    second: str
    images: Sequence[int]
    frechet: float
    mmd: float
    probe_accuracy: float | None = None
    probe_chance: float | None = None
