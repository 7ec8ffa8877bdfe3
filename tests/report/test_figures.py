"""The figures hold the numbers they were given, can be read at the width of a README, and leave no global state."""

from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from fer_hf.emotions import LABEL_SETS
from fer_hf.report.figures.classification import (
    confusion_matrix_figure,
    learning_curves_figure,
    per_class_figure,
    reliability_figure,
    write_figures,
)
from fer_hf.report.figures.comparison import comparison_figure
from fer_hf.report.figures.style import ORANGE, STYLE, class_styles, save_figure
from fer_hf.runs.records import Evaluation, Stage, Training, read_record

LABELS = ["angry", "disgust", "sur$prise$"]
COUNTS = [[6, 1, 3], [0, 0, 0], [4, 1000, 6]]
EVALUATION = read_record(
    Evaluation,
    {
        "dataset": "FER2013",
        "split": "validation",
        "images": 1020,
        "macro_f1": 0.4321,
        "expected_calibration_error": 0.0512,
        "confusion_matrix": COUNTS,
        "per_class": {
            "angry": {"precision": 0.6, "recall": 0.5, "f1": 0.55, "support": 10},
            "disgust": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
            "sur$prise$": {"precision": 0.9, "recall": 0.25, "f1": 0.375, "support": 1010},
        },
        "reliability": [
            {"confidence": 0.35, "accuracy": 0.4, "count": 20},
            {"confidence": 0.0, "accuracy": 0.0, "count": 0},
            {"confidence": 0.75, "accuracy": 0.6, "count": 980},
            {"confidence": 0.77, "accuracy": 0.7, "count": 20},
        ],
    },
)
TRAINING = read_record(
    Training,
    {
        "history": [
            {
                "epoch": 1.0,
                "train_loss": 1.7,
                "validation_loss": 1.5,
                "accuracy": 0.41,
                "macro_f1": 0.35,
                "train_accuracy": 0.3,
            },
            {"epoch": 2.0, "train_loss": 1.4, "validation_loss": None, "accuracy": 0.5},
            {
                "epoch": 3.0,
                "train_loss": 1.2,
                "validation_loss": 1.3,
                "accuracy": 0.55,
                "macro_f1": 0.5,
                "train_accuracy": 0.6,
            },
        ],
        "best": {"metric": "macro_f1", "value": 0.5, "epoch": 3.0, "step": 30},
    },
)


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_confusion_matrix_shows_shares_of_the_true_class_and_counts():
    figure = confusion_matrix_figure(EVALUATION, LABELS)
    shown = texts(figure)
    assert "Confusion matrix: FER2013, validation split (1,020 images)" in shown
    assert {"60%", "10%", "30%", "1,000", "99%"} <= set(shown)
    shares = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shares.sum(axis=1), [1, 0, 1])  # a class without images is a row of zeros, not of NaN
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == LABELS


def test_per_class_bars_have_the_heights_of_the_scores():
    figure = per_class_figure(EVALUATION, LABELS)
    axes = figure.axes[0]
    heights = [[bar.get_height() for bar in container] for container in axes.containers]
    scores = [EVALUATION.per_class[label] for label in LABELS]
    assert heights == [[getattr(score, metric) for score in scores] for metric in ("precision", "recall", "f1")]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["angry\n10", "disgust\n0", "sur$prise$\n1,010"]
    assert "macro F1, 43.2%" in texts(figure)


def test_learning_curves_draw_what_was_measured_and_mark_the_best_epoch():
    figure = learning_curves_figure(TRAINING, "FER2013")
    lines = {line.get_label(): line.get_xydata().tolist() for axes in figure.axes for line in axes.lines}
    assert lines["training"] == [[1, 1.7], [2, 1.4], [3, 1.2]]
    assert lines["validation"] == [[1, 1.5], [3, 1.3]]  # epochs without the figure are left out
    assert lines["validation macro F1"] == [[1, 0.35], [3, 0.5]]
    assert lines["training accuracy"] == [[1, 0.3], [3, 0.6]]
    assert [x for x, _ in lines["best: epoch 3"]] == [3, 3]
    assert "Learning curves: FER2013, training and validation splits" in texts(figure)


