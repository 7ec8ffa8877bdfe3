"""The model card: `metrics.json` in, `model/README.md` and its figures out.

The prose is in `templates/model_card.md.jinja`; its sections follow
https://huggingface.co/docs/hub/model-card-annotated.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.recipe.schema import NOT_OF_WEIGHTS
from fer_hf.report import facts
from fer_hf.report.figures.classification import write_figures
from fer_hf.report.markdown import Markdown, code, fenced, licence_metadata, number, percent, render, table
from fer_hf.runs.folder import PLACEHOLDER, Run
from fer_hf.runs.records import PLAIN, Data, Evaluation, Hub, Metrics, Split, Training

TTA = {"flip": "flip", "ten_crop": "ten crops"}
RESULTS = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "balanced_accuracy": "Balanced accuracy"}
"""The figures in the metadata, and what they are called there."""


def metadata(metrics: Metrics, evaluation: Evaluation, title: str) -> Markdown:
    """The YAML front matter, without its `---` lines. Ids that the Hub would refuse are left out.

    Args:
        metrics: of the run.
        evaluation: the one whose figures are reported.
        title: the name of the model.
    """
    data, hub = metrics.data or Data(), metrics.hub or Hub()
    dataset = _hub_id(data.hub_id)
    kind = (dataset or data.source) if metrics.owns(evaluation) else None
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Facial expression recognition",
            dataset_type=kind or evaluation.dataset,
            dataset_name=evaluation.dataset,
            dataset_split=evaluation.split,
            metric_type=key.removeprefix("macro_"),
            metric_name=name,
            metric_value=round(getattr(evaluation, key), 4),
        )
        for key, name in RESULTS.items()
    ]
    tags = ["facial-expression-recognition", "emotion", "fer", *metrics.export, *hub.tags]
    card = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-classification",
        base_model=_hub_id(metrics.model.base_model if metrics.model else None),
        datasets=[dataset] if dataset else None,
        tags=list(dict.fromkeys(" ".join(tag.split()) for tag in tags)),
        metrics=["accuracy", "f1"],
        model_name=" ".join(title.split()),
        eval_results=results,
        **licence_metadata(hub.license or "other"),
    )
    return Markdown(card.to_yaml(line_break="\n").strip())


def _hub_id(name: str | None) -> str | None:
    """`name` when it can be the id of a repository on the Hub."""
    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return None
    return name


def results_table(ordered: Sequence[Evaluation]) -> Markdown:
    """All evaluations, a row each. Other data that are named as the run's own carry the beginning of their hash."""
    ks = sorted({k for e in ordered for k in e.top_k})
    tops = [f"Top-{k}" for k in ks]
    header = ["Data", "Images", "Format", "Accuracy", "Macro F1", "Balanced", *tops, "ECE", "Log loss"]
    own = {e.dataset for e in ordered if e.own}
    rows = [
        [
            f"{e.dataset} {e.split}" + (f" ({e.content[:8]})" if e.content and not e.own and e.dataset in own else ""),
            f"{e.images:,}{e.of_all}",
            facts.FORMATS.get(e.format, e.format) + ("" if e.tta == PLAIN else f" + {TTA.get(e.tta, e.tta)}"),
            *(
                Markdown(percent(value, interval).replace(", ", ",\N{NO-BREAK SPACE}"))
                for value, interval in ((e.accuracy, e.accuracy_ci), (e.macro_f1, e.macro_f1_ci))
            ),
            percent(e.balanced_accuracy),
            *(percent(e.top_k.get(k)) for k in ks),
            percent(e.expected_calibration_error),
            number(e.log_loss),
        ]
        for e in ordered
    ]
    return table(header, rows)


def split_table(data: Data) -> Markdown | None:
    """Images of each class in each split, with their shares. None when the run did not count them."""
    splits = {name: split for name, split in data.splits.items() if split.images}
    if not splits:
        return None

    def cell(split: Split, label: str) -> str:
        count = split.per_class.get(label)
        return "–" if count is None else f"{count:,} ({percent(count / split.images)})"

    labels = dict.fromkeys(label for split in splits.values() for label in split.per_class)
    rows = [[label, *(cell(split, label) for split in splits.values())] for label in labels]
    total = ["all", *(f"{split.images:,}" for split in splits.values())]
    return table(["Class", *splits], [*rows, total])


