"""The audit: planted copies, blank and broken images are found, and nothing else is."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_hf.data import load_faces
from fer_hf.data.audit import _duplicates as duplicates
from fer_hf.data.audit import _groups as groups
from fer_hf.data.audit import audit, measure
from fer_hf.data.readers import toy
from fer_hf.report.audit_page import audit_page, shown, summary


def face(seed: int, emotion: str = "happy") -> Image.Image:
    return toy.draw_face(emotion, np.random.default_rng(seed), size=64)


def recompressed(image: Image.Image, crop: int = 1) -> Image.Image:
    """The same photograph: a border cut off, scaled back, and saved as JPEG."""
    file = io.BytesIO()
    image.crop((crop, crop, 64 - crop, 64)).resize((64, 64)).save(file, "JPEG", quality=60)
    return Image.open(file)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Thirty different faces in three splits, and one of each thing that can be wrong."""
    root = tmp_path_factory.mktemp("planted")
    files = {
        **{f"train/happy/{n}.png": face(n) for n in range(10)},
        **{f"train/sad/{n}.png": face(100 + n, "sad") for n in range(10)},
        **{f"validation/happy/{n}.png": face(200 + n) for n in range(5)},
        **{f"test/sad/{n}.png": face(300 + n, "sad") for n in range(5)},
        "train/happy/exact.bmp": face(3),  # the same pixels in another file format
        "train/happy/near.jpg": recompressed(face(4)),
        "train/happy/leak.jpg": recompressed(face(301, "sad")),  # of test, under another label
        "validation/sad/leak.png": face(302, "sad"),  # of test
        "train/sad/leak.png": face(201),  # of validation
        "train/sad/torn.png": face(5),  # train/happy/5.png under another label
        "train/happy/black.png": Image.new("L", (64, 64)),
        "test/happy/white.png": Image.new("RGB", (64, 64), "white"),
    }
    for name, image in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    (root / "train/happy/broken.png").write_bytes((root / "train/happy/0.png").read_bytes()[:300])
    (root / "train/happy/<script>.png").write_bytes(b"no image")
    faces = load_faces(f"folder:{root}", None, check_images=False, purpose="inspection")
    return audit(faces) | {"faces": faces}


def test_everything_planted_is_found_and_nothing_else(found: dict) -> None:
    groups = {tuple(row["id"] for row in group["images"]) for group in found["groups"]}
    assert groups == {
        ("train/happy/3.png", "train/happy/exact.bmp"),
        ("train/happy/4.png", "train/happy/near.jpg"),
        ("test/sad/1.png", "train/happy/leak.jpg"),
        ("test/sad/2.png", "validation/sad/leak.png"),
        ("validation/happy/1.png", "train/sad/leak.png"),
        ("train/happy/5.png", "train/sad/torn.png"),
    }
    assert found["duplicates"]["exact"] == {"groups": 4, "redundant": 4}
    assert found["duplicates"]["near_or_exact"] == {"groups": 6, "redundant": 6}
    assert (found["duplicates"]["one_image_two_labels"], found["duplicates"]["one_photograph_two_labels"]) == (2, 3)
    assert [row["id"] for row in found["blank"]] == ["train/happy/black.png", "test/happy/white.png"]
    assert sorted(row["id"] for row in found["broken"]) == ["train/happy/<script>.png", "train/happy/broken.png"]
    across = {
        (row["split"], row["also_in"]): (row["exact"], row["near_or_exact"]) for row in found["duplicates"]["across"]
    }
    assert across == {("test", "validation"): (1, 1), ("test", "train"): (0, 1), ("validation", "train"): (1, 1)}
    assert found["imbalance_ratio"]["test"] == 5.0
    assert found["sizes"][0] == {"width": 64, "height": 64, "mode": "RGB", "images": 37}


def test_each_copy_names_what_it_is_a_copy_of(found: dict) -> None:
    assert {(row["id"], row["kind"], row["of_id"]) for row in found["copies"]} == {
        ("train/happy/exact.bmp", "exact", "train/happy/3.png"),
        ("train/happy/near.jpg", "near", "train/happy/4.png"),
        ("test/sad/1.png", "near", "train/happy/leak.jpg"),
        ("test/sad/2.png", "exact", "validation/sad/leak.png"),
        ("validation/happy/1.png", "exact", "train/sad/leak.png"),
        ("train/sad/torn.png", "exact", "train/happy/5.png"),
    }


def test_what_is_left_out(found: dict, tmp_path: Path) -> None:
    reasons = {row["id"]: row["reason"] for row in found["exclude"]}
    assert reasons.pop("train/happy/broken.png").startswith("broken: ")
    assert reasons.pop("train/happy/<script>.png").startswith("broken: ")
    assert reasons == {
        "train/happy/black.png": "blank",
        "train/happy/exact.bmp": "copy of train/happy/3.png (train)",
        "train/happy/near.jpg": "copy of train/happy/4.png (train)",
        "train/happy/leak.jpg": "copy of test/sad/1.png (test)",
        "validation/sad/leak.png": "copy of test/sad/2.png (test)",
        "train/sad/leak.png": "copy of validation/happy/1.png (validation)",
        "train/happy/5.png": "happy, but its copy train/sad/torn.png is sad",
        "train/sad/torn.png": "sad, but its copy train/happy/5.png is happy",
    }
    assert not [row for row in found["exclude"] if row["split"] == "test"]


def test_the_page_shows_the_pictures_and_escapes_names(found: dict) -> None:
    plain = {key: value for key, value in found.items() if key != "faces"}
    assert json.loads(json.dumps(plain)) == plain
    asked = []
    page = audit_page(plain, lambda row: asked.append(row["id"]) or b"png")
    assert set(asked) == {row["id"] for row in shown(plain)}
    assert page.count("data:image/png;base64,") == len(asked)
    assert "<script>.png" not in page
    assert "&lt;script&gt;" in page
    assert "<b>16.7 %</b> of the test images (1 of 6) are also in the train split." in page
    assert summary(plain)["listed in exclude.csv"] == len(plain["exclude"])


def test_measures_do_not_depend_on_the_mode() -> None:
    grey = face(1).convert("L")
    one, other = measure(grey), measure(grey.convert("RGBA"))
    assert one.phash == other.phash
    assert one.brightness == pytest.approx(np.asarray(grey).mean() / 255)
    assert one.contrast == pytest.approx(np.asarray(grey).std() / 255)
    assert one.pixels != other.pixels


def test_fer2013(fer2013: Path) -> None:
    """The published figures of the README, on the real thing."""
    faces = load_faces(f"fer2013:{fer2013}", None, check_images=False, purpose="inspection")
    found = audit(faces)
    across = {(row["split"], row["also_in"]): row["near_or_exact"] for row in found["duplicates"]["across"]}
    assert across == {("test", "train"): 458, ("validation", "train"): 436, ("test", "validation"): 95}
    readme = (Path(__file__).parents[2] / "recipes" / "README.md").read_text(encoding="utf-8")
    for what, count in summary(found).items():
        assert f"| {what} | {count:,} |" in readme


def test_many_copies_make_few_pairs() -> None:
    """Half of all images being black, say, must not fill the memory with pairs."""
    black, other = measure(Image.new("L", (32, 32))), measure(face(1))
    first, second, exact = duplicates([other, *[black] * 3000, other])
    assert len(first) <= 2 * 3002
    assert exact.all()
    assert groups(3002, first, second).tolist() == [0, *[1] * 3000, 0]
