"""The model card: `metrics.json` in, `model/README.md` and its figures out.

Everything the card says is read from `metrics.json`; remarks (groups of classes, over-fitting, calibration) are drawn
from the figures there. The prose is in `templates/model_card.md.jinja`. What the template prints is escaped unless this
module marked it as `Markdown`, so a name with pipes or line breaks cannot break a table, a list or the metadata.
The sections follow https://huggingface.co/docs/hub/model-card-annotated.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id
from jinja2 import Environment, FileSystemLoader

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.recipe.schema import NOT_OF_WEIGHTS
from fer_hf.report.figures import write_figures
from fer_hf.runs.folder import Run

FORMATS = {"pytorch": "PyTorch", "onnx": "ONNX float32", "int8": "ONNX INT8"}
TTA = {"flip": "flip", "ten_crop": "ten crops"}
SPLITS = ("test", "validation")
STRONG, WEAK = 0.85, 0.60  # F1 above and below which a class is called strong and weak


class Markdown(str):
    """Text that is Markdown already; every other value is escaped when the template prints it."""

    __slots__ = ()


def markdown(value: Any) -> Markdown:
    """Escape a value for running text and table cells: one line, and nothing in it is markup."""
    if isinstance(value, Markdown):
        return value
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*\[\]|~$])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text)
    text = re.sub(r"^(?=[#>=]|[+-](?:[\s-]|$))", r"\\", text)
    return Markdown(re.sub(r"^(\d+)(?=[.)](?:\s|$))", r"\1\\", text))


def code(value: Any) -> Markdown:
    """A value as inline code. Quotation marks stand for backticks, and a bar is safe in a table as well."""
    return Markdown("`" + " ".join(str(value).split()).replace("`", "'").replace("|", "¦") + "`")


def percent(value: float | None, interval: Sequence[float] | None = None) -> Markdown:
    """A share in [0, 1] as percent, and its interval in brackets: `64.1% [62.5, 65.7]`; a dash for none."""
    ends = f" [{interval[0] * 100:.1f}, {interval[1] * 100:.1f}]" if interval else ""
    return Markdown(f"{value * 100:.1f}%{ends}" if isinstance(value, float | int) else "–")


def number(value: float | None) -> Markdown:
    """A loss with three decimals; a dash for none."""
    return Markdown(f"{value:.3f}" if isinstance(value, float | int) else "–")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markdown:
    """A Markdown table whose columns line up in the source too; columns of numbers are right-aligned."""
    cells = [[str(markdown(cell)) for cell in row] for row in (header, *rows)]
    columns = []
    for head, *body in zip(*cells, strict=True):
        width = max(3, len(head), *map(len, body))
        if all(re.match(r"[\d–-]", cell) for cell in body):
            columns.append([cell.rjust(width) for cell in (head, "-" * (width - 1) + ":", *body)])
        else:
            columns.append([cell.ljust(width) for cell in (head, "-" * width, *body)])
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)))


def evaluations(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """All evaluations in the card's order: test, validation, others; the training data first; PyTorch, ONNX, INT8.

    One with test-time augmentation (the key `tta`) follows the plain one.
    `dataset_type` is the id on the Hub or the kind of source where the run knows it, as it does for its own data.
    """
    data = metrics.get("data") or {}
    found = []
    for evaluation in (metrics.get("evaluations") or {}).values():
        own = evaluation["dataset"] == data.get("dataset")
        kind = (_hub_id(data.get("hub_id")) or data.get("source")) if own else None
        found.append(evaluation | {"own": own, "dataset_type": kind or evaluation["dataset"]})

    def place(name: str, order: Sequence[str]) -> int:
        return order.index(name) if name in order else len(order)

    def order(e: dict[str, Any]) -> tuple[Any, ...]:
        return place(e["split"], SPLITS), not e["own"], place(e["format"], [*FORMATS]), e.get("tta", "")

    return sorted(found, key=order)


def headline(ordered: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation the card opens with, the first plain one of PyTorch. Raises `UserError` when there is none."""
    for evaluation in ordered:
        if evaluation["format"] == "pytorch" and "tta" not in evaluation:
            return evaluation
    raise UserError(
        "metrics.json holds no evaluation of the PyTorch model, so there is nothing to report. "
        "Evaluate it first: fer-hf evaluate RUN --data fer2013:PATH --split test"
    )


