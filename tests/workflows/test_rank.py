"""`fer-hf data rank` on a folder: a list, a sheet, and what could not be read."""

import csv

import numpy as np
import pytest
from PIL import Image

from fer_hf.errors import UserError
from fer_hf.workflows.rank import rank_pictures


def test_a_folder_is_ranked(cli, tiny_model, tmp_path):
    folder = tmp_path / "faces [1]"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8).repeat(4, 0).repeat(4, 1))
        picture.save(folder / f"{number}.png")
        picture.save(folder / "sub" / f"copy{number}.png")
    (folder / "broken.jpg").touch()
    code, out, err = cli("data", "rank", tiny_model, folder, "--most", 9, "--output", "out")
    assert code == 1
    assert "6 of 12 pictures are chosen" in out
    assert "1 could not be read.\n" in err
    assert f"{folder / 'broken.jpg'} is no picture that can be read" in err
    with open(tmp_path / "out/rank.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [*"123456"]
    assert len({row["file"][-5] for row in rows}) == 6  # no copy of one that is there
    assert rank_pictures(tiny_model, folder, 9).rows[0].file == rows[0]["file"]
    with Image.open(tmp_path / "out/rank.png") as sheet:
        assert sheet.width > 6 * 96


def test_what_cannot_be_ranked_ends_in_a_message(tiny_model, tmp_path):
    with pytest.raises(UserError, match="is no folder of pictures"):
        rank_pictures(tiny_model, tmp_path / "nowhere")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/a.png").touch()
    with pytest.raises(UserError, match=r"none can be read as a picture\. The first: .*a\.png: it is no image"):
        rank_pictures(tiny_model, tmp_path / "faces", output=tmp_path / "out")
