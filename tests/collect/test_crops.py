"""Crops: geometry on drawn dots, scores that move as they should, and folders of photographs with what can be wrong.

Faces in folders are found by a stand-in that knows where they are: the detectors have tests of their own.
"""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_hf.collect import detect
from fer_hf.collect.crops import Limits, crop_face, extract, quality, reject_reasons
from fer_hf.collect.detect import Detector, Face
from fer_hf.data.decode import decode
from fer_hf.data.faces import load_faces
from fer_hf.data.readers.toy import draw_face
from fer_hf.errors import UserError

cv2 = pytest.importorskip("cv2", reason="needs the extra `faces`: pip install '.[faces]'")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def face_at(x: float, y: float, width: float, height: float, **landmarks: tuple[float, float]) -> Face:
    return Face((x, y, width, height), 0.9, landmarks or None)


# crop_face


def test_a_crop_of_the_same_size_is_the_same_pixels() -> None:
    image = noise(90, 130)
    assert (crop_face(image, face_at(30, 20, 40, 40), 40, margin=0) == image[20:60, 30:70]).all()
    assert (crop_face(image, face_at(40, 20, 20, 40), 80, margin=0.5) == image[0:80, 10:90]).all()


def test_outside_of_the_image_its_border_goes_on() -> None:
    image = noise(50, 50)
    crop = crop_face(image, face_at(-10, 20, 30, 30), 30, margin=0)
    assert (crop[:, 10:] == image[20:50, :20]).all()
    assert (crop[:, :10] == image[20:50, :1]).all()