def labels_of(evaluation: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """The classes in the order of the confusion matrix: the model's, or fewer when the dataset has fewer."""
    labels = metrics.get("label_names", [])
    return labels if set(labels) == set(evaluation["per_class"]) else list(evaluation["per_class"])


def metadata(metrics: dict[str, Any], evaluation: dict[str, Any], title: str) -> Markdown:
    """The YAML front matter, without its `---` lines. Ids that the Hub would refuse are left out."""
    data, hub = (metrics.get("data") or {}), (metrics.get("hub") or {})
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Facial expression recognition",
            dataset_type=evaluation["dataset_type"],
            dataset_name=evaluation["dataset"],
            dataset_split=evaluation["split"],
            metric_type=kind,
            metric_name=name,
            metric_value=round(evaluation[key], 4),
        )
        for kind, name, key in (
            ("accuracy", "Accuracy", "accuracy"),
            ("f1", "Macro F1", "macro_f1"),
            ("balanced_accuracy", "Balanced accuracy", "balanced_accuracy"),
        )
    ]
    exported = [name for name, file in (metrics.get("export") or {}).items() if file]
    tags = ["facial-expression-recognition", "emotion", "fer", *exported, *hub.get("tags", [])]
    licence = " ".join(str(hub.get("license") or "other").split())
    is_id = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence) is not None
    dataset = _hub_id(data.get("hub_id"))
    card = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-classification",
        license=licence if is_id else "other",
        license_name=None if is_id else licence,
        base_model=_hub_id((metrics.get("model") or {}).get("base_model")),
        datasets=[dataset] if dataset else None,
        tags=list(dict.fromkeys(" ".join(tag.split()) for tag in tags)),
        metrics=["accuracy", "f1"],
        model_name=" ".join(title.split()),
        eval_results=results,
    )
    return Markdown(card.to_yaml(line_break="\n").strip())


def _hub_id(name: str | None) -> str | None:
    """`name` when it can be the id of something on the Hub, and is no local folder."""
    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return None
    return name


def results_table(ordered: Sequence[dict[str, Any]]) -> Markdown:
    """All evaluations, a row each."""
    header = ["Data", "Format", "Accuracy", "Macro F1", "Balanced", "Top-2", "ECE", "Log loss"]
    rows = []
    for e in ordered:
        augmented = f" + {TTA.get(e['tta'], e['tta'])}" if "tta" in e else ""
        rows.append([f"{e['dataset']} {e['split']}", FORMATS.get(e["format"], e["format"]) + augmented])
        scores = (percent(e[key], e.get(f"{key}_ci")) for key in ("accuracy", "macro_f1"))
        rows[-1] += [Markdown(score.replace(", ", ",\N{NO-BREAK SPACE}")) for score in scores]
        rows[-1] += [percent(e[key]) for key in ("balanced_accuracy", "top_2_accuracy", "expected_calibration_error")]
        rows[-1].append(number(e["log_loss"]))
    return table(header, rows)


