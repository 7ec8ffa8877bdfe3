"""What the model is, what it learnt from and how, and what all of that comes to, in plain words."""

from collections.abc import Iterator

import yaml

from fer_hf.console import counted
from fer_hf.report import facts, tables
from fer_hf.report.blocks import (
    Block,
    Bullets,
    Code,
    Details,
    Missing,
    Sentence,
    Table,
    Text,
    picture,
)
from fer_hf.report.figures.classification import ALT, learning_curves_figure
from fer_hf.report.markdown import duration, number, percent
from fer_hf.report.material import Material
from fer_hf.report.recommendations import recommendations
from fer_hf.runs.records import Training


def summary(material: Material) -> Iterator[Block]:
    """Accuracy, the best and the worst, and what to do next, each with the section that shows it."""
    main, metrics = material.main, material.metrics
    yield Text(
        f"On the {main.split} split of {main.dataset} the model gives {percent(main.accuracy, main.accuracy_ci)} of "
        f"{counted(main.images, 'face')}{main.of_all} the label that the dataset gives them (macro F1 "
        f"{percent(main.macro_f1, main.macro_f1_ci)}).",
        "lead",
    )
    if main.split != "test":
        yield Text("This is not a test score: the model has no figures on a test split.", "note")
    if metrics.data and metrics.data.source == "toy":
        yield Text("The model has learnt from procedural drawings and is of no use on photographs.", "note")
    for note in metrics.model.notes if metrics.model else ():
        yield Text(note, "note")
    for section, reason in material.problems.items():
        yield Text(f"A record cannot be read and is left out: {section}: {reason}", "note")
    strengths, limits = facts.findings(main)
    yield (
        Bullets([Sentence(text, _section_of(text)) for text in strengths], "Strengths")
        if strengths
        else Text("None of the strengths that are looked for was found.")
    )
    if limits:
        yield Bullets([Sentence(text, _section_of(text)) for text in limits], "Limits")
    if advice := recommendations(metrics, main, material.key):
        yield Bullets(advice, "What the figures suggest")
    yield Text(
        "Brackets hold 95 % bootstrap intervals. The labels are expressions that people perceive; they do not say what "
        "anyone feels.",
        "quiet",
    )


def _section_of(sentence: str) -> str:
    """Where the figures of a sentence of `facts.findings` are shown."""
    if sentence.startswith("Probabilities"):
        return "calibration"
    return "results" if sentence.startswith(("Accuracy", "Balanced", "For ")) else "classes"


def data(material: Material) -> Iterator[Block]:
    """The images of each class in each split, and what is known of them."""
    data = material.metrics.data
    if not data:
        yield Missing("The run holds no record of the training data.")
        return
    licence = f" Licence: {data.license}." if data.license else ""
    yield Text(f"{data.dataset or data.source}.{licence}")
    if made := tables.split_table(data):
        yield made
    if sentence := facts.balance(data):
        yield Text(sentence)
    notes = [f"Images of {label} left out: {count:,}." for label, count in data.dropped.items() if count]
    notes += [f"Images skipped because they could not be read: {len(data.skipped):,}."] if data.skipped else []
    if notes := [*notes, *(note.replace("`", "") for note in data.notes)]:
        yield Bullets(notes)


def configuration(material: Material) -> Iterator[Block]:
    """The network and every setting."""
    model, metrics = material.metrics.model, material.metrics
    if model:
        size = " × ".join(map(str, model.image_size))
        facts_of = {
            "Architecture": model.architecture,
            "Starts from": str(facts.origin(model)).replace("`", ""),
            "Classifier head": model.head,
            "Parameters": f"{model.parameters:,}" if model.parameters else None,
            "Input": f"{size} pixels, RGB" if size else None,
        }
        yield Table(["Network", "Value"], [[name, value or "not recorded"] for name, value in facts_of.items()])
    else:
        yield Missing("The run holds no record of the network.")
    settings = tables.hyperparameters(metrics.recipe)
    if settings:
        yield settings
    if metrics.training and (stages := tables.stage_table(metrics.training, metrics.recipe)):
        yield stages
    if metrics.recipe:
        text = yaml.safe_dump(dict(metrics.recipe), sort_keys=False, allow_unicode=True, width=100)
        yield Details("The recipe, with every default filled in", [Code(text)])
    else:
        yield Missing("The run holds no recipe.")


def learning(material: Material) -> Iterator[Block]:
    """Progress by epoch, with a remark on over-fitting."""
    training = material.metrics.training
    if not training:
        yield Missing("The run holds no record of a training: this model was evaluated only.")
        return
    yield Text(_training(training))
    if not training.history:
        yield Missing("No epoch was evaluated on a validation split, so there are no curves.")
        return
    if sentence := facts.fitting(training):
        yield Text(
            f"{sentence} The training loss is measured with augmentation, and with dropout and label smoothing where "
            "the recipe has them, so the two losses are not on quite the same scale."
        )
    dataset = (material.metrics.data.dataset if material.metrics.data else None) or ""
    figure = learning_curves_figure(training, dataset)
    yield picture(figure, ALT["learning_curves"])
    yield tables.epoch_table(training)
    if training.profile:
        total = sum(training.profile.values()) or 1
        ranked = sorted(training.profile.items(), key=lambda item: -item[1])
        rows = [[part, f"{spent:.1f}", percent(spent / total)] for part, spent in ranked]
        yield Table(["Part of a step", "Seconds", "Share"], rows, "Where the time went")


def _training(training: Training) -> str:
    batch = training.effective_batch_size
    text = f"{counted(training.epochs, 'epoch')}, {counted(training.steps, 'optimiser step')}"
    text += f" of {counted(batch, 'image')}" if batch else ""
    text += f", in {duration(training.seconds)}"
    text += f" ({training.images_per_second:.1f} images/s)." if training.images_per_second else "."
    if best := training.best:
        value = number(best.value) if "loss" in best.metric else percent(best.value)
        text += f" The weights are those of epoch {best.epoch:g}, chosen by {best.metric} on the validation split "
        text += f"({value})."
    text += " Training stopped early because the metric no longer improved." if training.stopped_early else ""
    memory = f" It took {training.peak_memory_mb:,.0f} MB of memory at most." if training.peak_memory_mb else ""
    return text + memory
