"""The sections of metrics.json that an analysis writes, one dataclass for each; see `runs.records` for the rest.

Every figure that is a share lies in [0, 1], every interval is a 95 % bootstrap interval, and a key names an evaluation
as `Metrics.evaluations` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    """Answers are given only above a confidence, chosen on validation so that at most `target_error` of them are wrong.

    `coverage` is the share of test images that are answered and `error` the share of these answers that is wrong.
    """

    target_error: float
    threshold: float
    coverage: float
    error: float | None


@dataclass(frozen=True)
class Conformal:
    """Sets of labels that hold the right one with probability `level`, fitted on validation (arXiv 2107.07511).

    `coverage` is how often they do on test, `mean_size` how many labels a set has, `sizes` how many sets have 0, 1,
    2 ... labels, and `coverage_per_class` the coverage of each class.
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

    `methods` has "none", "temperature", "vector" and "isotonic". `folded` says that `temperature` is in the weights of
    the model's last layer, so that every file of it gives calibrated probabilities.
    """

    fitted_on: str
    measured_on: str
    temperature: float
    methods: Mapping[str, CalibrationScores]
    folded: bool = False
    abstention: Sequence[Abstention] = ()
    conformal: Conformal | None = None


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
    """Accuracy under corruption, on images that are the same for every corruption.

    `mean_corruption_error` is the mean over corruptions of the error summed over strengths, relative to that of the run
    `baseline` (arXiv 1903.12261), or the plain mean error without one.
    """

    evaluation: str
    images: int
    clean: Corruption
    corruptions: Sequence[Corruption]
    mean_corruption_error: float
    baseline: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Maps of what the network looks at, and whether they are any better than random ones.

    `road` is the ROAD score (arXiv 2202.00449) of the maps and `road_random` that of random maps: the confidence lost
    when the most important places are taken out less that lost with the least important ones. `sheet` and `means` are
    files of the run.
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
