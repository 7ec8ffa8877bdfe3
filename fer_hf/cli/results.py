"""The stages that several commands share: load, evaluate, export, show.

Each reads the run folder, does its work through the library, and writes back plain files and its section of
metrics.json. All processes of a launch evaluate together; the main one alone exports, reports and prints.
"""

from rich.table import Column, Table

from fer_hf.console import output
from fer_hf.runs.folder import Run

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
