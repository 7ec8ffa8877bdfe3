"""How the model does where things differ: between groups, on other data, under corruption, in exported files."""

from collections.abc import Iterator

from fer_hf.report import facts
from fer_hf.report.blocks import Block, Bullets, Heading, Missing, Picture, Table, Text, data_uri, picture
from fer_hf.report.facts import FORMATS
from fer_hf.report.figures.robustness import robustness_figure
from fer_hf.report.figures.slices import slices_figure
from fer_hf.report.markdown import percent
from fer_hf.report.material import Material
from fer_hf.report.sections.trust import points
from fer_hf.report.slices import slice_cells, slice_sentences
from fer_hf.runs.analyses import Domains, Explanation, Robustness
from fer_hf.runs.records import PLAIN, Evaluation


def slices(material: Material) -> Iterator[Block]:
    """Accuracy of groups of images, and whether they differ by more than chance."""
    records = material.mine(material.metrics.slices)
    if not records:
        known = str(facts.known_people(material.main)).replace("`", "")
        command = "fer-hf slices RUN" if material.main.attributes else "fer-hf slices RUN --by brightness"
        yield Missing(f"Accuracy by group was not measured. {known} This measures it:", command)
    for record in records:
        yield Heading(" and ".join(record.attributes))
        yield Bullets(slice_sentences(record))
        yield picture(
            slices_figure(record, material.main), "Accuracy of each group with its interval; the table follows"
        )
        yield Table(*slice_cells(record))


def datasets(material: Material) -> Iterator[Block]:
    """Figures on data that the model was not trained on, beside its own, and how far such data are apart."""
    metrics = material.metrics
    others = [e for e in material.evaluations if not metrics.owns(e) and e.tta == PLAIN]
    own = next((e for e in material.evaluations if metrics.owns(e) and e.plain and e.split == "test"), None)
    if not others:
        yield Missing("No other dataset was evaluated. This does it:", "fer-hf evaluate RUN --data SOURCE")
    else:
        rows = [_dataset_row(e, own) for e in ([own] if own else []) + others]
        header = ["Data", "Images", "Format", "Accuracy", "Macro F1", "Gap to own test, points"]
        yield Table(header, rows)
        yield from _classes_elsewhere([*([own] if own else []), *(e for e in others if e.plain)])
    yield from _transfers(material)
    if metrics.domains:
        yield Heading("Distance between sets of images")
        yield Table(
            ["Sets", "Images", "Fréchet distance", "MMD²", "Told apart by a linear probe", "By chance"],
            [_domains_row(record) for record in metrics.domains.values()],
            "In the features before the classifier",
        )
    else:
        command = "fer-hf evaluate RUN --data SOURCE --distances"
        yield Missing("Distances to other data in feature space were not measured. This measures them:", command)


def _transfers(material: Material) -> Iterator[Block]:
    """Gaps to the run's own test set with their intervals, and the labels that do not fit."""
    rows, notes = [], []
    for key, record in material.metrics.transfers.items():
        e = material.metrics.evaluations.get(key)
        name = f"{e.dataset} {e.split}" if e else key
        gaps = [points(gap) if gap else "–" for gap in (record.gap, record.balanced_gap)]
        rows.append([name, *gaps, percent(record.accuracy_of_shared)])
        if left := [f"{label} ({count:,})" for label, count in record.left_out.items() if count]:
            notes.append(f"{name}: images of emotions that the model does not know were left out: {', '.join(left)}.")
        if record.absent:
            answered = f"{record.answered_absent:,} images got such an answer, which is wrong"
            notes.append(f"{name} has no {', '.join(record.absent)}: {answered}.")
    if rows:
        yield Table(
            ["Data", "Gap of accuracy, points", "Gap of mean recall, points", "Accuracy, shared labels alone"],
            rows,
            "The run's own test set less these data, with 95 % intervals",
        )
    if notes:
        yield Bullets(notes)


def _dataset_row(e: Evaluation, own: Evaluation | None) -> list[str]:
    gap = "–" if own is None or e is own else f"{100 * (e.accuracy - own.accuracy):+.1f}"
    figures = [percent(e.accuracy, e.accuracy_ci), percent(e.macro_f1, e.macro_f1_ci)]
    return [f"{e.dataset} {e.split}", f"{e.images:,}", FORMATS.get(e.format, e.format), *figures, gap]


def _classes_elsewhere(evaluations: list[Evaluation]) -> Iterator[Block]:
    if len(evaluations) < 2:
        return
    labels = list(dict.fromkeys(label for e in evaluations for label in e.per_class))

    def cell(e: Evaluation, label: str) -> str:
        score = e.per_class.get(label)
        return percent(score.f1) if score and score.support else "–"

    rows = [[label, *(cell(e, label) for e in evaluations)] for label in labels]
    yield Table(["Class", *(f"{e.dataset} {e.split}" for e in evaluations)], rows, "F1 of each class on each dataset")


