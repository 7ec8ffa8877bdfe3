"""The run against another one, its most confident errors, and what it takes to make it again."""

from collections.abc import Iterator

from fer_hf.report.blocks import Block, Bullets, Code, Details, Face, Faces, Missing, Table, Text, data_uri, picture
from fer_hf.report.figures.changes import changes_figure
from fer_hf.report.markdown import percent
from fer_hf.report.material import Material

SHOWN = 24
"""Errors that the page shows."""


def errors(material: Material) -> Iterator[Block]:
    """The most confident errors, with pictures where there are any to show."""
    found, pictures = material.predictions, material.pictures
    mistakes = found.mistakes(SHOWN)
    if not mistakes:
        yield Text("Every image got the label that the dataset gives it.")
        return
    wrong = int((found.predicted != found.labels).sum())
    yield Text(
        f"Of {wrong:,} errors, the {len(mistakes)} that the model is surest of. Where a picture shows what the model "
        "says, the label may be wrong: fer-hf data label-errors RUN lists such images."
    )
    if pictures.reason:
        yield Text(pictures.reason, "quiet")
    faces = [
        Face(
            data_uri(pictures.of[m.id], "jpeg"),
            f"A face labelled {m.true}, taken for {m.predicted}",
            (f"{m.predicted} {percent(m.confidence)}", f"labelled {m.true}", m.id),
        )
        for m in mistakes
        if m.id in pictures.of
    ]
    if faces:
        yield Faces(faces)
    rows = [[m.id, m.true, m.predicted, percent(m.confidence)] for m in mistakes]
    table = Table(["Image", "Label", "Model says", "Confidence"], rows)
    yield Details("The same as a table", [table]) if faces else table


def baseline(material: Material) -> Iterator[Block]:
    """How this run differs from another one on the same images, class by class."""
    other = material.baseline
    if not other:
        yield Missing(
            "No other run was given to hold this one against. This does so:", "fer-hf report RUN --baseline RUN2"
        )
        return
    name = material.metrics.name or "this run"
    changes = other.changes
    surely = [change for change in changes[1:] if change.more_than_chance]
    better = [change.figure for change in surely if change.points > 0]
    worse = [change.figure for change in surely if change.points < 0]
    first = changes[0]
    sure = "more than chance would explain" if first.more_than_chance else "which chance could explain"
    yield Text(
        f"Against {other.name}, {first.figure.replace('_', ' ')} differs by {first.points:+.1f} points "
        f"[{first.low:.1f}, {first.high:.1f}], {sure}."
    )
    yield Bullets(
        [
            f"Classes that are surely better: {', '.join(better) or 'none'}.",
            f"Classes that are surely worse: {', '.join(worse) or 'none'}.",
        ]
    )
    yield picture(
        changes_figure(changes, name, other.name),
        "The difference of each figure with its interval; the table has the same numbers",
    )
    rows = [
        [
            change.figure.replace("_", " "),
            *(percent(change.baseline), percent(change.baseline + change.points / 100)),
            f"{change.points:+.1f}",
            f"{change.low:.1f} to {change.high:.1f}",
            "< 0.001" if change.p < 0.001 else f"{change.p:.3f}",
        ]
        for change in changes
    ]
    header = ["Figure", other.name, name, "Change, points", "95 % interval", "p"]
    yield Table(
        header, rows, "F1 of each class below the headline; p of a paired bootstrap, Holm-corrected for classes"
    )


def environment(material: Material) -> Iterator[Block]:
    """Hardware and versions."""
    about, training = material.metrics.environment, material.metrics.training
    if not about:
        yield Missing("The run holds no record of its environment.")
        return
    hardware = about.get("hardware") or {}
    rows = [[name.replace("_", " "), value] for name, value in hardware.items() if value is not None]
    if training:
        rows += [["device", training.device], ["precision", training.precision], ["processes", training.processes]]
        rows += [["seed", "not recorded" if training.seed is None else training.seed]]
        resumed = ", ".join(map(str, training.resumed_at_steps))
        rows += [["resumed at steps", resumed or "never"]]
    yield Table(["Condition", "Value"], rows)
    versions = {"python": about.get("python"), "platform": about.get("platform"), **(about.get("packages") or {})}
    yield Table(["Software", "Version"], [[name, version or "not recorded"] for name, version in versions.items()])


def reproduction(material: Material) -> Iterator[Block]:
    """The commands that make the run, its figures and this page again."""
    about = material.metrics.environment
    version = (about.get("packages") or {}).get("fer_hf")
    commit = about.get("git_commit")
    install = f"# fer_hf{f' {version}' if version else ''}{f', commit {commit}' if commit else ''}, from its source"
    extra = "[onnx]" if material.metrics.export else ""
    commands = [install, f"pip install '.{extra}'"]
    if material.metrics.training and material.metrics.recipe:
        commands += ["# recipe.yaml: the recipe of the section Configuration", "fer-hf train recipe.yaml"]
    else:
        commands.append(material.again)
    commands += ["fer-hf report RUN"]
    yield Code("\n".join(commands))
    yield Text(
        "Every figure comes from the run's metrics.json and, for curves and errors, from the predictions that it names:"
    )
    rows = [[e.dataset, e.split, e.format, e.tta, e.predictions or "–"] for e in material.evaluations]
    yield Table(["Data", "Split", "Format", "Augmentation", "Predictions"], rows)
