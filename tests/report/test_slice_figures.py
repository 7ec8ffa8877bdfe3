"""The figure of slices holds the groups it was given, whatever they are called, and sentences say what is so."""

from dataclasses import replace

import pytest

from fer_hf.report.figures.slices import slices_figure
from fer_hf.report.slices import slice_cells, slice_sentences
from fer_hf.runs.analyses import Estimate, Group, Slices
from fer_hf.runs.records import Evaluation

EVALUATION = Evaluation("RAF-DB", "test", images=3068, accuracy=0.7)


def group(name: str, accuracy: float, **others) -> Group:
    return Group((name,), 200, Estimate(accuracy, accuracy - 0.05, accuracy + 0.05), Estimate(0.5, 0.4, 0.6), **others)


SLICES = Slices(
    evaluation="RAF-DB-test",
    attributes=("subject",),
    groups=[group("a $x$ <b>", 0.8, expected=0.7, units=9), group("b", 0.65, units=2, small=True), group("c", 0.6)],
    gap=Estimate(0.2, 0.13, 0.27),
    best=("a $x$ <b>",),
    worst=("c",),
    p=0.0001,
    permuted="person",
)


@pytest.mark.parametrize("number", [1, 2, 20])
def test_every_group_has_a_dot_an_interval_and_a_name(number):
    groups = [group(f"group {place}", 0.02 * place + 0.3) for place in range(number)]
    figure = slices_figure(replace(SLICES, groups=groups), EVALUATION)
    figure.canvas.draw()
    [axes] = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx([each.accuracy.value for each in groups])
    texts = axes.get_yticklabels()
    assert [text.get_text() for text in texts] == [f"group {place}  (200)" for place in range(number)]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    low, high = axes.get_xlim()
    assert high - low >= 0.2 - 1e-9


def test_what_is_small_is_hollow_and_starred():
    figure = slices_figure(SLICES, EVALUATION)
    figure.canvas.draw()
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True, False]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "a $x$ <b>  (200)"
    header, rows = slice_cells(SLICES)
    assert header[0] == "subject"
    assert [row[:4] for row in rows] == [
        ["a $x$ <b>", "200 of 9", "80.0% [75.0, 85.0]", "70.0%"],
        ["b *", "200 of 2", "65.0% [60.0, 70.0]", "–"],
        ["c", "200", "60.0% [55.0, 65.0]", "–"],
    ]


def test_sentences_say_what_was_tested():
    first, *_, last = slice_sentences(SLICES)
    assert first.endswith("more than chance (p < 0.001, people kept whole).")
    assert last == "* Fewer than 30 images or fewer than 5 people: too few to compare."
    chance = slice_sentences(replace(SLICES, p=0.2, permuted="image", tested=3, others=7))
    assert "chance could explain it (p = 0.2, corrected for 3 gaps)." in chance[0]
    assert "7 images of rarer values are left out" in chance[-1]
    assert slice_sentences(replace(SLICES, gap=None, groups=[])) == [
        "There is no gap to measure: no group is large enough."
    ]
