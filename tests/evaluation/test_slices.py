"""Figures of groups are those of scikit-learn and fairlearn, and chance is called chance, also where people repeat."""

from itertools import combinations

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, equalized_odds_difference
from scipy.stats import fisher_exact
from sklearn.metrics import accuracy_score, f1_score

from fer_hf.errors import UserError
from fer_hf.evaluation.attributes import groups_of, usual
from fer_hf.evaluation.slices import equalised_odds_difference as odds_difference
from fer_hf.evaluation.slices import gap_p_value, slice_predictions
from fer_hf.runs.predictions import Predictions

NAMES = ("angry", "happy", "sad")


def made_up(labels, predicted, **attributes) -> Predictions:
    ids = [f"{number:04}" for number in range(len(labels))]
    columns = {name: list(values) for name, values in attributes.items()}
    return Predictions(ids, np.asarray(labels), 3 * np.eye(3)[np.asarray(predicted)], NAMES, columns)


@pytest.fixture
def predictions() -> Predictions:
    """Women are recognised better than men, and old men worst."""
    rng = np.random.default_rng(0)
    labels, gender = rng.choice(3, 900, p=[0.5, 0.3, 0.2]), rng.choice(["female", "male"], 900)
    age = rng.choice(["20-39", "70+"], 900, p=[0.7, 0.3])
    chance = np.where(gender == "female", 0.8, np.where(age == "70+", 0.5, 0.7))
    predicted = np.where(rng.random(900) < chance, labels, (labels + rng.integers(1, 3, 900)) % 3)
    return made_up(labels, predicted, gender=gender, age=age)


def test_groups_have_the_figures_of_fairlearn(predictions):
    scores = {"accuracy": accuracy_score, "macro_f1": lambda true, said: f1_score(true, said, average="macro")}
    alone, pair = slice_predictions(predictions, [("gender",), ("gender", "age")], "toy-test")
    for slices in (alone, pair):
        features = {name: predictions.attributes[name] for name in slices.attributes}
        frame = MetricFrame(
            metrics=scores, y_true=predictions.labels, y_pred=predictions.predicted, sensitive_features=features
        )
        assert len(slices.groups) == len(frame.by_group)
        for group in slices.groups:
            wanted = frame.by_group.loc[group.values if len(group.values) > 1 else group.values[0]]
            assert group.accuracy.value == pytest.approx(wanted["accuracy"])
            assert group.macro_f1.value == pytest.approx(wanted["macro_f1"])
        assert slices.gap.value == pytest.approx(frame.difference()["accuracy"])
        together = ["/".join(row) for row in zip(*features.values(), strict=True)]
        true, said = predictions.labels, predictions.predicted
        odds = [equalized_odds_difference(true == c, said == c, sensitive_features=together) for c in range(3)]
        assert slices.equalised_odds_difference == pytest.approx(max(odds))
    assert (alone.evaluation, alone.best, alone.worst, alone.tested) == ("toy-test", ("female",), ("male",), 2)
    assert pair.worst == ("male", "70+")
    assert pair.p < 0.01
    assert sum(group.images for group in pair.groups) == 900


def test_intervals_are_as_wide_as_the_theory_says(predictions):
    [slices] = slice_predictions(predictions, [("gender",)])
    variance = 0.0
    for group in slices.groups:
        share = group.accuracy.value
        variance += share * (1 - share) / group.images
        assert (group.accuracy.high - group.accuracy.low) / 2 == pytest.approx(
            1.96 * (share * (1 - share) / group.images) ** 0.5, rel=0.1
        )
        assert group.macro_f1.low < group.macro_f1.value < group.macro_f1.high
    assert (slices.gap.high - slices.gap.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.1)


def test_the_p_value_of_two_groups_is_that_of_fishers_exact_test():
    groups = np.repeat([0, 1], [40, 60])
    for hits in ([36, 42], [30, 44], [20, 30]):
        right = np.concatenate([np.arange(40) < hits[0], np.arange(60) < hits[1]])
        table = [[hits[0], 40 - hits[0]], [hits[1], 60 - hits[1]]]
        # Fisher sums what is as improbable, we what is as far apart: nearly the same
        assert gap_p_value(right, groups) == pytest.approx(fisher_exact(table).pvalue, abs=0.03)


def test_people_are_dealt_out_whole():
    """All 70 ways of giving four of eight people to the first group."""
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(8), rng.integers(5, 15, 8))
    right, groups = rng.random(len(people)) < np.linspace(0.2, 0.9, 8)[people], people % 2
    gaps = []
    for chosen in combinations(range(8), 4):
        first = np.isin(people, chosen)
        gaps.append(abs(right[first].mean() - right[~first].mean()))
    seen = abs(right[groups == 0].mean() - right[groups == 1].mean())
    exact = np.mean(np.array(gaps) >= seen - 1e-9)
    assert gap_p_value(right, groups, people) == pytest.approx(exact, abs=0.02)


def test_images_of_few_people_are_no_evidence_about_groups():
    """Twenty people, some easy and some hard, half of each gender: permuted images find a gap where there is none."""
    rng, found = np.random.default_rng(0), np.zeros(2)
    for _ in range(60):
        people = np.repeat(np.arange(20), 15)
        right = rng.random(300) < rng.choice([0.35, 0.85], 20)[people]
        found += gap_p_value(right, people % 2) < 0.05, gap_p_value(right, people % 2, people) < 0.05
    assert found[0] > 15
    assert found[1] <= 7
    subjects = [f"S{person:02}" for person in people]
    genders = np.array(["female", "male"])[people % 2]
    by_image, by_person = (
        slice_predictions(made_up(np.zeros(300, int), np.where(right, 0, 1), gender=genders, **known), [("gender",)])[0]
        for known in ({}, {"subject": subjects})
    )
    assert (by_image.permuted, by_person.permuted) == ("image", "person")
    for one, other in zip(by_image.groups, by_person.groups, strict=True):
        assert (one.units, other.units) == (None, 10)
        assert one.accuracy.value == other.accuracy.value
        assert other.accuracy.high - other.accuracy.low > 1.5 * (one.accuracy.high - one.accuracy.low)


