"""Faces in a photograph: where they are, how sure the detector is, and where the eyes are. Needs the extra `faces`.

Two detectors of OpenCV:
- "yunet" (Wu, Peng and Yu 2023, doi:10.1007/s11633-023-1423-y), a small network with five landmarks. Its model comes
  from the Hub once and then from the cache, and only the one file with the known hash is used. It was trained on faces
  of 10 to 300 pixels and finds large ones in pieces, so a photograph is looked at in two sizes.
- "haar" (Viola and Jones 2001), a cascade that comes with OpenCV 4: no download, but upright frontal faces only, and no
  landmarks. Of 300 test images of FER2013, enlarged to 192 pixels with a border, it finds the face in 209; YuNet does
  in 281.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import get_session

from fer_hf.errors import FerError, UserError

REPOSITORY, MODEL = "opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx"


REVISION = "3cc26e7f1014a5ee5d74a42acee58bafc9d0a310"


SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")  # in the order of YuNet's output
LONGEST = 1280  # pixels: longest side of a photograph in which faces are looked for


CLOSE_UP, LARGEST = 320, 300  # its longest side in YuNet's second look, and the largest face that the first is good for


OVERLAP = 0.3  # of two boxes (intersection over union) that are one face


# The cascade's last stage lets pass what weighs LAST_STAGE or more. In images of FER2013 and photographs without faces,
# the median false alarm weighed 55.0, which becomes a score of 0.6, and the median face 56.4, which becomes 0.86.
LAST_STAGE, SPREAD = 53.756, 1.358


Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """A face in a picture. Places are in pixels from its upper left corner; a box may reach over its border.

    `landmarks` are LANDMARKS, right and left as the person has them, so the right eye is on the left of the picture.
    None: the detector knows none.
    """

    box: tuple[float, float, float, float]
    """x, y, width and height."""
    score: float
    """From 0 to 1. The scores of two detectors cannot be compared, and neither is a probability."""
    landmarks: dict[str, Point] | None = None

    @property
    def centre(self) -> Point:
        """The middle of the box."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2

    @property
    def roll(self) -> float | None:
        """By how many degrees the line of the eyes falls to the right of the picture; None without landmarks."""
        if not self.landmarks:
            return None
        (right_x, right_y), (left_x, left_y) = self.landmarks["right_eye"], self.landmarks["left_eye"]
        return math.degrees(math.atan2(left_y - right_y, left_x - right_x))


@dataclass
class Detector:
    """A detector and why it was taken. OpenCV's keep buffers: one for each thread."""

    name: Literal["yunet", "haar"]
    why: str
    find: Callable[[np.ndarray], list[Face]]

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces in an RGB image `(H, W, 3)`, uint8, upright, of any size: largest first."""
        return sorted(self.find(image), key=lambda face: -face.box[2] * face.box[3])


def detector(prefer: Literal["auto", "yunet", "haar"] = "auto", min_score: float = 0.6) -> Detector:
    """The detector asked for; "auto" is YuNet when its model can be had, and Haar otherwise.

    Faces that score below `min_score` (0 to 1) are left out. Raises `UserError` when OpenCV is missing or too new for
    Haar, and for "yunet" `FerError` when its model cannot be had.
    """
    opencv()
    if prefer == "haar":
        return Detector("haar", "it was asked for", _haar(min_score))
    try:
        model = _yunet_model()
    except FerError as error:
        if prefer == "auto":
            return Detector("haar", str(error), _haar(min_score))
        raise FerError(
            f"{error} Try again with a connection: the model has 0.2 MB and is kept. Or bring the Hub cache of a "
            f"machine where `hf download {REPOSITORY} {MODEL} --revision {REVISION}` was run. Or take haar."
        ) from error
    why = "it was asked for" if prefer == "yunet" else f"its model is at hand, from {REPOSITORY}"
    return Detector("yunet", why, _yunet(model, min_score))


def opencv() -> Any:
    """The module `cv2`. Raises `UserError` when it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"OpenCV finds the faces, and there is none ({error}): pip install 'fer_hf[faces]'") from error
    return cv2


def _yunet_model() -> bytes:
    try:
        if not try_to_load_from_cache(REPOSITORY, MODEL, revision=REVISION):
            # Without a connection this fails at once, and the download only after 23 seconds.
            get_session().head(hf_hub_url(REPOSITORY, MODEL, revision=REVISION), timeout=10)
        path = Path(hf_hub_download(REPOSITORY, MODEL, revision=REVISION))
        model = path.read_bytes()
    except Exception as error:  # the Hub's client and the HTTP library below it raise many unrelated kinds
        line = next(iter(str(error).splitlines()), "")
        reason = line if 0 < len(line) < 250 else type(error).__name__
        raise FerError(f"YuNet's model could not be had from {REPOSITORY}: {reason}") from error
    if hashlib.sha256(model).hexdigest() != SHA256:
        raise FerError(f"{str(path)!r} is not the model of YuNet that is known here: delete it and try again.")
    return model