def test_learning_curves_name_each_stage_where_it_begins():
    stages = [Stage("head", 7, 1, 5, 0.01), Stage(["blocks.6"], 70, 1.5, 8, 0.01), Stage(2, 90, 0.5, 3, 0.01)]
    figure = learning_curves_figure(replace(TRAINING, stages=stages), "FER2013")
    for axes in figure.axes:
        assert {text.get_text(): text.xy[0] for text in axes.texts} == {
            "1: head": 0,
            "2: head + blocks.6": 1,
            "3: head + 2 layers": 2.5,
        }
        assert [line.get_xdata()[0] for line in axes.lines if line.get_color() == "black"] == [1, 2.5]
    assert not learning_curves_figure(replace(TRAINING, stages=stages[:1]), "FER2013").axes[0].texts


def test_reliability_diagram_leaves_out_empty_bins_and_names_the_error():
    figure = reliability_figure(EVALUATION)
    above, below = figure.axes
    (model,) = [line for line in above.lines if line.get_label() == "this model"]
    assert model.get_xydata().tolist() == [[0.35, 0.4], [0.75, 0.6], [0.77, 0.7]]
    bars = below.containers[0]
    assert [bar.get_height() for bar in bars] == pytest.approx([20 / 1020, 980 / 1020, 20 / 1020])
    assert bars[1].get_x() + bars[1].get_width() <= bars[2].get_x()  # bars do not overlap
    assert "expected calibration error: 5.1%" in texts(figure)


def test_written_files_are_small_and_wide_enough_and_change_no_global_state(tmp_path):
    before = {key: matplotlib.rcParams[key] for key in STYLE}
    names = write_figures(tmp_path, EVALUATION, LABELS, TRAINING, "FER2013")
    assert {key: matplotlib.rcParams[key] for key in STYLE} == before != STYLE
    assert sorted(names) == ["confusion_matrix", "learning_curves", "per_class", "reliability"]
    for name in names:
        file = tmp_path / f"{name}.png"
        with Image.open(file) as image:
            assert image.width == 1050
            assert image.convert("L").getextrema() == (0, 255)  # something is drawn, on white
        assert file.stat().st_size < 250_000


@pytest.mark.parametrize("training", [None, Training()])
def test_without_a_history_there_are_no_curves_not_even_old_ones(tmp_path, training):
    (tmp_path / "learning_curves.png").write_bytes(b"old")
    assert "learning_curves" not in write_figures(tmp_path, EVALUATION, LABELS, training, "FER2013")
    kept = ("confusion_matrix", "per_class", "reliability")
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}{end}" for name in kept for end in (".png", ".svg")}


def test_a_single_epoch_and_a_single_bin_can_be_drawn(tmp_path):
    evaluation = replace(EVALUATION, reliability=EVALUATION.reliability[:1])
    training = Training(history=TRAINING.history[:1])
    assert len(write_figures(tmp_path, evaluation, LABELS, training, "FER2013")) == 4


COST = "CPU latency of one image, ms (median)"


def configuration(name, mean, latency):
    shared = {"dataset": "FER2013", "split": "test", "images": 3589}
    return SimpleNamespace(**shared, name=name, mean=mean, low=mean - 0.02, high=mean + 0.01, x=latency)


def test_accuracy_and_latency_have_intervals_and_a_front_of_what_nothing_faster_beats():
    rows = [configuration("b0", 0.70, 20.0), configuration("slow", 0.69, 30.0), configuration("vit", 0.72, 90.0)]
    five = [*rows, configuration("tiny", 0.60, 5.0), configuration("b0x", 0.68, 20)]
    figure = comparison_figure(five, "macro_f1", "latency", COST)
    axes = figure.axes[0]
    assert {"Macro F1 and latency: FER2013, test split (3,589 images)", "macro F1", "2"} <= set(texts(figure))
    assert any("2  slow" in text for text in texts(figure))
    assert axes.lines[0].get_xydata().tolist() == [[5, 0.6], [20, 0.7], [90, 0.72]]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    bars = axes.containers[0].lines[2][0].get_segments()
    assert np.round(bars[0], 3).tolist() == [[5, 0.58], [5, 0.61]]
    colours = {tuple(points.get_facecolor()[0]): len(points.get_offsets()) for points in axes.collections[1:]}
    assert colours[to_rgba(ORANGE)] == 3
    assert axes.get_xscale() == "log"
    assert comparison_figure(rows, "accuracy", "latency", COST).axes[0].get_xscale() == "linear"
    assert comparison_figure(rows[:1], "accuracy", "latency", COST).axes[0].get_xscale() == "linear"