def test_small_groups_are_marked_and_left_out_of_the_gap():
    genders = ["female"] * 100 + ["male"] * 80 + ["other"] * 10 + [None] * 5
    data = made_up([0] * 195, [0] * 90 + [1] * 10 + [0] * 60 + [1] * 20 + [1] * 10 + [0] * 5, gender=genders)
    [slices] = slice_predictions(data, [("gender",)])
    assert [(group.values[0], group.images, group.small) for group in slices.groups] == [
        ("female", 100, False),
        ("male", 80, False),
        ("other", 10, True),
    ]
    assert slices.unknown == 5
    assert slices.gap.value == pytest.approx(0.9 - 0.75)
    [few] = slice_predictions(made_up([0] * 80, [0] * 80, gender=genders[60:140], subject=["S1"] * 80), [("gender",)])
    assert [group.small for group in few.groups] == [True, True]  # one person each
    assert (few.gap, few.p, few.equalised_odds_difference) == (None, None, None)


def test_what_classes_explain_is_told_apart():
    """Happy faces are easy, and most women are happy: a gap that has nothing to do with gender."""
    labels = np.array([1] * 160 + [2] * 40 + [1] * 40 + [2] * 160)
    right = np.arange(400) % 10 < np.where(labels == 1, 9, 5)
    data = made_up(labels, np.where(right, labels, 0), gender=["female"] * 200 + ["male"] * 200)
    [slices] = slice_predictions(data, [("gender",)])
    for group, accuracy in zip(slices.groups, (0.82, 0.58), strict=True):
        assert (group.accuracy.value, group.expected) == (pytest.approx(accuracy), pytest.approx(accuracy))
    assert slices.p < 0.01
    # Of women's images fewer are sad ones, which are taken for angry: this rate is of all other classes together.
    assert slices.equalised_odds_at == "false positives of angry"


def test_of_many_values_the_commonest_are_kept():
    people = np.repeat(np.arange(30), np.arange(31, 61))
    data = made_up([0] * len(people), [0] * len(people), subject=[f"S{person:02}" for person in people])
    [slices] = slice_predictions(data, [("subject",)])
    assert [group.values[0] for group in slices.groups] == [f"S{person:02}" for person in range(10, 30)]
    assert slices.others == sum(range(31, 41))
    assert (slices.permuted, slices.p) == ("image", 1.0)


def test_numbers_become_ranges_of_about_equally_many_images():
    brightness = np.random.default_rng(0).beta(2, 3, 1000)
    groups = groups_of("brightness", [*brightness, float("nan")])
    assert groups.pop() is None
    assert sorted(groups.count(group) for group in {*groups}) == [250] * 4
    assert all(low < high for low, high in (sorted({*groups})[n].split(" to ") for n in range(4)))
    assert groups_of("intensity", ["1", "5", None]) == ["1", "5", None]
    assert len({*groups_of("edge", [48] * 900 + [*range(50, 150)])}) == 2  # most quantiles are the same
    assert len({*groups_of("noise", [1e-4 * n for n in range(100)])}) == 4
    assert groups_of("subject", [str(n) for n in range(100)])[7] == "7"  # a name
    sizes = made_up([0] * 200, [0] * 200, size=[48, 100] * 100, age=["0-3", "4-19", "20-39", "70+"] * 50)
    by_size, by_age = slice_predictions(sizes, [("size",), ("age",)])
    assert [group.values[0] for group in by_size.groups] == ["48", "100"]
    assert [group.values[0] for group in by_age.groups] == ["0-3", "4-19", "20-39", "70+"]


def test_usual_attributes_are_those_that_make_groups():
    attributes = {
        "soft_label": [[0.1, 0.9]] * 40,
        "gender": ["female", "male"] * 20,
        "age": [str(20 + n) for n in range(40)],
        "race": [None] * 40,
        "source": ["a", "b"] * 20,
        "caption": [f"face {n}" for n in range(40)],
        "subject": ["S1", "S2"] * 20,
    }
    assert usual(attributes) == [("gender",), ("age",), ("source",), ("gender", "age")]


def test_equalised_odds_need_images():
    counts = np.zeros((2, 3, 3), int)
    for images, wanted in ((29, (0, "recall of angry")), (30, (1, "recall of happy"))):
        counts[:, 0, 0], counts[0, 1, 1], counts[1, 1, 0] = 50, images, images
        assert odds_difference(counts, NAMES) == wanted
    assert odds_difference(counts[:1], NAMES) == (None, None)


def test_bad_predictions_end_in_a_message(predictions):
    with pytest.raises(UserError, match=r"Of no image is 'race' known\. Attributes .* have: gender, age\."):
        slice_predictions(predictions, [("gender", "race")])
    with pytest.raises(UserError, match="have: none"):
        slice_predictions(made_up([0], [0]), [("gender",)])
    predictions.logits[3, 1] = np.nan
    with pytest.raises(UserError, match="1 of the predictions, such as that of '0003', are no numbers"):
        slice_predictions(predictions, [("gender",)])
    [one] = slice_predictions(made_up([0], [0], gender=["female"]), [("gender",)])
    assert (one.groups[0].images, one.gap) == (1, None)