def class_table(evaluation: Evaluation, labels: Sequence[str]) -> Markdown:
    """Precision, recall, F1 and images of each class, and their averages over classes and over images."""
    rows: list[list[Any]] = []
    for label in labels:
        score = evaluation.per_class[label]
        rows.append([label, *map(percent, (score.precision, score.recall, score.f1)), f"{score.support:,}"])
    for average in ("macro", "weighted"):
        means = (getattr(evaluation, f"{average}_{name}") for name in ("precision", "recall", "f1"))
        rows.append([Markdown(f"*{average} average*"), *map(percent, means), f"{evaluation.images:,}"])
    return table(["Class", "Precision", "Recall", "F1", "Images"], rows)


def epoch_table(training: Training) -> Markdown:
    """The history; stages and training accuracy where there are any."""
    header = ["Epoch", "Training loss", "Validation loss", "Accuracy", "Macro F1"]
    rows = []
    for h in training.history:
        best = training.best is not None and h.epoch == training.best.epoch
        scores = [number(h.train_loss), number(h.validation_loss), percent(h.accuracy), percent(h.macro_f1)]
        rows.append([f"{h.epoch:g}{' (best)' * best}", *scores])
    if any(h.train_accuracy is not None for h in training.history):
        header.insert(3, "Training accuracy")
        for row, h in zip(rows, training.history, strict=True):
            row.insert(3, percent(h.train_accuracy))
    if len(training.stages) > 1:
        header.insert(1, "Stage")
        for row, h in zip(rows, training.history, strict=True):
            row.insert(1, str(facts.stage_of(training, h.epoch) + 1))
    return table(header, rows)


def stage_table(training: Training, recipe: Mapping[str, Any]) -> Markdown | None:
    """What each stage trained, and how; None for a training in one piece."""
    settings = (recipe.get("train") or {}).get("stages") or []
    if not settings:
        return None
    others = ("lr_scheduler_type", "warmup_ratio")
    keys = [key for key in others if any(stage.get(key) is not None for stage in settings)]
    rows = [
        [
            *(number, facts.stage_name(stage), f"{stage.parameters:,}", f"{stage.epochs:g}", f"{stage.steps:,}"),
            *(f"{stage.learning_rate:g}", *("as below" if own.get(key) is None else own[key] for key in keys)),
        ]
        for number, (stage, own) in enumerate(zip(training.stages, settings, strict=False), 1)
    ]
    header = ["Stage", "What learns", "Weights", "Epochs", "Steps", "Learning rate", *map(code, keys)]
    return table(header, rows)


def hyperparameters(recipe: Mapping[str, Any]) -> Markdown | None:
    """The settings of the recipe that shaped the weights, or None when there are none."""
    unused = _without_effect(recipe)
    rows = [
        [code(f"{section}.{key}"), str(value).strip("[]").lower() if isinstance(value, bool | list) else value]
        for section in ("model", "train", "loss", "augment")
        for key, value in (recipe.get(section) or {}).items()
        if value not in (None, []) and key not in NOT_OF_WEIGHTS and not isinstance(value, dict)
        if f"{section}.{key}" not in unused
    ]
    return table(["Setting", "Value"], rows) if rows else None


def _without_effect(recipe: Mapping[str, Any]) -> set[str]:
    """Keys of a recipe that have values but did nothing, since others took their place or were switched off."""
    model, train, loss, augment = (recipe.get(name) or {} for name in ("model", "train", "loss", "augment"))
    flat = train.get("lr_scheduler_type") in ("constant", "reduce_lr_on_plateau")
    stages = train.get("stages") or [{}]
    keys = {f"train.{key}" for key in stages[0] if all(stage.get(key) is not None for stage in stages)}
    keys.add("train.stages")  # which have a table
    if augment.get("enabled") is False:
        keys |= {f"augment.{key}" for key in augment.keys() - {"enabled", "mixup", "cutmix"}}
    unless = {
        "model.pretrained": not model.get("weights"),
        "train.momentum": train.get("optim") == "sgd",
        "train.num_train_epochs": train.get("max_steps", 0) <= 0,
        "train.sam_adaptive": train.get("sam_rho"),
        "train.warmup_ratio": not (flat or train.get("warmup_steps")),
        "loss.effective_number_beta": loss.get("class_weights") == "effective_number",
        "loss.teacher_weight": loss.get("teacher"),
        "loss.temperature": loss.get("teacher"),
    }
    return keys | {key for key, used in unless.items() if not used}