def changes(ordered: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ONNX and INT8 cost: their accuracy `after`, PyTorch's `before`, on the same images; `points` in percent."""
    ordered = [e for e in ordered if "tta" not in e]
    reference = {(e["dataset"], e["split"], e["images"]): e for e in ordered if e["format"] == "pytorch"}
    result = []
    for e in ordered:
        base = reference.get((e["dataset"], e["split"], e["images"]))
        if base and e is not base and e["format"] in FORMATS:
            points = round(100 * (e["accuracy"] - base["accuracy"]), 1) + 0.0  # + 0.0: never "-0.0"
            data = f"{e['dataset']} {e['split']}"
            result.append({"format": FORMATS[e["format"]], "data": data, "points": points, "before": base, "after": e})
    return result


def confusions(evaluation: dict[str, Any], labels: Sequence[str], most: int = 5) -> list[dict[str, Any]]:
    """The largest confusions, by the share of the true class that goes astray; a pair needs three images to count."""
    pairs = [
        {"true": true, "predicted": predicted, "count": count, "share": count / sum(row)}
        for true, row in zip(labels, evaluation["confusion_matrix"], strict=True)
        for predicted, count in zip(labels, row, strict=True)
        if predicted != true and count >= 3
    ]
    return sorted(pairs, key=lambda pair: -pair["share"])[:most]


def findings(evaluation: dict[str, Any]) -> dict[str, list[str]]:
    """`strengths` and `limits`: sentences drawn from the figures of one evaluation."""
    scores = {label: score for label, score in evaluation["per_class"].items() if score["support"]}
    strengths, limits = list[str](), list[str]()
    commonest = max(scores, key=lambda label: scores[label]["support"])
    base = scores[commonest]["support"] / evaluation["images"]
    gain = 100 * (evaluation["accuracy"] - base)
    (strengths if gain > 0 else limits).append(
        f"Accuracy is {abs(gain):.1f} points {'above' if gain > 0 else 'below'} that of always answering "
        f"“{commonest}”, the commonest class ({percent(base)})."
    )
    ranked = sorted(scores, key=lambda label: scores[label]["f1"])
    for label, verdict, where in ((ranked[-1], "best", strengths), (ranked[0], "worst", limits)):
        s = scores[label]
        where.append(
            f"“{label}” is recognised {verdict}: F1 {percent(s['f1'])}, precision {percent(s['precision'])}, "
            f"recall {percent(s['recall'])}."
        )
    top_2 = percent(evaluation["top_2_accuracy"])
    strengths.append(f"For {top_2} of the images the true class is one of the two most probable.")
    missed = [label for label in scores if scores[label]["recall"] < 0.5]
    if missed:
        limits.append(f"Fewer than half of the faces are found in these classes: {', '.join(missed)}.")
    gap = 100 * (evaluation["accuracy"] - evaluation["balanced_accuracy"])
    if gap >= 1:
        limits.append(
            f"Balanced accuracy is {gap:.1f} points below accuracy: rare classes do worse than frequent ones."
        )
    few = [f"{label} ({scores[label]['support']})" for label in scores if scores[label]["support"] < 100]
    if few:
        limits.append(f"Few images, so uncertain figures: {', '.join(few)}.")
    error, bins = evaluation["expected_calibration_error"], evaluation["reliability"]
    confidence = sum(b["confidence"] * b["count"] for b in bins if b["count"]) / max(sum(b["count"] for b in bins), 1)
    bias = confidence - evaluation["accuracy"]
    tendency = "over-confident" if bias > 0.01 else "under-confident" if bias < -0.01 else "off in both directions"
    (strengths if error < 0.05 else limits).append(
        f"Probabilities are {'close to what they claim' if error < 0.05 else tendency}: mean confidence is "
        f"{percent(confidence)} at an accuracy of {percent(evaluation['accuracy'])} "
        f"(expected calibration error {percent(error)})."
    )
    return {"strengths": strengths, "limits": limits}


def groups(evaluation: dict[str, Any], labels: Sequence[str]) -> dict[str, list[str]]:
    """The classes with images, by F1: `strong` (above 85 %), `moderate` (60 to 85 %), `weak` (below), best first."""
    labels = [label for label in labels if evaluation["per_class"][label]["support"]]
    result: dict[str, list[str]] = {"strong": [], "moderate": [], "weak": []}
    for label in sorted(labels, key=lambda label: -evaluation["per_class"][label]["f1"]):
        f1 = evaluation["per_class"][label]["f1"]
        result["strong" if f1 > STRONG else "weak" if f1 < WEAK else "moderate"].append(f"{label} ({percent(f1)})")
    return result


def split_table(data: dict[str, Any]) -> Markdown | None:
    """Images of each class in each split, with their shares. None when the run did not count them."""
    splits = {name: split for name, split in data.get("splits", {}).items() if split.get("images")}
    labels = list(dict.fromkeys(label for split in splits.values() for label in split.get("per_class") or {}))
    if not splits:
        return None

    def cell(split: dict[str, Any], label: str) -> str:
        count = (split.get("per_class") or {}).get(label)
        return "–" if count is None else f"{count:,} ({percent(count / split['images'])})"

    rows = [[label, *(cell(split, label) for split in splits.values())] for label in labels]
    total = ["all", *(f"{split['images']:,}" for split in splits.values())]
    return table(["Class", *splits], [*rows, total])


def balance(data: dict[str, Any]) -> str | None:
    """How uneven the training classes are: the ratio, and which hold over 1.5 times or under half an even share."""
    counts = {k: n for k, n in (data.get("splits", {}).get("train", {}).get("per_class") or {}).items() if n}
    if len(counts) < 2:
        return None
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    text = f"The commonest training class ({most}) has {counts[most] / counts[least]:.1f} times the images of the "
    text += f"rarest ({least})."
    even = sum(counts.values()) / len(counts)
    over = [label for label, count in counts.items() if count > 1.5 * even]
    under = [label for label, count in counts.items() if count < 0.5 * even]
    text += f" Over-represented, with more than 1.5 times an even share: {', '.join(over)}." if over else ""
    text += f" Under-represented, with less than half of an even share: {', '.join(under)}." if under else ""
    return text


def hyperparameters(recipe: dict[str, Any]) -> Markdown | None:
    """The settings of the recipe that shape the weights, or None when there are none."""
    rows = [
        [code(f"{section}.{key}"), str(value).strip("[]").lower() if isinstance(value, bool | list) else value]
        for section in ("model", "train", "loss", "augment")
        for key, value in (recipe.get(section) or {}).items()
        if value is not None and key not in NOT_OF_WEIGHTS and not isinstance(value, dict)
    ]
    return table(["Setting", "Value"], rows) if rows else None


def fitting(training: dict[str, Any]) -> str | None:
    """What the two losses say about over-fitting, in a sentence; None when fewer than two epochs have both."""
    points = [h for h in training["history"] if None not in (h.get("train_loss"), h.get("validation_loss"))]
    if len(points) < 2:
        return None
    low, last = min(points, key=lambda h: h["validation_loss"]), points[-1]
    losses = f"validation {low['validation_loss']:.3f} to {last['validation_loss']:.3f}, "
    losses += f"training {low['train_loss']:.3f} to {last['train_loss']:.3f}"
    if low is last:
        return f"Validation loss was lowest at the last epoch ({last['validation_loss']:.3f}): no sign of over-fitting."
    if last["train_loss"] >= low["train_loss"]:
        return f"Neither loss has improved since epoch {low['epoch']:g} ({losses})."
    if last["validation_loss"] < 1.01 * low["validation_loss"]:
        return f"Validation loss has been flat since epoch {low['epoch']:g} while training loss fell on ({losses})."
    return (
        f"Validation loss has risen since epoch {low['epoch']:g} while training loss kept falling ({losses}): "
        "the model over-fits from there on."
    )


def duration(seconds: float) -> str:
    """`45 s`, `39 min`, `2 h 5 min`."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{hours} h {minutes} min" if hours else f"{minutes} min"


def card_text(metrics: dict[str, Any], figures: Sequence[str] = ()) -> str:
    """The whole card, with the figures of these names (`confusion_matrix`, ...).

    Raises `UserError` when `metrics` holds no evaluation of the PyTorch model.
    """
    ordered = evaluations(metrics)
    main = headline(ordered)
    recipe = metrics.get("recipe") or {}
    title = (recipe.get("report") or {}).get("title") or metrics.get("name") or "Facial expression model"
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # No HTML escapes: this is Markdown, and `finalize` escapes it.
    jinja = Environment(loader=loader, finalize=markdown, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    helpers = (balance, changes, code, confusions, duration, findings, fitting, groups, hyperparameters)
    jinja.filters["as_is"] = Markdown
    jinja.globals.update({f.__name__: f for f in (*helpers, number, percent, results_table, split_table, table)})
    dump = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=math.inf)
    text = jinja.get_template("model_card.md.jinja").render(
        metrics=metrics,
        evaluations=ordered,
        main=main,
        labels=labels_of(main, metrics),
        metadata=metadata(metrics, main, title),
        title=title,
        description=(recipe.get("report") or {}).get("description"),
        recipe_yaml=Markdown(dump.strip()) if recipe else None,
        figures=figures,
        model_id=Markdown("PATH/TO/MODEL"),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_report(run: Run) -> Path:
    """Write `model/figures/*.png` and `model/README.md` of a run from its `metrics.json`; returns the card's path.

    Raises `UserError` when there is nothing to report, before anything is written.
    """
    if not run.metrics_file.is_file():
        raise UserError(
            f"{str(run.path)!r} has no metrics.json, so there is nothing to report. "
            "Train the model (fer-hf train RECIPE) or evaluate it (fer-hf evaluate RUN --data fer2013:PATH) first."
        )
    metrics = run.metrics()
    main = headline(evaluations(metrics))
    trained_on = (metrics.get("data") or {}).get("dataset", "")
    figures = write_figures(run.model / "figures", main, labels_of(main, metrics), metrics.get("training"), trained_on)
    card = run.model / "README.md"
    write_text(card, card_text(metrics, figures))
    return card
