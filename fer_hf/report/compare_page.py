"""The page of a comparison: runs side by side, what is more than chance, and what their recipes differ in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from fer_hf.report.blocks import Block, Missing, Section, Table, Text, picture
from fer_hf.report.figures.changes import changes_figure
from fer_hf.report.html import page
from fer_hf.report.markdown import Literal
from fer_hf.report.scaling import Trained, scaling

if TYPE_CHECKING:
    from fer_hf.evaluation.compare import Change, Comparison


@dataclass(frozen=True)
class Compared:
    """What the page of a comparison is drawn from.

    `ranking` is the table of the configurations, the best first, `about` says what it shows, `each_run` lists the runs
    of those that have several, and `figure` draws it. `pairs` tests the best against each other, and `changes` is the
    table of changes against the baseline, if there is one; both come with what they show. `recipes` has the
    settings of each configuration by key, and `trained` what those are of which images and epochs are known.
    """

    comparison: "Comparison"
    about: str
    ranking: Table
    each_run: str
    figure: Figure
    pairs: tuple[str, Table] | None
    changes: tuple[str, Table] | None
    recipes: Mapping[str, Mapping[str, Any]]
    trained: Sequence[Trained]


def comparison_page(compared: Compared) -> str:
    """The page, which needs no other file."""
    comparison = compared.comparison
    first = comparison.rows[0]
    sections = [
        Section("summary", "Summary", list(_summary(compared))),
        Section("ranking", "Side by side", list(_ranking(compared))),
        Section("changes", "Against the baseline", list(_changes(compared))),
        Section("recipes", "What differs in the recipes", [recipe_differences(compared.recipes)]),
        Section("scaling", "Training images and epochs", list(_scaling(compared))),
    ]
    title = f"Comparison of {len(comparison.rows)} configuration{'s' * (len(comparison.rows) != 1)}"
    return page(title, f"{first.dataset}, {first.split} split, {first.images:,} images", sections)


def _summary(compared: Compared) -> Iterator[Block]:
    comparison = compared.comparison
    first = comparison.rows[0]
    seeds = f" (mean of {first.seeds} seeds)" if first.seeds > 1 else ""
    named = comparison.metric.replace("_", " ").replace("f1", "F1")
    interval = f"[{100 * first.low:.1f}, {100 * first.high:.1f}]"
    yield Text(f"Best by {named}: {first.name}, {100 * first.mean:.1f} % {interval}{seeds}.", "lead")
    yield Text(comparison.verdict)


def _ranking(compared: Compared) -> Iterator[Block]:
    yield compared.ranking
    yield Text(compared.about, "quiet")
    if compared.each_run:
        yield Text(compared.each_run)
    if compared.pairs:
        about, table = compared.pairs
        yield table
        yield Text(about, "quiet")
    comparison = compared.comparison
    alt = f"{comparison.metric} by {comparison.x}: a numbered point with its interval for each row of the table"
    yield picture(compared.figure, alt)


def _changes(compared: Compared) -> Iterator[Block]:
    comparison = compared.comparison
    if not compared.changes:
        yield Missing(
            "No baseline was given. This holds all others against one:", "fer-hf compare RUN... --baseline RUN"
        )
        return
    about, table = compared.changes
    yield table
    yield Text(about, "quiet")
    by_name: dict[str, list[Change]] = {}
    for change in comparison.changes:
        by_name.setdefault(change.configuration, []).append(change)
    best = next(row.name for row in comparison.rows if row.name in by_name)
    alt = f"Changes of {best} against {comparison.baseline} with their intervals; the table has the numbers"
    yield picture(changes_figure(by_name[best], best, str(comparison.baseline)), alt)


def recipe_differences(recipes: Mapping[str, Mapping[str, Any]]) -> Block:
    """The settings that are not the same in all configurations, a column for each of these."""
    keys = dict.fromkeys(key for settings in recipes.values() for key in settings)
    differing = [key for key in keys if len({str(settings.get(key)) for settings in recipes.values()}) > 1]
    if not differing:
        return Text("The recipes have the same settings in everything that shapes the weights.")
    rows = [
        [Literal(key), *("–" if settings.get(key) is None else str(settings[key]) for settings in recipes.values())]
        for key in differing
    ]
    return Table(["Setting", *recipes], rows, "Only settings that differ; all others are the same")


def _scaling(compared: Compared) -> Iterator[Block]:
    sizes = {(run.images, run.epochs) for run in compared.trained}
    if len(sizes) < 2:
        yield Missing("The runs do not differ in training images or epochs, so there is nothing to say of data size.")
        return
    yield from scaling(compared.trained, compared.comparison.metric)
