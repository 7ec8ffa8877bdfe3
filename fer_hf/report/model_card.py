"""The model card: `metrics.json` in, `model/README.md` and its figures out.

The prose is in `templates/model_card.md.jinja`; its sections follow
https://huggingface.co/docs/hub/model-card-annotated.
"""

import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from fer_hf.errors import UserError
from fer_hf.files import write_text
from fer_hf.report import analysed, facts, tables
from fer_hf.report.blocks import Table
from fer_hf.report.figures.classification import ALT, write_figures
from fer_hf.report.markdown import Markdown, code, fenced, licence_metadata, render, table
from fer_hf.runs.folder import PLACEHOLDER, Run
from fer_hf.runs.records import Data, Evaluation, Hub, Metrics, Training

logger = logging.getLogger(__name__)
RESULTS = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "balanced_accuracy": "Balanced accuracy",
    "matthews_correlation": "Matthews correlation",
    "macro_roc_auc": "Area under ROC, mean of classes",
    "brier_score": "Brier score",
}
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
        if getattr(evaluation, key) is not None
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
    key = next(key for key, evaluation in metrics.evaluations.items() if evaluation is main)
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
        alt=ALT,
        model_id=Markdown(PLACEHOLDER),
        strengths=strengths,
        calibrated=analysed.calibration_sentences(metrics, key),
        beyond=analysed.beyond(metrics, main, key),
        groups_measured=analysed.group_sentences(metrics, key),
        limits=limits,
        classes=facts.groups(main, labels),
        formats=facts.FORMATS,
        **{f.__name__: f for f in FUNCTIONS},
        **{make.__name__: _as_markdown(make) for make in TABLES},
    )


FUNCTIONS = (
    *(facts.balance, facts.change, facts.changes, facts.confusions, facts.fitting, facts.known_people, facts.origin),
)
TABLES = (
    *(tables.class_table, tables.epoch_table, tables.hyperparameters, tables.results_table),
    *(tables.split_table, tables.stage_table),
)
"""What the template calls; what a table is made of is printed as Markdown."""


def _as_markdown(make: Callable[..., Table | None]) -> Callable[..., Markdown | None]:
    def call(*arguments: Any) -> Markdown | None:
        made = make(*arguments)
        return table(made.header, made.rows) if made else None

    return call


def write_report(run: Run) -> Path:
    """Write `model/figures/*.png` and `model/README.md` of a run from its `metrics.json`; returns the card's path.

    Raises `UserError` when there is nothing to report, before anything is written.
    """
    if not run.metrics_file.is_file():
        raise UserError(
            f"{str(run.path)!r} has no metrics.json, so there is nothing to report. "
            "Train the model (fer-hf train RECIPE) or evaluate it (fer-hf evaluate RUN --data fer2013:PATH) first."
        )
    metrics, problems = run.readable_metrics()
    for section, reason in problems.items():
        logger.warning("left out of the card, since it cannot be read: %s: %s", section, reason)
    main = facts.headline(facts.evaluations(metrics))
    trained_on = (metrics.data.dataset if metrics.data else None) or ""
    figures = write_figures(run.figures, main, facts.labels_of(main, metrics), metrics.training, trained_on)
    write_text(run.card, card_text(metrics, figures))
    return run.card
