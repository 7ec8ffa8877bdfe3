"""The tables that the card and the page share: records in, headers and rows out."""

from collections.abc import Mapping, Sequence
from typing import Any

from fer_hf.recipe.schema import NOT_OF_WEIGHTS
from fer_hf.report import facts
from fer_hf.report.blocks import Table
from fer_hf.report.markdown import Literal, Markdown, number, percent
from fer_hf.runs.records import PLAIN, Data, Evaluation, Split, Training

TTA = {"flip": "flip", "ten_crop": "ten crops"}


def results_table(ordered: Sequence[Evaluation]) -> Table:
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
    return Table(header, rows)


def split_table(data: Data) -> Table | None:
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
    return Table(["Class", *splits], [*rows, total], footer=1)


def class_table(evaluation: Evaluation, labels: Sequence[str]) -> Table:
    """Precision, recall, F1 and images of each class, and their averages over classes and over images."""
    rows: list[list[Any]] = []
    for label in labels:
        score = evaluation.per_class[label]
        rows.append([label, *map(percent, (score.precision, score.recall, score.f1)), f"{score.support:,}"])
    for average in ("macro", "weighted"):
        means = (getattr(evaluation, f"{average}_{name}") for name in ("precision", "recall", "f1"))
        rows.append([f"{average} average", *map(percent, means), f"{evaluation.images:,}"])
    return Table(["Class", "Precision", "Recall", "F1", "Images"], rows, footer=2)


def epoch_table(training: Training) -> Table:
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
    return Table(header, rows)


def stage_table(training: Training, recipe: Mapping[str, Any]) -> Table | None:
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
    header = ["Stage", "What learns", "Weights", "Epochs", "Steps", "Learning rate", *map(Literal, keys)]
    return Table(header, rows)


def hyperparameters(recipe: Mapping[str, Any]) -> Table | None:
    """The settings of the recipe that shaped the weights, or None when there are none."""
    unused = _without_effect(recipe)
    rows = [
        [Literal(f"{section}.{key}"), str(value).strip("[]").lower() if isinstance(value, bool | list) else value]
        for section in ("model", "train", "loss", "augment")
        for key, value in (recipe.get(section) or {}).items()
        if value not in (None, []) and key not in NOT_OF_WEIGHTS and not isinstance(value, dict)
        if f"{section}.{key}" not in unused
    ]
    return Table(["Setting", "Value"], rows) if rows else None


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
