import hashlib

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_hf.data.readers import toy
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError


def contents(dataset) -> list[bytes]:
    """The decoded pixels of every image, in order."""
    return [image.tobytes() for image in dataset["image"]]


@pytest.fixture(scope="module")
def small():
    return toy.load(seed=0, train=6, validation=3, test=4)


@pytest.fixture(scope="module")
def default():
    return toy.load()


def test_columns_sizes_and_modes(small):
    assert list(small) == ["train", "validation", "test"]
    for split in small.values():
        assert split.column_names == ["image", "label", "id"]
        assert tuple(split.features["label"].names) == LABEL_SETS["fer7"]
        assert {(image.mode, image.size) for image in split["image"]} == {("RGB", (64, 64))}
    assert toy.load(train=1, validation=1, test=1, size=48)["test"][0]["image"].size == (48, 48)


def test_every_class_has_as_many_faces_in_every_split(small):
    for split, count in [("train", 6), ("validation", 3), ("test", 4)]:
        assert np.bincount(small[split]["label"]).tolist() == [count] * 7


def test_ids_are_unique_and_name_split_and_label(small):
    ids = [name for split in small.values() for name in split["id"]]
    assert len(set(ids)) == len(ids) == 7 * 13
    for name, split in small.items():
        for face, label in zip(split["id"], split["label"], strict=True):
            assert face.startswith(f"toy-{name}-{LABEL_SETS['fer7'][label]}-")
    assert "toy-train-angry-0005" in ids


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(small):
    again = toy.load(seed=0, train=6, validation=3, test=4)
    other = toy.load(seed=1, train=6, validation=3, test=4)
    for split in small:
        assert small[split].data.table.equals(again[split].data.table)
        assert not set(contents(small[split])) & set(contents(other[split]))


def test_ambient_randomness_changes_nothing(small):
    np.random.seed(1234)
    again = toy.load(seed=0, train=6, validation=3, test=4)
    assert contents(again["train"]) == contents(small["train"])


def test_a_larger_count_adds_faces_and_changes_none(small):
    larger = toy.load(seed=0, train=8, validation=3, test=4)["train"]
    before = dict(zip(small["train"]["id"], contents(small["train"]), strict=True))
    after = dict(zip(larger["id"], contents(larger), strict=True))
    assert before.items() <= after.items()


def test_no_face_occurs_twice(default):
    digests = [hashlib.sha256(face).digest() for split in default.values() for face in contents(split)]
    assert len(set(digests)) == len(digests) == 7 * (300 + 60 + 100)


def test_the_expression_alone_changes_only_the_middle_of_the_face():
    """With the same random numbers, two emotions share person, pose, light and noise: the image's rim is the same."""
    faces = {e: np.asarray(toy.draw_face(e, np.random.default_rng(3)), dtype=int) for e in LABEL_SETS["fer7"]}
    for emotion, face in faces.items():
        difference = np.abs(face - faces["neutral"]).max(axis=2)
        assert difference[:5].max() == difference[:, :5].max() == difference[:, -5:].max() == 0
        assert ((difference > 40).sum() > 20) == (emotion != "neutral")


@pytest.mark.parametrize(
    ("higher", "lower", "setting"),
    [
        ("happy", "sad", "smile"),
        ("surprise", "neutral", "open"),
        ("fear", "sad", "lids"),
        ("sad", "angry", "inner"),
        ("disgust", "angry", "wrinkle"),
    ],
)
def test_expressions_move_the_way_they_do_in_people(higher, lower, setting):
    rng = np.random.default_rng(0)
    high, low = (np.mean([toy.draw_expression(e, rng)[setting] for _ in range(100)]) for e in (higher, lower))
    assert high > low + 0.4


def test_every_setting_of_every_expression_is_drawn():
    assert set(toy.EXPRESSIONS) == set(LABEL_SETS["fer7"])
    for target in toy.EXPRESSIONS.values():
        assert set(target) <= set(toy.SETTINGS)


def test_a_linear_probe_learns_something_but_not_the_task(default):
    def grey(split):
        small = [image.convert("L").resize((32, 32), Image.Resampling.BILINEAR) for image in default[split]["image"]]
        return np.stack([np.asarray(image, dtype=np.float64).ravel() for image in small])

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))
    probe.fit(grey("train"), default["train"]["label"])
    accuracy = probe.score(grey("test"), default["test"]["label"])
    assert 2 / 7 < accuracy < 0.7


def test_bad_values_are_named():
    with pytest.raises(UserError, match=r"'contempt'.*angry, disgust"):
        toy.draw_face("contempt", np.random.default_rng(0))
    with pytest.raises(UserError, match="train=0: it must be from 1"):
        toy.load(train=0)
    with pytest.raises(UserError, match="seed=-1: it must be from 0"):
        toy.load(seed=-1)
    with pytest.raises(UserError, match="size=8: it must be from 16"):
        toy.load(size=8)
