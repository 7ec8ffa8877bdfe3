"""The stages that several commands share: load, evaluate, export, show.

Each reads the run folder, does its work through the library, and writes back plain files and its section of
metrics.json. All processes of a launch evaluate together; the main one alone exports, reports and prints.
"""

import logging
import re
import warnings
from pathlib import Path

import datasets
import transformers
from accelerate import Accelerator
from rich.table import Column, Table

from fer_hf.data import Faces, load_faces
from fer_hf.deploy.onnx import FLOAT, INT8, export_onnx, load_onnx, pixel_values, quantise, require_optimum, sample
from fer_hf.errors import UserError
from fer_hf.evaluation.predict import evaluate_split
from fer_hf.images import ImageSpec
from fer_hf.launch import processes
from fer_hf.models.load import load_model
from fer_hf.progress import output
from fer_hf.recipe import Recipe
from fer_hf.run import Run, csv_text
from fer_hf.training.batch_size import memory_explained

ONNX_FILES = {"onnx": FLOAT, "int8": INT8}
NETWORK = "the network itself: a smaller model.image_size, or a smaller model, is faster"
ADVICE = {  # for the part of a training that takes longest
    "data": "decoding images anew in each epoch: for want of room on the disk, or since they have many sizes and "
    "augment.enabled is false",
    "augmentation": "the transforms: see the section augment of the recipe",
    "forward": NETWORK,
    "backward": NETWORK,
    "optimiser": "the optimiser: a larger batch takes fewer steps",
    "checkpoint": "checkpoints: raise train.save_steps",
    "logging": "logging: raise train.logging_steps",
    "evaluation": "evaluation, after each epoch: of large images, or of many beside those of training",
    "other": "the Trainer's own loop: a larger batch takes fewer turns of it",
}