def test_a_large_face_is_averaged_not_sampled() -> None:
    image = np.full((1300, 1300, 3), 255, np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 0  # a chessboard of single pixels
    crop = crop_face(image, face_at(150, 150, 1001, 1001, right_eye=(400, 500), left_eye=(800, 700)), 64, margin=0)
    assert abs(crop.mean() - 127.5) < 3
    assert crop.std() < 10


def test_a_photograph_wider_than_opencv_can_warp() -> None:
    image = np.zeros((40, 33_000, 3), np.uint8)
    image[:, 32_500:] = 200
    assert crop_face(image, face_at(32_600, 5, 30, 30), 30).min() == 200


@pytest.mark.parametrize("roll", [-40, -15, 0, 25])
@pytest.mark.parametrize("size", [48, 224])
def test_eyes_are_level_after_the_crop(roll: float, size: int) -> None:
    """Two dots as eyes, 60 pixels apart, in a face of 120 pixels: half of the face apart, wherever it is turned."""
    image = np.zeros((300, 400, 3), np.uint8)
    middle, half = np.array([200.5, 140.5]), 30 * np.array([math.cos(math.radians(roll)), math.sin(math.radians(roll))])
    eyes = {"right_eye": middle - half, "left_eye": middle + half}
    for channel, place in enumerate(eyes.values()):
        dot = np.zeros((300, 400), np.uint8)
        cv2.circle(dot, np.round(place * 16 - 8).astype(int).tolist(), 4 * 16, 255, -1, cv2.LINE_AA, 4)
        image[..., channel] = dot
    face = face_at(140.5, 80.5, 120, 120, **{name: tuple(place) for name, place in eyes.items()})
    places = {}
    for align in (True, False):
        crop = crop_face(image, face if align else Face(face.box, 0.9), size, margin=0.25).astype(float)
        across, down = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        weights = crop[..., :2] / crop[..., :2].sum(axis=(0, 1))
        places[align] = np.array([[(weights[..., eye] * axis).sum() for axis in (across, down)] for eye in (0, 1)])
    level = places[True][1] - places[True][0]
    assert np.allclose(level, (size * 60 / 180, 0), atol=size / 150)
    assert np.allclose(places[True].mean(axis=0), size / 2, atol=size / 150)
    turned = places[False][1] - places[False][0]
    assert math.degrees(math.atan2(turned[1], turned[0])) == pytest.approx(roll, abs=1.5)
    assert quality(image, face)["roll"] == pytest.approx(roll)


def test_the_corners_of_a_turned_square() -> None:
    image = noise(300, 300)
    face = face_at(100, 100, 64, 64, right_eye=(115, 115), left_eye=(145, 145))
    whole = cv2.warpAffine(image, detect.upright(face, 64, 0.0), (64, 64), flags=cv2.INTER_CUBIC)
    assert np.abs(crop_face(image, face, 64, margin=0).astype(int) - whole).max() <= 1


# quality


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.asarray(draw_face("happy", np.random.default_rng(1), 400))


WHOLE = face_at(50, 50, 300, 300)


def test_blur_lowers_sharpness_and_nothing_else(portrait: np.ndarray) -> None:
    blurred = [portrait, *(cv2.GaussianBlur(portrait, (0, 0), sigma) for sigma in (2, 4, 8, 16))]
    scores = [quality(image, WHOLE) for image in blurred]
    sharpness = [score["sharpness"] for score in scores]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > 4 * sharpness[2]
    assert "blurred" in reject_reasons(scores[-1])[0]
    assert all(score["brightness"] == pytest.approx(scores[0]["brightness"], abs=0.02) for score in scores)


def test_sharpness_does_not_depend_on_the_resolution(portrait: np.ndarray) -> None:
    smooth = cv2.GaussianBlur(portrait, (0, 0), 4)  # no more detail than 112 pixels can show
    large = cv2.resize(smooth, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    triple = quality(large, face_at(150, 150, 900, 900))
    assert triple["sharpness"] == pytest.approx(quality(smooth, WHOLE)["sharpness"], rel=0.1)
    assert triple["face_size"] == 900


def test_light_and_contrast(portrait: np.ndarray) -> None:
    scores = quality(portrait, WHOLE)
    grey = np.asarray(Image.fromarray(portrait).convert("L"), float)[50:350, 50:350] / 255
    assert scores["brightness"] == pytest.approx(grey.mean(), abs=0.005)
    assert scores["contrast"] == pytest.approx(grey.std(), abs=0.005)
    dark = quality((portrait * 0.1).astype(np.uint8), WHOLE)
    assert dark["brightness"] == pytest.approx(scores["brightness"] / 10, abs=0.01)
    assert [reason.split(":")[0] for reason in reject_reasons(dark) if "dark" in reason] == ["dark"]
    assert quality(np.full((9, 9, 3), 250, np.uint8), face_at(0, 0, 9, 9))["contrast"] == 0


@pytest.mark.parametrize("yaw", [-50, -20, 0, 35])
@pytest.mark.parametrize("roll", [0, 30])
def test_yaw_of_a_turned_head(yaw: float, roll: float) -> None:
    """Three points of a head in space, turned to the side, tilted and projected."""
    eye, depth = 31.5, 26.0  # millimetres: half the distance of the eyes, and the nose before them
    head = np.array([[-eye, 0, 0], [eye, 0, 0], [0, 30, depth]])
    turned = np.stack([head[:, 0] * np.cos(np.radians(yaw)) + head[:, 2] * np.sin(np.radians(yaw)), head[:, 1]], axis=1)
    tilt = np.array([[np.cos(np.radians(roll)), np.sin(np.radians(roll))], [-np.sin(np.radians(roll)), np.cos(np.radians(roll))]])  # fmt: skip # noqa: E501
    right, left, nose = (tuple(point) for point in turned @ tilt * 2 + 100)
    scores = quality(noise(200, 200), face_at(40, 40, 120, 120, right_eye=right, left_eye=left, nose=nose))
    assert scores["yaw"] == pytest.approx(yaw, abs=1)
    assert any("turned away" in reason for reason in reject_reasons(scores)) == (abs(yaw) > 45)


def test_unknown_scores_are_not_judged() -> None:
    scores = quality(noise(200, 200), face_at(40, 40, 120, 120))
    assert math.isnan(scores["yaw"])
    assert math.isnan(scores["roll"])
    assert reject_reasons(scores) == []
    assert reject_reasons(scores, Limits(face_size=121)) == ["small: face_size 120 < 121"]


def test_a_box_that_reaches_out_of_the_image() -> None:
    for box in [(-30, -30, 60, 60), (90, 90, 50, 50), (-10, -10, 300, 300), (99.6, 20, 0.2, 0.2)]:
        assert all(math.isfinite(quality(noise(100, 100), face_at(*box))[name]) for name in ("sharpness", "brightness"))


# extract


def known(name: str = "haar", *faces: Face) -> Detector:
    """Finds these faces in every picture that is not black; by default one in the middle, half as large."""

    def find(image: np.ndarray) -> list[Face]:
        height, width = image.shape[:2]
        middle = face_at(width / 4, height / 4, width / 2, height / 2)
        return list(faces or [middle]) if image.any() else []

    return Detector(name, "a test", find)


def save(path: Path, image: np.ndarray | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(128, 128) if image is None else image).save(path, **options)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_class_folders_stay_class_folders(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    for emotion in ("happy", "sad", "fear"):
        for number in range(12):
            save(photographs / emotion / f"{number}.png")
    done = extract(photographs, tmp_path / "out", known(), size=32)
    assert done == {"photographs": 36, "faces": 36, "kept": 36, "links": 0, "rejected": {}}
    faces = load_faces(f"folder:{tmp_path / 'out' / 'faces'}")
    assert sum(len(data) for data in faces.splits.values()) == 36
    assert {faces.label_names[label] for label in faces.splits["train"]["label"]} == {"happy", "sad", "fear"}
    assert faces.splits["train"][0]["image"].size == (32, 32)


def test_what_is_written(tmp_path: Path) -> None:
    """Odd names, names that would meet, two faces, poor faces, files that are no photographs."""
    photographs, out = tmp_path / "photographs", tmp_path / "out"
    ok, edge = noise(128, 128), np.full((128, 128, 3), 40, np.uint8)
    edge[75:] = 220
    for name in ("a.png", "a.jpg", "a.bmp", "a_2.png", "Bär 表情/#1 %20.JPG", f"{'x' * 250}.bmp"):
        save(photographs / name, ok)
    save(photographs / "blurred.png", cv2.GaussianBlur(edge, (0, 0), 5))
    save(photographs / "dark" / "nobody.png", ok * 0)
    (photographs / "broken.png").write_bytes((photographs / "a.png").read_bytes()[:500])
    (photographs / "notes.txt").write_text("hello")
    save(photographs / ".hidden" / "b.png", ok)
    save(tmp_path / "elsewhere" / "c.png", ok)
    (photographs / "link").symlink_to(tmp_path / "elsewhere")
    (photographs / "link.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    eyes = {"right_eye": (40.0, 50.0), "left_eye": (80.0, 50.0), "nose": (60.0, 70.0)}
    two = known("yunet", face_at(20.0, 20.0, 80.0, 90.0, **eyes), face_at(64.25, 64.0, 60.0, 60.0))
    done = extract(photographs, out, two, size=40, every=True)
    assert done == {
        "photographs": 9,
        "faces": 14,
        "kept": 12,
        "links": 2,
        "rejected": {"blurred": 2, "unreadable": 1, "no face": 1},
    }

    table = rows(out / "faces" / "metadata.csv")
    files = {(row["photograph"], row["face"]): row["file_name"] for row in table}
    assert len(table) == 12
    assert {str(path.relative_to(out / "faces")) for path in (out / "faces").rglob("*") if path.is_file()} == {
        *files.values(),
        "metadata.csv",
    }
    assert len(set(files.values())) == 12
    assert files["a.jpg", "1"] == "a.jpg"
    assert files["a.bmp", "1"] == "a.png"
    assert files["Bär 表情/#1 %20.JPG", "2"] == "Bär 表情/#1 %20_2.jpg"
    first = next(row for row in table if (row["photograph"], row["face"]) == ("a.png", "1"))
    assert [first[name] for name in ("x", "y", "width", "height", "detector")] == [
        "20.0",
        "20.0",
        "80.0",
        "90.0",
        "yunet",
    ]
    assert (first["confidence"], first["face_size"], first["yaw"], first["roll"]) == ("0.9", "80.0", "0.0", "0.0")
    second = next(row for row in table if (row["photograph"], row["face"]) == ("a.png", "2"))
    assert (second["x"], second["yaw"], second["roll"]) == ("64.2", "", "")
    for (photograph, number), file in files.items():
        crop = np.asarray(Image.open(out / "faces" / file).convert("RGB"), float)
        image = np.asarray(decode(photographs / photograph).convert("RGB"))
        expected = crop_face(image, two.find(ok)[int(number) - 1], 40).astype(float)
        assert np.abs(crop - expected).mean() < (20 if file.endswith("jpg") else 0.01), file

    rejects = {(row["photograph"], row["face"]): row["reasons"] for row in rows(out / "rejects.csv")}
    assert sorted(rejects) == [("blurred.png", "1"), ("blurred.png", "2"), ("broken.png", ""), ("dark/nobody.png", "")]
    assert rejects["blurred.png", "1"].startswith("blurred: sharpness ")
    assert rejects["dark/nobody.png", ""] == "no face"
    assert rejects["broken.png", ""].startswith("unreadable: ")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents}
    assert after == before


def test_only_the_largest_face_by_default(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    two = known("haar", face_at(70, 70, 50, 50), face_at(10, 10, 80, 80))
    assert extract(tmp_path / "in", tmp_path / "out", two)["kept"] == 1
    (row,) = rows(tmp_path / "out" / "faces" / "metadata.csv")
    assert (row["face"], row["width"]) == ("1", "80")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_photographs_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    save(tmp_path / "in" / "large.png")
    save(tmp_path / "in" / "small.png", noise(99, 99))
    done = extract(tmp_path / "in", tmp_path / "out", known())
    assert (done["kept"], done["rejected"]) == (1, {"unreadable": 1})
    assert "128 x 128 pixels" in rows(tmp_path / "out" / "rejects.csv")[0]["reasons"]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    photographs, full = tmp_path / "photographs", tmp_path / "full"
    save(photographs / "a.png")
    full.mkdir()
    (full / "kept.txt").write_text("mine")
    (tmp_path / "none").mkdir()
    for source, output, message in [
        (photographs, full, "is not an empty folder"),
        (photographs, full / "kept.txt", "is not an empty folder"),
        (photographs, photographs / "crops", "lies among the photographs"),
        (photographs / "a.png", tmp_path / "out", "is no folder"),
        (tmp_path / "none", tmp_path / "out", "holds no photographs"),
    ]:
        with pytest.raises(UserError, match=message):
            extract(source, output, known())
    assert {path.name for path in tmp_path.rglob("*.*")} == {"a.png", "kept.txt"}


def test_command(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way on a real photograph, and the two lines that tell of the detector and the place."""
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = Image.open(file).convert("RGB")
    (tmp_path / "photographs").mkdir()
    portrait.save(tmp_path / "photographs" / "grace.jpg")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "photographs" / "grey.jpg")
    monkeypatch.setattr(detect, "get_session", lambda: 1 / 0)
    code, out, err = cli("data", "faces", "photographs", "--output", "crops", "--size", 96)
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert {"photographs 2", "faces kept 1", "left out: no face 1"} <= set(lines)
    assert any(line.startswith("detector: haar: YuNet's model could not be had") for line in lines)
    assert "faces: crops/faces" in lines
    assert Image.open(tmp_path / "crops" / "faces" / "grace.jpg").size == (96, 96)
    (row,) = rows(tmp_path / "crops" / "faces" / "metadata.csv")
    assert float(row["sharpness"]) > 200
    assert row["roll"] == ""  # Haar knows no eyes
    code, _, err = cli("data", "faces", "photographs", "--output", "crops")
    assert code == 2
    assert "'crops' exists" in err
    code, out, _ = cli("data", "faces", "photographs", "--output", "again", "--detector", "haar", "--min-face", 1000)
    assert "left out: small" in out
    assert code == 0
    code, _, err = cli("data", "faces", "photographs", "--output", "third", "--detector", "yunet")
    assert code == 1
    assert "Try again with a connection" in err