def _domains_row(record: Domains) -> list[str]:
    return [
        f"{record.first}, {record.second}",
        " and ".join(f"{count:,}" for count in record.images),
        *(f"{record.frechet:.2f}", f"{record.mmd:.4f}"),
        *(percent(record.probe_accuracy), percent(record.probe_chance)),
    ]


def robustness(material: Material) -> Iterator[Block]:
    """Accuracy under corruption at five strengths."""
    records = material.mine(material.metrics.robustness)
    if not records:
        yield Missing("Accuracy under corruption was not measured. This measures it:", "fer-hf robustness RUN")
    for record in records:
        yield from _robustness(record, material)


def _robustness(record: Robustness, material: Material) -> Iterator[Block]:
    clean = record.clean
    against = f"relative to {record.baseline}" if record.baseline else "the mean error, for want of a baseline run"
    yield Text(
        f"On {record.images:,} images as they are, accuracy is {percent(clean.accuracy)}. The mean corruption error is "
        f"{percent(record.mean_corruption_error)} ({against}; lower is better)."
    )
    figure = robustness_figure(record, f"{material.main.dataset}, {material.main.split}")
    yield picture(figure, "Accuracy and calibration error by strength, a panel for each corruption; the tables follow")
    strengths = sorted({corruption.strength for corruption in record.corruptions})
    by_name = {name: {each.strength: each for each in of} for name, of in record.by_name().items()}
    for name, field in (("Accuracy", "accuracy"), ("Calibration error", "expected_calibration_error")):
        rows = [
            [
                what.replace("_", " "),
                *(percent(getattr(each, field, None)) for each in (clean, *map(of.get, strengths))),
            ]
            for what, of in by_name.items()
        ]
        yield Table(["Corruption", "as it is", *(str(each) for each in strengths)], rows, f"{name} by strength")


def explanation(material: Material) -> Iterator[Block]:
    """Where the network looks, and whether the maps are any better than random ones."""
    records = material.mine(material.metrics.explanations)
    if not records:
        yield Missing("Maps of what the network looks at were not made. This makes them:", "fer-hf explain RUN")
    for record in records:
        yield from _explanation(record, material)


def _explanation(record: Explanation, material: Material) -> Iterator[Block]:
    verdict = (
        "The maps point at places that matter more than random ones do."
        if record.better_than_random
        else "The maps are no better than random ones: do not read anything into them."
    )
    yield Text(
        f"{verdict} ROAD score of {record.images:,} maps by {record.method} at {record.layer}: "
        f"{_road(record.road)}; of random maps: {_road(record.road_random)}."
    )
    for name, alt in (
        (record.means, "The mean map of each class, laid over the mean face"),
        (record.sheet, "Faces with the map of each laid over it, right and wrong predictions of each class"),
    ):
        if not name:
            continue
        if material.pictures.left_out:
            yield Text("Pictures of faces are left out (--no-images).", "quiet")
            return
        file = material.run.path / name
        if not file.is_file():
            yield Missing(f"{name} is missing. This makes it again:", "fer-hf explain RUN")
            continue
        yield Picture(data_uri(file.read_bytes(), "jpeg" if file.suffix in (".jpg", ".jpeg") else "png"), alt)


def _road(estimate: object) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*(getattr(estimate, name) for name in ("value", "low", "high")))


def exports(material: Material) -> Iterator[Block]:
    """The exported files: size, how they differ from PyTorch, and how right they are."""
    export = material.metrics.export
    if not export:
        yield Missing("The model was not exported. This does it:", "fer-hf export RUN --int8")
        return
    rows = [
        [
            FORMATS.get(name, name),
            file.file,
            f"{file.megabytes:.2f}",
            "–" if file.max_logit_difference is None else f"{file.max_logit_difference:.2g}",
            f"{file.calibration}, {file.calibration_images or 0:,} images" if file.calibration else "–",
        ]
        for name, file in export.items()
    ]
    yield Table(["Format", "File", "MB", "Largest difference of a logit", "Quantised with"], rows)
    if changed := facts.changes(material.evaluations):
        yield Bullets(
            [
                f"{FORMATS[after.format]} {facts.change(moved)} on {after.dataset} {after.split}: "
                f"{percent(before.accuracy)} with PyTorch, {percent(after.accuracy)} with {FORMATS[after.format]}."
                for before, after, moved in changed
            ]
        )
    else:
        yield Missing("No exported file was evaluated. This does it:", "fer-hf evaluate RUN --format int8")