def quiet_libraries() -> None:
    """Leave the terminal to our own lines: bars and chatter of the libraries off, their errors on."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def load(recipe: Recipe, elsewhere: str | None = None, labels: tuple[str, ...] | None = None) -> Faces:
    """The faces of a recipe, or to evaluate on those of a source elsewhere; the main process goes first."""
    settings = recipe.data.model_dump()
    source, label_set = settings.pop("source"), settings.pop("label_set")
    if elsewhere:
        about_own_data = ("exclude", "mixture", "fraction", "per_class", "absent_classes")
        settings = {key: value for key, value in settings.items() if key not in about_own_data}
        settings["purpose"] = "evaluation"
    with processes().main_process_first():
        return load_faces(elsewhere or source, labels or label_set, **settings)


def splits_csv(faces: Faces) -> str:
    """The ids and labels in each split, as the run folder keeps them."""
    rows = (
        (split, name, faces.label_names[label])
        for split, data in faces.splits.items()
        for name, label in zip(data["id"][:], data["label"][:], strict=True)
    )
    return csv_text(("split", "id", "label"), rows)


def check_splits(run: Run, faces: Faces) -> None:
    """Refuse other images than those that the run was started with: some may have moved to another split."""
    file = run.splits_file
    if file.is_file() and file.read_text(encoding="utf-8").splitlines() != splits_csv(faces).splitlines():
        raise UserError(
            f"{run.path} was started with other images, labels or splits (splits.csv): the dataset, or the file that "
            "data.exclude names, has changed since. Bring it back to what it was, or start a new run."
        )


def remarks(faces: Faces) -> list[str]:
    """What a user should know of a dataset: how it was split, what was dropped and skipped."""
    dropped = [f"{count:,} images of {emotion} were dropped." for emotion, count in faces.dropped.items() if count]
    skipped = [f"skipped: {', '.join(faces.skipped[:5])}{' ...' if len(faces.skipped) > 5 else ''}"]
    return [*faces.notes, *dropped, *(skipped if faces.skipped else [])]


def evaluate_to(
    run: Run,
    model: str | Path,
    faces: Faces,
    split: str,
    format: str = "pytorch",
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    tta: str = "none",
) -> str:
    """Evaluate one file of a model and write predictions and figures to `run`; returns their name.

    The labels of `faces` are in the model's order. Figures with test-time augmentation have a name of their own, and
    the key `tta` beside `format`, which plain ones lack.
    """
    if split not in faces.splits:
        raise UserError(f"{faces.dataset} has no {split} split; it has {', '.join(faces.splits)}.")
    loaded = load_model(str(model))
    classifier = loaded.model if format == "pytorch" else load_onnx(model, ONNX_FILES[format])
    dataset = faces.source if faces.source in ("fer2013", "toy") else re.sub(r"[^\w.-]+", "-", faces.dataset)
    name = f"{dataset}-{split}" + ("" if format == "pytorch" else f"-{format}") + ("" if tta == "none" else f"-{tta}")
    path = run.predictions / f"{name}.parquet"
    spec = ImageSpec.from_processor(loaded.processor)
    settings = "train.per_device_eval_batch_size, or --batch-size of fer-hf evaluate"
    with memory_explained(lambda: f"with {batch_size} images at once: lower {settings}."):
        figures = evaluate_split(classifier, faces.splits[split], spec, path, batch_size, accelerator, tta)
    if accelerator is None or accelerator.is_main_process:
        entry = {
            "dataset": faces.dataset,
            "split": split,
            "format": format,
            **({} if tta == "none" else {"tta": tta}),
            "predictions": f"predictions/{path.name}",
            "processes": accelerator.num_processes if accelerator else 1,
            "label_names": list(faces.label_names),
        }
        run.update_metrics(evaluations={name: entry | figures})
    return name


def export_run(run: Run, recipe: Recipe, int8: bool, faces: Faces | None = None) -> None:
    """ONNX, and INT8 when asked, each measured on the validation split."""
    require_optimum()
    spec = ImageSpec.from_processor(load_model(str(run.finished_model())).processor)
    faces = faces or load(recipe)
    check = pixel_values(sample(faces.splits["validation"], 64), spec)
    exported = {"onnx": export_onnx(run.model, check)}
    if int8:
        calibration = sample(faces.splits["train"], recipe.export.calibration_images)
        exported["int8"] = quantise(run.model, calibration, spec, recipe.export.calibration)
    run.update_metrics(export=exported)
    rows = run.metrics().get("evaluations", {}).values()
    known = [(row["dataset"], row["split"], row["format"]) for row in rows if "tta" not in row]
    for format in exported if (faces.dataset, "validation", "pytorch") in known else ("pytorch", *exported):
        evaluate_to(run, run.model, faces, "validation", format, recipe.train.per_device_eval_batch_size)


def print_results(run: Run, only: str | None = None) -> None:
    """The figures of a run as a table on stdout, and where its files are."""
    table = Table(Column("split", no_wrap=True), Column("format", no_wrap=True))
    for heading in ("accuracy [95 %]", "macro F1", "top 2", "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)
    datasets_shown = set()
    for name, row in run.metrics().get("evaluations", {}).items():
        if only in (None, name):
            datasets_shown.add(f"{row['dataset']} {row['split']}: {row['images']:,} images")
            low, high = row["accuracy_ci"]
            table.add_row(
                row["split"],
                f"{row['format']} + {row['tta']}" if "tta" in row else row["format"],
                f"{row['accuracy']:.1%} [{low * 100:.1f}, {high * 100:.1f}]",
                f"{row['macro_f1']:.1%}",
                f"{row['top_2_accuracy']:.1%}",
                f"{row['expected_calibration_error']:.1%}",
            )
    output.print("\n".join(sorted(datasets_shown)))
    output.print(table)
    for what, path in {"metrics": run.metrics_file, "model": run.model, "card": run.model / "README.md"}.items():
        if path.exists():
            output.print(f"{what + ':':9}{path}", soft_wrap=True)


def print_profile(run: Run) -> None:
    """Where the time of a training went, as a table on stdout, and what to do about the longest part."""
    training = run.metrics()["training"]
    if "profile" not in training:
        output.print("No profile: the training was over before.")
        return
    seconds = dict(sorted(training["profile"].items(), key=lambda item: -item[1]))
    total = sum(seconds.values())
    table = Table("part", Column("seconds", justify="right"), Column("share", justify="right"))
    for part, spent in seconds.items():
        table.add_row(part, f"{spent:.1f}", f"{spent / total:.1%}")
    output.print(table)
    said = f"It is held up by {ADVICE[next(iter(seconds))]}. Memory: {training['peak_memory_mb']:,.0f} MiB at most."
    output.print(said, soft_wrap=True)
