"""What `fer-hf evaluate` prints: one evaluation, several beside one another, or an ensemble."""

from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table

from fer_hf.cli.tables import print_classes, print_places, print_plain_table, print_results
from fer_hf.console import output

GAP = "Gap: the accuracy on the run's own test set less that here, in points, with its 95 % interval."
BALANCED = "Balanced: of the mean recall of the emotions that both have, which does not depend on how frequent each is."

FAR = "Frechet and MMD: distances to the own test set in the features before the classifier. Frechet's grows where "
FAR += "images are few, so it compares sets of one size; MMD is about 0 for images of one kind, however many they are."


def print_evaluations(results: Any, rule: str) -> None:
    """Print one evaluation whole, several as a table."""
    rows = results.rows
    if len(rows) == 1:
        [row] = rows
        print_classes(row.evaluation)
        print_results(row.run, [row.evaluation])
    else:
        models = list(dict.fromkeys(row.model for row in rows))
        (_print_datasets if len(models) == 1 else _print_matrix)(rows)
    for row in rows:
        print_without_copies(row.evaluation)
    if any(row.transfer for row in rows):
        output.print(rule, soft_wrap=True)
        if len(rows) == 1:
            _print_datasets(rows)
        output.print(GAP if len({row.model for row in rows}) > 1 else f"{GAP} {BALANCED}", soft_wrap=True)
    if results.table:
        print_places({"table": results.table})


def print_without_copies(evaluation: Any) -> None:
    """Print the figures without the images that have a copy in train, where they were asked for."""
    rest = evaluation.without_copies
    if rest is None:
        return
    name = f"{evaluation.dataset} {evaluation.split}"
    if not rest.copies:
        output.print(f"{name}: no image has a copy among the training images.", soft_wrap=True)
        return
    output.print(
        f"{name}: {rest.copies:,} of {evaluation.images:,} images ({rest.copies / evaluation.images:.1%}) have a copy "
        f"among the training images. Accuracy is {evaluation.accuracy:.1%} officially and {_percent(rest.accuracy)} "
        f"without them, a difference of {_points(rest.difference)} points; macro F1 without them is "
        f"{_percent(rest.macro_f1)}. On the copies accuracy is {rest.accuracy_of_copies:.1%}. They may be easier "
        "anyway: what the leak gives, a run shows that is trained without them (data.exclude).",
        soft_wrap=True,
    )


def _print_datasets(rows: Sequence[Any]) -> None:
    """A model on several datasets: accuracy, gap and what was left out; then the recall of each class."""
    shared = any(row.transfer and row.transfer.absent for row in rows)
    apart = any(row.domains for row in rows)
    header = ["data", "images", "left out", "accuracy [95 %]", *["shared only"] * shared, "macro F1"]
    header += ["gap [95 %]", "balanced gap", *["Frechet", "MMD"] * apart]
    cells = []
    if (own := rows[0].own) and not any(row.evaluation.own for row in rows):
        name = f"{own.dataset} {own.split} (own)"
        cells.append([name, f"{own.images:,}", "", _accuracy(own), *[""] * shared, f"{own.macro_f1:.1%}"])
    for row in rows:
        e, found = row.evaluation, row.transfer
        name = f"{e.dataset} {e.split}{' (own)' * bool(e.own)}"
        left_out = f"{sum(found.left_out.values()):,}" if found else ""
        among = [
            f"{found.accuracy_of_shared:.1%}" if found and found.absent and found.accuracy_of_shared is not None else ""
        ] * shared
        gaps = [_points(gap) if gap else "–" for gap in (found.gap, found.balanced_gap)] if found else ["", ""]
        far = [f"{row.domains.frechet:.2f}", f"{round(row.domains.mmd, 3) + 0.0:.3f}"] if row.domains else []
        cells.append([name, f"{e.images:,}", left_out, _accuracy(e), *among, f"{e.macro_f1:.1%}", *gaps, *far])
    print_plain_table(header, cells)
    if apart:
        output.print(FAR, soft_wrap=True)
    if len(rows) > 1:
        _print_recalls(rows)
    for row in rows:
        _print_labels(row)


