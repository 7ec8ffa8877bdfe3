"""The section of a study on data size: what images and epochs gave, and what more images would buy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fer_hf.metrics.scaling import FARTHEST, FEWEST, PowerLaw, fit_power_law
from fer_hf.report.blocks import Block, Missing, Table, Text, picture
from fer_hf.report.figures.scaling import scaling_figure
from fer_hf.report.markdown import percent


@dataclass(frozen=True)
class Trained:
    """A configuration of a study: `mean`, `low` and `high` are of the metric, in [0, 1].

    `settings` tells configurations apart that differ in more than the number of training images.
    """

    name: str
    images: int
    epochs: float
    minutes: float
    mean: float
    low: float
    high: float
    settings: object = None


def scaling(trained: Sequence[Trained], metric: str) -> Iterator[Block]:
    """The table of a study whose runs differ in training images or epochs, and a curve where one can be fitted.

    Args:
        trained: the configurations.
        metric: what `mean` is a mean of.
    """
    ordered = sorted(trained, key=lambda run: (run.images, run.epochs, run.mean))
    yield scaling_table(ordered, metric)
    groups: dict[object, list[Trained]] = {}
    for run in ordered:
        groups.setdefault(run.settings, []).append(run)
    fitted = max(groups.values(), key=lambda runs: len({run.images for run in runs}))
    sizes = len({run.images for run in fitted})
    if sizes < FEWEST:
        yield Missing(
            f"No curve is fitted: it takes at least {FEWEST} runs that differ in the number of training images and in "
            f"nothing else, and there {'is' if sizes == 1 else 'are'} {sizes}. Vary data.fraction in a study."
        )
        return
    try:
        law = fit_power_law(
            [run.images for run in fitted],
            [1 - run.mean for run in fitted],
            [(run.high - run.low) / 3.92 for run in fitted],  # a 95 % interval is this many deviations wide
        )
    except ValueError as error:
        yield Missing(f"No curve is fitted: {error}.")
        return
    alt = f"{metric} by training images, with a fitted curve; the table below has what it says"
    yield picture(scaling_figure(fitted, metric, law), alt, f"Fitted to: {', '.join(run.name for run in fitted)}.")
    yield from _beyond(law, fitted[-1], metric)


def scaling_table(ordered: Sequence[Trained], metric: str) -> Table:
    """Images, epochs, the metric, the gain over the row before, minutes, and points of the metric per minute."""
    rows = []
    for place, run in enumerate(ordered):
        gain = "–" if not place else f"{100 * (run.mean - ordered[place - 1].mean):+.1f}"
        per_minute = f"{100 * run.mean / run.minutes:.2f}" if run.minutes else "–"
        cells = [f"{run.images:,}", f"{run.epochs:g}", percent(run.mean, (run.low, run.high)), gain]
        rows.append([run.name, *cells, f"{run.minutes:.1f}", per_minute])
    named = metric.replace("_", " ").replace("f1", "F1")
    header = ["Configuration", "Training images", "Epochs", named, "Gain over the row before, points", "Minutes"]
    return Table([*header, "Points per minute"], rows, "By training images, then epochs")


def _beyond(law: PowerLaw, largest: Trained, metric: str) -> Iterator[Block]:
    low, high = law.exponent_interval
    points = "points" if law.points != 1 else "point"
    line = f"A straight line through {law.points} {points} on logarithmic axes"
    if low <= 0:
        yield Text(
            f"{line} falls by images to the power of −{law.exponent:.2f} [{low:.2f}, {high:.2f}]. These runs do not "
            "show that more images help, since the interval holds 0, and nothing is said of what more would buy."
        )
        return
    rows = []
    for times in (2.0, FARTHEST):
        images = times * law.largest
        error, least, most = law.error(images)
        gain = f"{100 * (1 - error - largest.mean):+.1f}"
        rows.append([f"{times:g} times as many", f"{images:,.0f}", percent(1 - error, (1 - most, 1 - least)), gain])
    header = [
        "More images",
        "Training images",
        f"{metric.replace('_', ' ')} expected",
        "Gain over the largest run, points",
    ]
    yield Table(header, rows, "What more images would buy, if the curve goes on as it has")
    yield Text(
        f"{line} says that error falls by images to the power of −{law.exponent:.2f} [{low:.2f}, {high:.2f}]. Brackets "
        f"hold the 95 % prediction interval of one run. Nothing is said beyond {FARTHEST:g} times the largest run: "
        "learning curves flatten where labels are noisy, which runs of this size cannot show."
    )
