"""Rankings and sentences say what the figures say."""

from dataclasses import replace

import pytest
from report_figures import LABELS, evaluation

from fer_hf.report.facts import (
    balance,
    change,
    changes,
    confusions,
    evaluations,
    findings,
    fitting,
    groups,
    known_people,
    origin,
    stage_of,
)
from fer_hf.runs.records import Data, Epoch, Evaluation, Metrics, Model, Split, Stage, Training, read_record


def record(*arguments, **names) -> Evaluation:
    return read_record(Evaluation, evaluation(*arguments, **names))


def test_a_class_without_images_is_neither_weak_nor_worst():
    without_sad = record("test", "pytorch", [[6, 1, 3], [0, 18, 2], [0, 0, 0]])
    assert groups(without_sad, LABELS) == {"strong": ["happy (92.3%)"], "moderate": ["angry (75.0%)"], "weak": []}
    _, limits = findings(without_sad)
    assert limits[0].startswith("“angry” is recognised worst")
    assert [sentence for sentence in limits if "sad" in sentence] == [
        "No images, so nothing is known of how well these are recognised: sad."
    ]


def test_confusions_are_ranked_by_images_and_need_three():
    counts = [[500, 300, 200], [2, 1, 0], [0, 3, 0]]
    assert confusions(record("test", "pytorch", counts), LABELS) == [
        ("angry", "happy", 300, 0.3),
        ("angry", "sad", 200, 0.2),
        ("sad", "happy", 3, 1.0),  # all of its class, which says little
    ]


@pytest.mark.parametrize(
    ("counts", "strengths", "limits"),
    [
        # half are of the commonest class, and half are right
        (
            [[5, 5], [5, 5]],
            [],
            ["Accuracy is about that of always answering “angry”, one of the commonest classes (50.0%)."],
        ),
        ([[9001, 999], [9000, 1000]], [], ["Accuracy is about that of always answering “angry”"]),
        (
            [[4, 6], [7, 3]],
            [],
            ["Accuracy is 15.0 points below that", "No class is recognised well, “angry” best: F1 38.1%"],
        ),
        (
            [[7, 3], [3, 7]],
            ["Accuracy is 20.0 points above", "“happy” is recognised best: F1 70.0%"],
            ["worst: F1 70.0%"],
        ),
        ([[99, 1], [2, 98]], ["All classes are recognised well, “happy” worst: F1 98.5%"], []),
        (
            [[10, 0], [0, 0]],
            ["“angry” is recognised best: F1 100.0%"],
            ["No images, so nothing", "about that of always"],
        ),
    ],
)
def test_what_is_weak_is_no_strength_and_nothing_rounds_to_zero_points(counts, strengths, limits):
    good, bad = findings(record("test", "pytorch", counts, labels=["angry", "happy"]))
    for expected, sentences in ((strengths, good), (limits, bad)):
        for part in expected:
            assert any(part in sentence for sentence in sentences), (part, good, bad)
    assert not any(" 0.0 points" in sentence for sentence in good + bad)
    assert not any("two most probable" in sentence for sentence in good + bad)  # of two classes, it always is
    assert not any("worst" in sentence for sentence in good + bad) or len([row for row in counts if sum(row)]) > 1


def test_a_lead_within_the_interval_is_no_strength():
    found = record("test", "pytorch", [[7, 3], [3, 7]], labels=["angry", "happy"])
    for low, is_strength in ((0.49, False), (0.51, True)):
        good, bad = findings(replace(found, accuracy_ci=(low, 0.9)))
        assert any("20.0 points above" in sentence for sentence in (good if is_strength else bad))
        assert any("chance could explain" in sentence for sentence in bad) == (not is_strength)


@pytest.mark.parametrize(("share", "strength", "limit"), [(0.9, 1, 0), (0.7, 0, 0), (0.4, 0, 1)])
def test_the_two_most_probable_classes_are_praised_where_they_are_good(share, strength, limit):
    found = replace(record("test", "pytorch", [[5, 3, 2], [3, 5, 2], [3, 3, 4]]), top_2_accuracy=share)
    assert [sum("two most probable" in s for s in sentences) for sentences in findings(found)] == [strength, limit]