def _own_paths(metrics: Metrics) -> Markdown:
    """Keys of the recipe whose values were paths of the machine that it ran on, in a list."""
    data, model, loss = (metrics.recipe.get(section) or {} for section in ("data", "model", "loss"))
    is_path = {
        "data.source": "PATH" in str(data.get("source")),
        "data.exclude": data.get("exclude"),
        "model.name": metrics.model and metrics.model.parent,
        "model.weights": model.get("weights"),
        "loss.teacher": loss.get("teacher") and "/" not in loss["teacher"],  # no id of the Hub
    }
    return Markdown(", ".join(code(key) for key, value in is_path.items() if value))


def bibtex(title: str, author: str | None, training: Training | None, package: str) -> Markdown:
    """An entry to cite the model by, without what is not known."""
    year = (training.date or "")[:4] if training else ""

    def value(text: str) -> str:
        return re.sub(r"([#$%&_])", r"\\\1", re.sub(r"[{}\\~^`]", "", " ".join(text.split())))

    fields = {
        "title": f'"{{{value(title)}}}"',  # the braces keep its capitals
        "author": f'"{{{value(author)}}}"' if author else "",
        "year": year,
        "note": f'"Facial expression classifier, made with {value(package)}"',
        "url": f'"https://huggingface.co/{PLACEHOLDER}"',
    }
    lines = [f"  {name} = {text}," for name, text in fields.items() if text]
    key = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "model"
    return fenced("\n".join([f"@misc{{{key}{year},", *lines, "}"]), "bibtex")


def card_text(metrics: Metrics, figures: Sequence[str] = ()) -> str:
    """The whole card.

    Args:
        metrics: of the run.
        figures: the names of the figures to show, such as "confusion_matrix".

    Raises:
        UserError: `metrics` holds no evaluation of the PyTorch model.
    """
    ordered = facts.evaluations(metrics)
    main = facts.headline(ordered)
    labels, (strengths, limits) = facts.labels_of(main, metrics), facts.findings(main)
    report = metrics.recipe.get("report") or {}
    title = report.get("title") or metrics.name or "Facial expression model"
    author = report.get("author") or ((metrics.hub and metrics.hub.repo_id) or "").rpartition("/")[0] or None
    version = (metrics.environment.get("packages") or {}).get("fer_hf")
    package = f"fer_hf {version}" if version else "fer_hf"
    dump = yaml.safe_dump(dict(metrics.recipe), sort_keys=False, allow_unicode=True, width=math.inf)
    return render(
        "model_card.md.jinja",
        metrics=metrics,
        evaluations=ordered,
        main=main,
        labels=labels,
        metadata=metadata(metrics, main, title),
        title=title,
        description=report.get("description"),
        author=author,
        package=package,
        own_paths=_own_paths(metrics),
        citation=bibtex(title, author, metrics.training, package),
        recipe_yaml=fenced(dump, "yaml") if metrics.recipe else None,
        figures=figures,
        model_id=Markdown(PLACEHOLDER),
        strengths=strengths,
        limits=limits,
        classes=facts.groups(main, labels),
        formats=facts.FORMATS,
        **{f.__name__: f for f in FUNCTIONS},
    )


FUNCTIONS = (
    *(facts.balance, facts.change, facts.changes, facts.confusions, facts.fitting, facts.known_people, facts.origin),
    *(class_table, epoch_table, hyperparameters, results_table, split_table, stage_table),
)
"""What the template calls."""


def write_report(run: Run) -> Path:
    """Write `model/figures/*.png` and `model/README.md` of a run from its `metrics.json`; returns the card's path.

    Raises `UserError` when there is nothing to report, before anything is written.
    """
    if not run.metrics_file.is_file():
        raise UserError(
            f"{str(run.path)!r} has no metrics.json, so there is nothing to report. "
            "Train the model (fer-hf train RECIPE) or evaluate it (fer-hf evaluate RUN --data fer2013:PATH) first."
        )
    metrics = run.metrics
    main = facts.headline(facts.evaluations(metrics))
    trained_on = (metrics.data.dataset if metrics.data else None) or ""
    figures = write_figures(run.figures, main, facts.labels_of(main, metrics), metrics.training, trained_on)
    write_text(run.card, card_text(metrics, figures))
    return run.card
