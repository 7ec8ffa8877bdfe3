"""Face detection: Haar on a real photograph, YuNet's path over real HTTP with a tiny model, and what is said when not.

The photograph is the portrait of Grace Hopper that comes with Matplotlib (512 x 600 pixels, one face, public domain).
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from fer_hf.collect import detect
from fer_hf.collect.detect import detector
from fer_hf.errors import FerError, UserError

MIDDLE = (267, 225)  # of the face in the portrait


@pytest.fixture(scope="module")
def cv2() -> Any:
    return pytest.importorskip("cv2", reason="needs the extra `faces`: pip install '.[faces]'")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def test_haar_finds_each_face(cv2: Any, portrait: np.ndarray) -> None:
    canvas = np.full((900, 1600, 3), 128, np.uint8)
    places = {2.0: (650, -150), 1.0: (40, 10), 0.5: (100, 600)}  # scale: where the portrait's corner lies
    for scale, (x, y) in places.items():
        pasted = cv2.resize(portrait, None, fx=scale, fy=scale)[max(0, -y) :]
        room = canvas[max(0, y) :, x:]
        height, width = (min(a, b) for a, b in zip(pasted.shape[:2], room.shape[:2], strict=True))
        room[:height, :width] = pasted[:height, :width]
    faces = detector("haar").detect(canvas)
    assert len(faces) == 3  # the largest first
    for face, (scale, (x, y)) in zip(faces, places.items(), strict=True):
        assert np.allclose(face.centre, (x + MIDDLE[0] * scale, y + MIDDLE[1] * scale), atol=20 * scale)
        assert 190 * scale < face.box[2] < 260 * scale
        assert 0.6 <= face.score <= 1


def test_a_large_photograph_is_measured_in_its_own_pixels(cv2: Any, portrait: np.ndarray) -> None:
    (face,) = detector("haar").detect(cv2.resize(portrait, None, fx=5, fy=5))
    assert np.allclose(face.centre, np.multiply(MIDDLE, 5), atol=80)


def test_the_least_score(cv2: Any, portrait: np.ndarray) -> None:
    (face,) = detector("haar").detect(portrait)
    assert detector("haar", face.score - 0.01).detect(portrait) == [face]
    assert detector("haar", face.score + 0.01).detect(portrait) == []


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (33, 7), (1, 40_000), (480, 640)])
def test_nothing_to_find(cv2: Any, shape: tuple[int, int]) -> None:
    assert detector("haar", 0.0).detect(np.full((*shape, 3), 90, np.uint8)) == []


def test_haar_finds_most_faces_of_fer2013(cv2: Any, fer2013: Path) -> None:
    from datasets import load_dataset

    data = load_dataset("parquet", data_files=str(fer2013 / "data" / "test-*.parquet"), split="train")
    haar, found = detector("haar"), 0
    for row in data.select(range(0, 400, 10)):
        face = cv2.resize(np.asarray(row["image"].convert("RGB")), (192, 192), interpolation=cv2.INTER_CUBIC)
        faces = haar.detect(cv2.copyMakeBorder(face, 48, 48, 48, 48, cv2.BORDER_REPLICATE))
        found += any(np.allclose(face.centre, 144, atol=45) and face.box[2] > 90 for face in faces)
    assert found >= 24  # of 40; 70 % in a larger trial


def test_without_a_connection(cv2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the Hub\nand much more")

    monkeypatch.setattr(detect, "get_session", fail)  # not the download, which tries for 23 seconds
    fallen_back = detector("auto")
    assert fallen_back.name == "haar"
    assert fallen_back.why == "YuNet's model could not be had from opencv/face_detection_yunet: no route to the Hub"
    with pytest.raises(
        FerError, match=r"no route to the Hub Try again.*`hf download opencv/face_detection_yunet .*haar"
    ):
        detector("yunet")


def test_a_file_that_is_not_the_model(cv2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(b"something else")
    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(detect, name, lambda *_, **__: str(tmp_path / "model.onnx"))
    with pytest.raises(FerError, match=r"model\.onnx' is not the model of YuNet"):
        detector("yunet")
    assert detector("auto").name == "haar"


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'fer_hf\[faces\]'"):
        detector("haar")


class DotNet:
    """In the place of YuNet: a face is a red dot (the right eye) and a blue one, and two traits of YuNet are overdone.

    It sees half of the roll only, and of a face of over 300 pixels a piece, of which it is very sure.
    """

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
        self.size = size

    def detect(self, bgr: np.ndarray) -> tuple[int, np.ndarray | None]:
        assert bgr.shape[1::-1] == self.size
        assert min(self.size) > 32
        dots = [np.argwhere((bgr.astype(int) - bgr[..., [1]])[..., channel] > 60) for channel in (2, 0)]
        if not all(len(dot) for dot in dots):
            return 1, None
        eyes = np.array([dot.mean(axis=0)[::-1] for dot in dots])
        (middle_x, middle_y), (across, down) = eyes.mean(axis=0), eyes[1] - eyes[0]
        distance, seen = np.hypot(across, down), np.arctan2(down, across) / 2
        half = distance / 2 * np.array([np.cos(seen), np.sin(seen)])
        points = np.array([middle_x, middle_y]) + np.stack([-half, half, 0 * half, 0 * half, 0 * half])
        box, score = (middle_x - distance, middle_y - distance, 2 * distance, 2 * distance), 0.8
        if 2 * distance > 300:
            box, score = (middle_x, middle_y, 1.4 * distance, 1.4 * distance), 0.95
        return 1, np.array([[*box, *np.ravel(points), score]], np.float32)


@pytest.mark.parametrize(
    ("size", "distance"), [((900, 1200), 60), ((1000, 1000), 240), ((3000, 4000), 150), ((90, 90), 20), ((32, 90), 14)]
)
def test_yunet_looks_again(cv2: Any, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], distance: float) -> None:
    """A turned, small or large face is looked at again, upright and close."""
    monkeypatch.setattr(detect, "_yunet_model", lambda: b"")
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=lambda *_: DotNet()))
    height, width = size
    middle, half = np.array([0.4 * width, 0.5 * height]), distance / 2 * np.array([np.cos(0.6), np.sin(0.6)])
    image = np.full((height, width, 3), 90, np.uint8)
    for place, colour in ((middle - half, (255, 90, 90)), (middle + half, (90, 90, 255))):
        cv2.circle(
            image,
            np.round(place * 16 - 8).astype(int).tolist(),
            round(max(32, 1.6 * distance)),
            colour,
            -1,
            cv2.LINE_AA,
            4,
        )
    (face,) = detector("yunet").detect(image)
    assert np.allclose(face.box, (*(middle - distance), 2 * distance, 2 * distance), atol=0.1 * distance)
    assert face.roll == pytest.approx(np.degrees(0.6), abs=6)  # 17 at the first look
    assert np.allclose(face.landmarks["right_eye"], middle - half, atol=0.1 * distance)


def tiny_yunet() -> bytes:
    """A model with YuNet's outputs that sees a face of 80 x 96 pixels around each 8 x 8 block of pure green."""
    import onnx
    from onnx import helper, numpy_helper

    eyes_nose_mouth = [(-16, -12), (16, -12), (0, 8), (-12, 24), (12, 24)]
    biases = {"cls": [0], "obj": [0], "bbox": [0.5, 0.5, np.log(10), np.log(12)]}  # in strides; logarithms of them
    biases["kps"] = [offset / 8 + 0.5 for point in eyes_nose_mouth for offset in point]
    nodes, constants, outputs = [], [], []

    def add(operation: str, *inputs: str, **attributes: object) -> str:
        name = attributes.pop("name", f"node_{len(nodes)}")
        nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def constant(values: object, kind: type = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.array(values, kind), f"constant_{len(constants)}"))
        return constants[-1].name

    green = constant(np.reshape([-0.5 / 255, 1 / 255, -0.5 / 255], (1, 3, 1, 1)))
    seen = add("Clip", add("Conv", "input", green), constant(0), constant(1))
    for kind, bias in biases.items():
        for stride in (8, 16, 32):
            pooled = add("AveragePool", seen, kernel_shape=[stride] * 2, strides=[stride] * 2)
            weights = np.full((len(bias), 1, 1, 1), 1 if kind in ("cls", "obj") else 0)
            rows = add("Transpose", add("Conv", pooled, constant(weights), constant(bias)), perm=[0, 2, 3, 1])
            name = add("Reshape", rows, constant([1, -1, len(bias)], np.int64), name=f"{kind}_{stride}")
            outputs.append(helper.make_tensor_value_info(name, 1, [1, (640 // stride) ** 2, len(bias)]))
    picture = helper.make_tensor_value_info("input", 1, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "tiny", [picture], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(model)
    return model.SerializeToString()


SCRIPT = """
import json, sys
from dataclasses import asdict
import numpy as np
from PIL import Image
from fer_hf.collect import crops, detect

detect.REVISION, detect.SHA256, photograph, crop = sys.argv[1:]
image = np.asarray(Image.open(photograph))
faces = detect.detector("auto").detect(image)
Image.fromarray(crops.crop_face(image, faces[0], 128)).save(crop)
again = detect.detector("yunet").detect(image)
detect.SHA256 = "0" * 64
print(json.dumps({"faces": [asdict(face) for face in faces], "same": again == faces, "then": detect.detector().name}))
"""


@pytest.mark.export
def test_yunet_over_http(cv2: Any, hub, tmp_path: Path) -> None:
    """From the Hub by the real client, into OpenCV's YuNet, to faces and a crop; the second time from the cache."""
    folder = tmp_path / "repository"
    folder.mkdir()
    model = tiny_yunet()
    (folder / detect.MODEL).write_bytes(model)
    commit = hub.add_repo(detect.REPOSITORY, folder).commits[-1].oid
    image = np.full((1600, 2560, 3), 90, np.uint8)  # looked at in half the size
    image[640:656, 1280:1296] = image[1120:1136, 480:496] = (0, 255, 0)
    Image.fromarray(image).save(tmp_path / "photograph.png")
    arguments = [commit, hashlib.sha256(model).hexdigest(), tmp_path / "photograph.png", tmp_path / "crop.png"]
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["faces"]) == 2
    for face in found["faces"]:
        x, y, width, height = face["box"]
        middle = (1288, 648) if x > 1000 else (488, 1128)
        assert np.allclose((x + width / 2, y + height / 2, width, height), (*middle, 160, 192), atol=1)
        assert list(face["landmarks"]) == list(detect.LANDMARKS)
        near = (
            2 * 1.8 * 96 / 320
        )  # photograph's pixels in one of the closer look, in which the model sees the same face
        eyes = [face["landmarks"][name] for name in ("right_eye", "left_eye")]
        assert np.allclose(eyes, np.add(middle, np.multiply([(-16, -12), (16, -12)], near)), atol=6 * near)
    crop = np.asarray(Image.open(tmp_path / "crop.png"))
    assert crop.shape == (128, 128, 3)
    assert crop[64, 64].tolist() == [0, 255, 0]
    assert (found["same"], found["then"], hub.escaped) == (True, "haar", [])
    assert [method for method, path in hub.requests if path.endswith(detect.MODEL)] == ["HEAD", "HEAD", "GET"]
