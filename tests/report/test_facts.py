"""Rankings and sentences say what the figures say."""

from dataclasses import replace

import pytest
from report_figures import LABELS, evaluation

from fer_hf.report.facts import balance, changes, confusions, evaluations, findings, fitting, groups
from fer_hf.runs.records import Data, Epoch, Evaluation, Metrics, Split, Training, read_record


def record(*arguments, **names) -> Evaluation:
    return read_record(Evaluation, evaluation(*arguments, **names))


def test_a_class_without_images_is_neither_weak_nor_worst():
    without_sad = record("test", "pytorch", [[6, 1, 3], [0, 18, 2], [0, 0, 0]])
    assert groups(without_sad, LABELS) == {"strong": ["happy (92.3%)"], "moderate": ["angry (75.0%)"], "weak": []}
    _, limits = findings(without_sad)
    assert limits[0].startswith("“angry” is recognised worst")
    assert not any("sad" in sentence for sentence in limits)


def test_confusions_are_ranked_by_share_and_need_three_images():
    found = confusions(record("test", "pytorch", [[50, 30, 20], [2, 1, 0], [0, 4, 6]]), LABELS)
    assert found == [
        ("sad", "happy", 4, 0.4),
        ("angry", "happy", 30, 0.3),
        ("angry", "sad", 20, 0.2),
    ]


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
    assert even == "The commonest training class (angry) has 1.0 times the images of the rarest (angry)."
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
