"""Subsets: exclusion lists, fractions, images per class, attribute mixtures; and splits by person."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from fer_hf.data.columns import make_split
from fer_hf.data.splits import add_missing, groups
from fer_hf.data.subsets import read_exclude, thin_out
from fer_hf.errors import UserError

NAMES = ("happy", "sad", "fear")


def people(per_class: dict[str, tuple[int, int]], subjects: int = 0) -> Dataset:
    """So many women and men in each class; pixels do not matter here."""
    rows = [
        (NAMES.index(name), gender)
        for name, (women, men) in per_class.items()
        for gender in ["female"] * women + ["male"] * men
    ]
    known: dict[str, list] = {"gender": [gender for _, gender in rows]}
    if subjects:
        known["subject"] = [f"S{row % subjects:03d}" for row in range(len(rows))]
    ids = [f"{row:04d}" for row in range(len(rows))]
    return make_split(NAMES, image=[b""] * len(rows), label=[label for label, _ in rows], id=ids, **known)


def composition(data: Dataset) -> Counter:
    return Counter((NAMES[label], gender) for label, gender in zip(data["label"][:], data["gender"][:], strict=True))


@pytest.mark.parametrize("women", [1.0, 0.75, 0.5, 0.25, 0.0])
def test_mixtures_have_equal_size_and_equal_class_shares(women: float) -> None:
    train = people({"happy": (100, 80), "sad": (40, 60), "fear": (9, 8)})
    data, [note] = thin_out(train, mixture={"gender": {"female": women, "male": 1 - women}})
    found = composition(data)
    for name, size in {"happy": 80, "sad": 40, "fear": 8}.items():  # the rarer gender sets the size
        assert found[name, "female"] == round(women * size)
        assert found[name, "male"] == size - round(women * size)
    assert len(set(data["id"][:])) == 128
    assert "128 of 297" in note
    assert f"female {women:.0%}" in note


def test_mixture_rounds_to_the_exact_size() -> None:
    train = people({"happy": (7, 7), "sad": (5, 5)})
    data, _ = thin_out(train, mixture={"gender": {"female": 1 / 3, "male": 2 / 3}})
    assert composition(data) == {
        ("happy", "female"): 2,
        ("happy", "male"): 5,
        ("sad", "female"): 2,
        ("sad", "male"): 3,
    }


def test_mixture_with_a_cap_and_a_fraction() -> None:
    train = people({"happy": (100, 80), "sad": (40, 60)})
    shares = {"gender": {"female": 0.75, "male": 0.25}}
    assert composition(thin_out(train, mixture=shares, per_class=20)[0]) == {
        ("happy", "female"): 15,
        ("happy", "male"): 5,
        ("sad", "female"): 15,
        ("sad", "male"): 5,
    }
    assert composition(thin_out(train, mixture=shares, fraction=0.5)[0])["happy", "female"] == 30


def test_impossible_mixtures() -> None:
    train = people({"happy": (3, 3), "sad": (3, 0)})
    with pytest.raises(UserError, match=r"class 'sad' has no training image with gender 'male'"):
        thin_out(train, mixture={"gender": {"female": 0.5, "male": 0.5}})
    with pytest.raises(UserError, match=r"have no 'race'; they have gender"):
        thin_out(train, mixture={"race": {"asian": 1.0}})
    with pytest.raises(UserError, match=r"gender 'man'; there are female, male"):
        thin_out(train, mixture={"gender": {"man": 1.0}})
    with pytest.raises(UserError, match="have no 'label'"):
        thin_out(train, mixture={"label": {"0": 1.0}})


def test_fraction_and_per_class_keep_class_shares_and_order() -> None:
    train = people({"happy": (40, 40), "sad": (10, 10), "fear": (1, 0)})
    data, [note] = thin_out(train, fraction=0.25, seed=3)
    assert Counter(data["label"][:]) == {0: 20, 1: 5, 2: 1}  # a class never vanishes
    assert data["id"][:] == sorted(data["id"][:])
    assert "25% of each class" in note
    assert data["id"][:] == thin_out(train, fraction=0.25, seed=3)[0]["id"][:]
    assert data["id"][:] != thin_out(train, fraction=0.25, seed=4)[0]["id"][:]
    assert set(data["id"][:]) < set(thin_out(train, fraction=0.5, seed=3)[0]["id"][:])
    assert Counter(thin_out(train, per_class=15)[0]["label"][:]) == {0: 15, 1: 15, 2: 1}
    assert thin_out(train) == (train, [])


def test_splits_by_person() -> None:
    train = people({"happy": (60, 60), "sad": (40, 40), "fear": (20, 20)}, subjects=31)
    splits, notes = add_missing({"train": train}, {"validation": 0.1, "test": 0.2}, seed=0)
    seen = {split: set(data["subject"][:]) for split, data in splits.items()}
    assert not seen["train"] & seen["validation"] | seen["train"] & seen["test"] | seen["validation"] & seen["test"]
    assert sum(map(len, splits.values())) == len(train)
    assert len(splits["test"]) == pytest.approx(0.2 * len(train), rel=0.25)
    assert len(splits["validation"]) == pytest.approx(0.1 * len(train), rel=0.25)
    for split in ("validation", "test"):
        shares = np.bincount(splits[split]["label"][:], minlength=3) / len(splits[split])
        np.testing.assert_allclose(shares, [0.5, 1 / 3, 1 / 6], atol=0.08)
    assert all("No person stands in two of the splits made." in note for note in notes)
    again, _ = add_missing({"train": train}, {"validation": 0.1, "test": 0.2}, seed=0)
    assert {split: data["id"][:] for split, data in again.items()} == {
        split: data["id"][:] for split, data in splits.items()
    }


def test_exclude_lists_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "exclude.csv"
    file.write_text('id,split,reason\n"a, b.png",train,"copy, of c"\nd.png,test,blank\n')
    assert read_exclude(file) == {("train", "a, b.png"), ("test", "d.png")}
    for text, message in {
        "id\na\n": "lacks the column",
        "split,id\ntrian,a\n": "no split is called 'trian'",
        "split,id\ntrain\n": "line 2: cells are missing",
    }.items():
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            read_exclude(file)
    with pytest.raises(UserError, match="there is no file"):
        read_exclude(tmp_path / "nowhere.csv")


def test_splits_by_person_of_few_images() -> None:
    """Fewer images of each class than the fraction asks folds for."""
    train = people(dict.fromkeys(NAMES, (3, 2)), subjects=15)
    splits, _ = add_missing({"train": train}, {"validation": 0.1, "test": 0.1}, seed=0)
    assert sum(map(len, splits.values())) == len(train)
    assert all(len(data) for data in splits.values())


def test_a_mixture_of_numbers_is_refused() -> None:
    train = people(dict.fromkeys(NAMES, (3, 2))).add_column("valence", [0.5] * 15)
    with pytest.raises(UserError, match=r"no training image has valence 'high'; there are 0\.5"):
        thin_out(train, mixture={"valence": {"high": 1.0}})


def cells(pictures: dict[str, int], per_picture: int = 9, column: str = "picture") -> Dataset:
    """So many pictures of each class, cut into cells."""
    rows = [(name, f"{name}-{number}") for name, count in pictures.items() for number in range(count)] * per_picture
    labels, known = [NAMES.index(name) for name, _ in rows], {column: [picture for _, picture in rows]}
    return make_split(NAMES, image=[b""] * len(rows), label=labels, id=[f"{n:04d}" for n in range(len(rows))], **known)


@pytest.mark.parametrize("column", ["picture", "photograph"])
def test_cells_of_one_picture_stand_in_one_split(column: str) -> None:
    train = cells({"happy": 10, "sad": 5, "fear": 3}, column=column)
    splits, notes = add_missing({"train": train}, {"validation": 0.2, "test": 0.1}, seed=1)
    seen = {split: set(data[column][:]) for split, data in splits.items()}
    assert sum(map(len, seen.values())) == 18  # no picture in two of them, none lost
    assert sum(map(len, splits.values())) == len(train)
    per_class = {split: Counter(name.split("-")[0] for name in names) for split, names in seen.items()}
    assert per_class["validation"] == {"happy": 2, "sad": 1, "fear": 1}
    assert per_class["test"] == {"happy": 1, "sad": 1, "fear": 1}  # at least one of each class
    assert all(f"No {column} stands in two of the splits made." in note for note in notes)
    assert "36 of its 162 training images (about 22%, seed 1)" in notes[0]


def test_too_few_pictures_and_pictures_across_the_splits_of_a_dataset() -> None:
    train = cells({"happy": 4, "sad": 2})
    with pytest.raises(UserError, match=r"'sad' has 2 training picture\(s\): too few .*data\.test_fraction=0"):
        add_missing({"train": train}, {"validation": 0.1, "test": 0.1}, seed=0)
    splits, notes = add_missing({"train": train}, {"validation": 0.1, "test": 0}, seed=0)
    assert list(splits) == ["train", "validation"]
    assert notes[0] == "No test split was made, as data.test_fraction is 0: there are no figures on one."
    own = {"train": train, "validation": train.select(range(3)), "test": train.select(range(1))}
    same, notes = add_missing(own, {"validation": 0.1, "test": 0.1}, seed=0)
    assert same == own
    assert notes == [
        "The dataset's own splits share 4 picture(s): figures may be too good, as images of one picture are alike."
    ]


def test_groups_are_tied_by_people_pictures_and_ids() -> None:
    known = {"subject": ["a", "a", None, None, "b", None], "picture": ["1", "2", "2", None, "3", None]}
    data = make_split(NAMES, image=[b""] * 6, label=[0] * 6, id=["p", "q", "r", "s", "t", "s"], **known)
    assert groups(data).tolist() == [0, 0, 0, 1, 2, 1]
    assert groups(people({"happy": (3, 3)})).tolist() == [0, 1, 2, 3, 4, 5]


def test_pictures_of_several_classes_stay_whole() -> None:
    train = cells({"happy": 6, "sad": 6})
    mixed = train.remove_columns("picture").add_column("picture", [str(row % 11) for row in range(len(train))])
    splits, _ = add_missing({"train": mixed}, {"validation": 0.2, "test": 0.2}, seed=0)
    assert sum(len(set(data["picture"][:])) for data in splits.values()) == 11
    assert all(len(data) for data in splits.values())
