"""Which image is a copy of which, and which test images leak."""

import numpy as np
import pytest

from fer_hf.data.copies import COLUMNS, Copy, leaks, list_copies, read_copies, write_copies
from fer_hf.errors import UserError


def rows(*splits):
    return [{"split": split, "id": f"{split}{place}", "label": "sad"} for place, split in enumerate(splits)]


def test_each_image_points_to_train_first_and_to_equal_pixels_within_that():
    """0 and 1 are one photograph in test; 2 in validation; 3, 4 and 5 in train, 5 being equal to 0 and 4."""
    images = rows("test", "test", "validation", "train", "train", "train", "test")
    group_of, exact_of = np.array([7, 7, 7, 7, 7, 7, 8]), np.array([1, 2, 3, 4, 1, 1, 5])
    found = {row.id: (row.kind, row.of_split, row.of_id) for row in list_copies(images, group_of, exact_of)}
    assert found == {
        "train4": ("near", "train", "train3"),
        "train5": ("exact", "train", "train4"),
        "validation2": ("near", "train", "train3"),
        "test0": ("exact", "train", "train4"),
        "test1": ("near", "train", "train3"),
    }


def test_within_a_split_the_first_image_is_the_original():
    copies = list_copies(rows("test", "test", "validation"), np.array([0, 0, 1]), np.array([0, 0, 1]))
    assert [(row.id, row.of_id, row.kind) for row in copies] == [("test1", "test0", "exact")]


COPIES = [
    Copy("train", "b", "sad", "near", "train", "a", "sad"),
    Copy("test", "x", "sad", "near", "train", "a", "sad"),
    Copy("test", "y", "sad", "near", "validation", "v", "sad"),
]


@pytest.mark.parametrize(
    ("ids", "leaked", "unknown"),
    [
        ({"train": ["a", "b"], "validation": ["v"], "test": ["x", "y", "z"]}, {"x"}, 0),
        ({"train": ["b"], "validation": ["v"], "test": ["x", "y"]}, {"x"}, 1),  # by the other copy in train
        ({"train": ["c"], "validation": ["v"], "test": ["x", "y"]}, set(), 2),  # trained without both
        ({"train": ["v", "b"], "validation": ["a"], "test": ["x", "y"]}, {"x", "y"}, 0),  # split otherwise
    ],
)
def test_images_leak_by_where_they_stand_in_the_data(ids, leaked, unknown):
    found = leaks(COPIES, ids, "test")
    assert (found.ids, found.listed, found.unknown) == (leaked, 5, unknown)


def test_an_audit_of_other_data_is_refused_and_one_without_copies_leaks_nothing():
    with pytest.raises(
        UserError, match=r"none of the 5 images .* such as 'b', 'a', 'x', is in the data.*--copies find"
    ):
        leaks(COPIES, {"train": ["1"], "test": ["2"]}, "test")
    assert leaks([], {"train": ["1"]}, "test").ids == set()


def test_copies_are_read_as_they_were_written_by_file_or_folder(tmp_path):
    with pytest.raises(UserError, match=r"no file .*copies\.csv'\. `fer-hf data audit"):
        read_copies(tmp_path)
    write_copies(tmp_path / "copies.csv", COPIES)
    assert read_copies(tmp_path) == read_copies(tmp_path / "copies.csv") == COPIES
    (tmp_path / "exclude.csv").write_text("split,id,reason\n")
    with pytest.raises(UserError, match=r"exclude\.csv' lacks the column\(s\) label, kind"):
        read_copies(tmp_path / "exclude.csv")
    (tmp_path / "wrong.csv").write_text(",".join(COLUMNS) + "\nholdout,a,sad,near,train,b,sad\n")
    with pytest.raises(UserError, match="no split is called 'holdout'"):
        read_copies(tmp_path / "wrong.csv")
