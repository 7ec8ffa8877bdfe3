"""The model card: `metrics.json` in, `model/README.md` and its figures out.

The prose is in `templates/model_card.md.jinja`; its sections follow
https://huggingface.co/docs/hub/model-card-annotated.
"""

import math
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
from fer_hf.report.figures import write_figures
from fer_hf.report.markdown import Markdown, code, licence_metadata, number, percent, render, table
from fer_hf.runs.folder import Run
from fer_hf.runs.records import PLAIN, Data, Evaluation, Hub, Metrics, Split

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
    header = ["Data", "Format", "Accuracy", "Macro F1", "Balanced", *(f"Top-{k}" for k in ks), "ECE", "Log loss"]
    own = {e.dataset for e in ordered if e.own}
    rows = [
        [
            f"{e.dataset} {e.split}" + (f" ({e.content[:8]})" if e.content and not e.own and e.dataset in own else ""),
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


def hyperparameters(recipe: Mapping[str, Any]) -> Markdown | None:
    """The settings of the recipe that shape the weights, or None when there are none."""
    rows = [
        [code(f"{section}.{key}"), str(value).strip("[]").lower() if isinstance(value, bool | list) else value]
        for section in ("model", "train", "loss", "augment")
        for key, value in (recipe.get(section) or {}).items()
        if value is not None and key not in NOT_OF_WEIGHTS and not isinstance(value, dict)
    ]
    return table(["Setting", "Value"], rows) if rows else None


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
    dump = yaml.safe_dump(dict(metrics.recipe), sort_keys=False, allow_unicode=True, width=math.inf)
    functions = (facts.balance, facts.changes, facts.confusions, facts.fitting)
    return render(
        "model_card.md.jinja",
        metrics=metrics,
        evaluations=ordered,
        main=main,
        labels=labels,
        metadata=metadata(metrics, main, title),
        title=title,
        description=report.get("description"),
        recipe_yaml=Markdown(dump.strip()) if metrics.recipe else None,
        figures=figures,
        model_id=Markdown("PATH/TO/MODEL"),
        strengths=strengths,
        limits=limits,
        classes=facts.groups(main, labels),
        formats=facts.FORMATS,
        **{f.__name__: f for f in (*functions, hyperparameters, results_table, split_table)},
    )


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