def test_a_key_of_the_recipe_is_an_axis_of_numbers_that_are_joined_or_of_text():
    mixtures = [("half", 0.5), ("men", 0.0), ("all", None), ("women", 1.0)]
    rows = [configuration(name, 0.7 - at / 100, share) for at, (name, share) in enumerate(mixtures)]
    figure = comparison_figure(rows, "accuracy", "data.mixture.gender.female")
    axes = figure.axes[0]
    assert axes.get_xscale() == "linear"  # from 0 on
    assert axes.get_xlabel() == "data.mixture.gender.female"
    assert np.round(axes.lines[0].get_xydata(), 2).tolist() == [[0, 0.69], [0.5, 0.7], [1, 0.67]]
    assert {text.get_text(): text.xy[0] for text in axes.texts} == {"1": 0.5, "2": 0.0, "4": 1.0}  # as in the table
    rows = [
        configuration("a", 0.7, "vit_tiny"),
        configuration("b", 0.6, "resnet18"),
        configuration("c", 0.5, "vit_tiny"),
    ]
    axes = comparison_figure(rows, "accuracy", "model.name").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["resnet18", "vit_tiny"]
    assert [text.xy for text in axes.texts] == [(0, 0.6), (1, 0.7), (1, 0.5)]
    assert comparison_figure([configuration("a", 0.7, None)], "accuracy", "images", "training images").axes


def test_twenty_configurations_are_numbered_in_the_order_of_the_table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [configuration(f"configuration_{i}", 0.66 - i / 1000, 10 * (1 + rng.normal(0, 0.1))) for i in range(20)]
    figure = comparison_figure(rows, "accuracy", "latency", COST)
    axes = figure.axes[0]
    numbers = {text.get_text(): text.xy for text in axes.texts if text.get_text().isdigit()}
    assert len(numbers) == 20
    assert numbers["3"] == (rows[2].x, rows[2].mean)
    save_figure(figure, tmp_path / "compare.png")
    names = next(legend for legend in figure.legends if "20  configuration_19" in texts(legend))
    box = names.get_window_extent()
    assert axes.bbox.x1 < box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 < box.y0
    with Image.open(tmp_path / "compare.png") as image:
        assert image.width == 1050


def test_a_class_has_one_colour_in_every_figure_whatever_else_is_in_it():
    seven, few = class_styles(LABEL_SETS["fer7"]), class_styles(["bored", "sad", "Happiness"])
    assert (few["sad"], few["Happiness"]) == (seven["sad"], seven["happy"])
    assert few["bored"] not in (few["sad"], few["Happiness"])
    assert len({(style.colour, style.marker) for style in class_styles(LABEL_SETS["fer8"]).values()}) == 8
    assert len(class_styles([f"other {number}" for number in range(20)])) == 20


def test_an_svg_is_well_formed_named_and_equal_each_time(tmp_path):
    name = "a < b & \x01 </svg><script>x</script>"
    drawn = []
    for file in ("a.png", "b.png"):
        figure = comparison_figure([configuration(name, 0.7, 1.0)], "accuracy", name)
        save_figure(figure, tmp_path / file, f"see {name}")
        drawn.append((tmp_path / file).with_suffix(".svg").read_bytes())
    root = ElementTree.fromstring(drawn[0])
    assert drawn[0] == drawn[1]
    assert root.find("{*}desc").text == "see " + name.replace("\x01", "")
    assert root.find("{*}title").text.startswith("Accuracy and a < b")
    assert root.get("role") == "img"
    assert not list(root.iter("{*}script"))