def upright(face: Face, size: int, margin: float) -> np.ndarray:
    """The matrix `(2, 3)` from the picture to `size` x `size` pixels with the face in the middle and its eyes level.

    `margin` is the room on each side, in parts of the longer side of the box. Without landmarks nothing is turned.
    """
    centre = face.centre[0] - 0.5, face.centre[1] - 0.5  # in a matrix of OpenCV, the first pixel's middle is (0, 0)
    scale = size / (max(face.box[2:]) * (1 + 2 * margin))
    matrix = opencv().getRotationMatrix2D(centre, face.roll or 0.0, scale)
    matrix[:, 2] += (size - 1) / 2 - np.array(centre)
    return matrix


def _yunet(model: bytes, min_score: float) -> Callable[[np.ndarray], list[Face]]:
    cv2 = opencv()
    weights, no_config = np.frombuffer(model, np.uint8), np.empty(0, np.uint8)
    net = cv2.FaceDetectorYN.create("onnx", weights, no_config, (CLOSE_UP, CLOSE_UP), min_score, OVERLAP)

    def look(image: np.ndarray, factor: float = 1.0) -> list[Face]:
        missing = [max(0, 64 - side) for side in image.shape[:2]]  # below 33 pixels the network returns nonsense
        padded = cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        net.setInputSize(padded.shape[1::-1])
        rows = net.detect(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))[1]
        return [
            _face(row[:4], row[14], dict(zip(LANDMARKS, row[4:14].reshape(5, 2), strict=True)), factor)
            for row in ([] if rows is None else rows)
        ]

    def closer(picture: np.ndarray, face: Face) -> Face:
        for _ in range(2):  # the first turns it nearly upright
            matrix = upright(face, CLOSE_UP, margin=0.4)
            crop = cv2.warpAffine(picture, matrix, (CLOSE_UP, CLOSE_UP), borderMode=cv2.BORDER_REPLICATE)
            middle = (CLOSE_UP - 1) / 2
            seen = min(look(crop), key=lambda face: math.dist(face.centre, (middle, middle)), default=None)
            if seen is None or math.dist(seen.centre, (middle, middle)) > CLOSE_UP / 5:
                return face
            points = np.array([list((seen.landmarks or {}).values())])
            points = cv2.transform(points, cv2.invertAffineTransform(matrix))[0]
            face = replace(face, landmarks=dict(zip(LANDMARKS, map(tuple, points.tolist()), strict=True)))
        return face

    def find(image: np.ndarray) -> list[Face]:
        picture, factor = _shrink(image, LONGEST)
        small, more = _shrink(picture, CLOSE_UP)
        faces = look(small, more)
        if more > 1:
            faces += [face for face in look(picture) if max(face.box[2:]) <= LARGEST]
        kept = cv2.dnn.NMSBoxes([face.box for face in faces], [face.score for face in faces], 0.0, OVERLAP)
        faces = [closer(picture, faces[index]) for index in kept]
        return [_face(face.box, face.score, face.landmarks, factor) for face in faces]

    return find


def _haar(min_score: float) -> Callable[[np.ndarray], list[Face]]:
    cv2 = opencv()
    if not hasattr(cv2, "CascadeClassifier"):
        raise UserError(f"OpenCV {cv2.__version__} has no Haar cascades: pip install 'opencv-python-headless>=4.12,<5'")
    # Of OpenCV's cascades for faces, this one gave the fewest false alarms.
    cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_alt2.xml")

    def find(image: np.ndarray) -> list[Face]:
        small, factor = _shrink(image, LONGEST)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        boxes, _, weights = cascade.detectMultiScale3(grey, 1.1, 3, minSize=(24, 24), outputRejectLevels=True)
        scores = 1 - np.exp(np.minimum(0, LAST_STAGE - np.ravel(weights)) / SPREAD)
        return [_face(*pair, None, factor) for pair in zip(boxes, scores, strict=True) if pair[1] >= min_score]

    return find


def _shrink(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """The image with its longest side at most `longest`, and the factor that leads back."""
    factor = max(1.0, max(image.shape[:2]) / longest)
    size = tuple(max(1, round(side / factor)) for side in image.shape[1::-1])
    return opencv().resize(image, size, interpolation=opencv().INTER_AREA), factor


def _face(box: Any, score: float, landmarks: dict[str, Any] | None, factor: float) -> Face:
    x, y, width, height = (float(value) * factor for value in box)
    points = {name: (float(x) * factor, float(y) * factor) for name, (x, y) in (landmarks or {}).items()}
    return Face((x, y, width, height), float(score), points or None)