def test_a_change_that_rounds_to_nothing_is_told_from_none():
    assert change(0.0) == "leaves accuracy as it is"
    assert change(-0.028) == change(0.028) == "changes accuracy by less than 0.1 points"
    assert (change(-0.3), change(0.06)) == ("changes accuracy by -0.3 points", "changes accuracy by +0.1 points")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Model(base_model="timm/x"), "`timm/x`"),
        (Model(pretrained=False), "random weights"),
        (Model(weights="vgg.pt"), "`vgg.pt`, a file of weights"),
        (Model(parent="mine/1", pretrained=False), "`mine/1`, which goes back to random weights"),
        (Model(parent="mine/1", base_model="timm/x"), "`mine/1`, which goes back to `timm/x`"),
        (Model(parent="mine/1", weights="vgg.pt"), "`mine/1`, which goes back to `vgg.pt`, a file of weights"),
        (Model(name="folder", parent="folder"), "`folder`, whose own origin is not recorded"),
        (Model(name="20260131-175900"), "`20260131-175900`, whose own origin is not recorded"),  # an older file
        (Model(), "pretrained weights"),
    ],
)
def test_where_the_weights_come_from(model, expected):
    assert origin(model) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (None, "Whether such attributes are known of these images is not recorded."),
        ({}, "No such attributes are known of these images."),
        (
            {"gender": 38, "age": 40},
            "Known are gender (of 38 of the 40 images), age (of 40 of the 40 images): `x.parquet`",
        ),
    ],
)
def test_what_is_known_of_the_people(attributes, expected):
    found = record("test", "pytorch", [[6, 1, 3], [0, 18, 2], [4, 0, 6]])
    assert known_people(replace(found, predictions="x.parquet", attributes=attributes)).startswith(expected)


def test_epochs_are_those_of_the_stage_in_which_they_ended():
    stages = [Stage("head", 7, 1, 5, 0.01), Stage("all", 70, 2.5, 8, 0.01)]
    training = Training(stages=stages)
    assert [stage_of(training, epoch) for epoch in (0.5, 1.0, 1.5, 3.5, 3.50005)] == [0, 0, 1, 1, 1]


def test_changes_compare_the_same_images_only():
    ordered = [
        record("validation", "int8", [[5, 1, 4], [0, 18, 2], [4, 0, 6]]),
        record("validation", "pytorch", [[7, 1, 2], [0, 18, 2], [4, 0, 6]]),
        record("validation", "onnx", [[7, 1, 2], [0, 18, 2], [4, 0, 6]]),
        record("test", "pytorch", [[6, 1, 3], [0, 18, 2], [4, 0, 6]]),
    ]
    assert [(after.format, points) for _, after, points in changes(ordered)] == [("int8", -5.0), ("onnx", 0.0)]
    assert changes([ordered[0], replace(ordered[1], images=ordered[1].images + 1)]) == []
    assert changes([replace(ordered[0], content="a"), replace(ordered[1], content="b")]) == []
    assert len(changes([replace(ordered[0], content="a"), ordered[1]])) == 1  # an older file does not tell


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([(1.0, 0.9), (0.8, 0.7), (0.5, 0.8)], "has risen since epoch 2"),
        ([(1.0, 0.9), (0.8, 0.8), (0.5, 0.7)], "lowest at the last epoch (0.700)"),
        ([(1.0, 0.9), (0.8, 0.7), (0.5, 0.702)], "has been flat since epoch 2"),
        ([(1.0, 0.9), (0.8, 0.7), (0.9, 0.8)], "Neither loss has improved since epoch 2"),
        ([(1.0, 0.9), (0.8, None)], None),
    ],
)
def test_what_the_losses_say(losses, message):
    history = [
        Epoch(n, train_loss=train, validation_loss=validation) for n, (train, validation) in enumerate(losses, 1)
    ]
    sentence = fitting(Training(history=history))
    assert (sentence is None) if message is None else (message in sentence)


def test_classes_are_uneven_beyond_half_and_one_and_a_half_times_an_even_share():
    train = Split(400, {"angry": 100, "happy": 260, "sad": 40, "fear": 0})
    assert balance(Data(splits={"train": train})) == (
        "The commonest training class (happy) has 6.5 times the images of the rarest (sad). Over-represented, with "
        "more than 1.5 times an even share: happy. Under-represented, with less than half of an even share: sad."
    )
    even = balance(Data(splits={"train": Split(20, {"angry": 10, "sad": 10})}))
    assert even == "The training classes have about equally many images."
    assert balance(Data(splits={"train": Split(20, {"angry": 1040, "sad": 1000})})) == even
    assert balance(Data(splits={"train": Split(20, {"angry": 20, "sad": 0})})) is None
    assert balance(Data()) is None


def test_other_data_of_the_same_name_come_after_the_runs_own():
    counts = [[6, 1, 3], [0, 18, 2], [4, 0, 6]]
    other = replace(record("test", "pytorch", counts), own=False, content="b")
    own = replace(record("test", "pytorch", counts), own=True, content="a")
    older = record("test", "onnx", counts)
    flip, int8 = replace(own, tta="flip"), replace(own, format="int8")
    metrics = Metrics(
        data=Data(dataset="FER2013"), evaluations={str(n): e for n, e in enumerate([other, int8, older, flip, own])}
    )
    assert evaluations(metrics) == [own, flip, older, int8, other]