def _print_recalls(rows: Sequence[Any]) -> None:
    """The recall of each class on each dataset, in %."""
    evaluations = [row.evaluation for row in rows]
    if rows[0].own and not any(e.own for e in evaluations):
        evaluations.insert(0, rows[0].own)
    table = Table(Column("recall of", no_wrap=True), *(Column(e.dataset, justify="right") for e in evaluations))
    for name in evaluations[0].per_class:
        scores = [e.per_class[name] for e in evaluations]
        table.add_row(name, *(f"{score.recall:.1%}" if score.support else "–" for score in scores))
    output.print(table)


def _print_labels(row: Any, model: str = "") -> None:
    """What of the labels had no counterpart."""
    e, found = row.evaluation, row.transfer
    if not found or not (found.left_out or found.absent):
        return
    parts = [f"{count:,} images of {name} left out" for name, count in found.left_out.items()]
    if found.absent:
        parts.append(f"no images of {', '.join(found.absent)}, which {found.answered_absent:,} images were taken for")
    output.print(f"{model}{e.dataset} {e.split}: {'; '.join(parts)}.", soft_wrap=True)


def _print_matrix(rows: Sequence[Any]) -> None:
    """Accuracy of each model on each dataset, and the gap to its own test set."""
    models = list(dict.fromkeys(row.model for row in rows))
    of_model = {model: [row for row in rows if row.model == model] for model in models}
    first = of_model[models[0]]
    named = [f"{row.evaluation.dataset} {row.evaluation.split}" for row in first]
    others = any(row.transfer for row in rows)
    header = ["accuracy [95 %]", *["own test set"] * others, *named, *(f"gap: {name}" for name in named if others)]
    cells = []
    for model, its in of_model.items():
        own = its[0].own
        gaps = [_points(row.transfer.gap) if row.transfer and row.transfer.gap else "–" for row in its]
        start = [_accuracy(own) if own else "–"] * others
        cells.append([model, *start, *(_accuracy(row.evaluation) for row in its), *(gaps if others else [])])
    print_plain_table(header, cells)
    for row in rows:
        _print_labels(row, f"{row.model}, ")


def print_ensemble(result: Any) -> None:
    """Print an ensemble beside its members, what it costs, and whether it beats the best of them."""
    found, e = result.ensemble, result.evaluation
    cells = [
        [row.name, f"{row.accuracy:.1%}", f"{row.macro_f1:.1%}", *_cost(row.parameters, row.megabytes, row.latency_ms)]
        for row in found.members
    ]
    cost = _cost(found.parameters, found.megabytes, found.latency_ms)
    cells.append(["ensemble: mean of the probabilities", _accuracy(e), f"{e.macro_f1:.1%}", *cost])
    output.print(f"{e.dataset} {e.split}: {e.images:,} images{e.of_all}")
    print_plain_table(["model", "accuracy", "macro F1", "weights M", "file MB", "latency ms"], cells)
    better = "better than" if found.difference.value > 0 else "worse than"
    better = better if found.p < 0.05 else "not significantly better than"
    output.print(
        f"The ensemble is {better} its best member, {found.best}: {_points(found.difference)} points of accuracy, "
        f"{_p(found.p)} (paired bootstrap; McNemar's exact test: {_p(found.mcnemar_p)}). That member was chosen on "
        "these images, which favours it.",
        soft_wrap=True,
    )
    threads = "" if found.threads is None else f" (threads: {found.threads})"
    passes = "" if e.tta == "none" else f" Test-time augmentation ({e.tta}) is not in the latency."
    output.print(f"It costs what its members cost together, one after another on {found.cpu}{threads}.{passes}")
    print_places({"metrics": result.run.metrics_file, "predictions": result.run.path / e.predictions})


def _cost(parameters: int | None, megabytes: float, latency: float) -> list[str]:
    return ["–" if parameters is None else f"{parameters / 1e6:.1f}", f"{megabytes:.1f}", f"{latency:.1f}"]


def _accuracy(evaluation: Any) -> str:
    low, high = evaluation.accuracy_ci or (evaluation.accuracy, evaluation.accuracy)
    return f"{evaluation.accuracy:.1%} [{low * 100:.1f}, {high * 100:.1f}]"


def _percent(estimate: Any) -> str:
    return f"{estimate.value:.1%} [{estimate.low * 100:.1f}, {estimate.high * 100:.1f}]"


def _points(estimate: Any) -> str:
    value, low, high = (round(100 * x, 1) + 0.0 for x in (estimate.value, estimate.low, estimate.high))  # never "-0.0"
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
