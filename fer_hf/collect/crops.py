"""From a folder of photographs to a folder of faces: aligned, cropped, scored, and the poor ones listed with reasons.

Each crop is one warp of the photograph: turned until the eyes are level, square, with a margin. Needs the extra
`faces`.
"""

import math
import os
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_hf.collect.detect import Detector, Face, opencv, upright
from fer_hf.console import track
from fer_hf.data.decode import decode
from fer_hf.data.readers.folder import EXTENSIONS, walk
from fer_hf.errors import UserError
from fer_hf.files import new_folder, write_csv, written_whole

SCORES = ("confidence", "sharpness", "face_size", "yaw", "roll", "brightness", "contrast")
COLUMNS = ("file_name", "photograph", "face", "x", "y", "width", "height", "detector", *SCORES)
SHARPNESS_SIZE = 112  # pixels: what a face is scaled to before its sharpness is measured
NOSE_DEPTH = 0.41  # how far the nose stands before the eyes, in distances of the eyes: 26 of 63 mm in a generic head


@dataclass(frozen=True)
class Limits:
    """What a face needs to be kept. A score that is not known is not judged; roll has no limit, since it is undone.

    The defaults keep 88 % of the faces that YuNet finds in FER2013; the others are turned away or blurred.
    """

    face_size: float = 48
    """Pixels, at least; FER2013's images have 48."""
    sharpness: float = 25
    """At least. FER2013's training images have 85 (median; 2 % have less than 25), and 20 when they are blurred (by a
    Gaussian of 1.5 pixels at 112 x 112)."""
    yaw: float = 45
    """Degrees to either side, at most."""
    brightness: tuple[float, float] = (0.12, 0.92)
    """Darkest and lightest."""
    contrast: float = 0.06
    """At least."""


DEFAULT = Limits()


def crop_face(image: np.ndarray, face: Face, size: int, margin: float = 0.25) -> np.ndarray:
    """The face as `(size, size, 3)` from an RGB image `(H, W, 3)`, both uint8, its eyes level where they are known.

    The square has the longer side of the box and `margin` of it more on each side; what lies outside of the image
    repeats its border.
    """
    cv2 = opencv()
    side = max(face.box[2:]) * (1 + 2 * margin)
    # Only what the square can reach, since OpenCV warps no image of 32,768 pixels or more.
    reach = side * math.sqrt(0.5) + 4
    height, width = image.shape[:2]
    left, right = (int(np.clip(face.centre[0] + way, 0, width)) for way in (-reach, reach))
    top, bottom = (int(np.clip(face.centre[1] + way, 0, height)) for way in (-reach, reach))
    # A large face is warped to a multiple of the size and averaged down: a warp alone would skip pixels.
    fine = size * max(1, math.ceil(side / size))
    matrix = upright(face, fine, margin)
    matrix[:, 2] += matrix[:, :2] @ (left, top)
    warped = cv2.warpAffine(
        image[top:bottom, left:right], matrix, (fine, fine), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return warped if fine == size else cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


def quality(image: np.ndarray, face: Face) -> dict[str, float]:
    """Scores of a face in an RGB image `(H, W, 3)`, uint8; NaN where the landmarks it takes are not known.

    - confidence: the detector's own score, 0 to 1.
    - sharpness: variance of the Laplacian (Pech-Pacheco et al. 2000) of the grey face, 0 to 255, scaled to 112 x 112
      pixels; 0 is blank, below about 25 is blurred or has too few pixels.
    - face_size: shorter side of the box in pixels.
    - yaw: degrees, above 0 when the face looks to the right of the picture, about -90 to 90. From where the nose stands
      between the eyes: atan(offset from their middle / their distance / 0.41), the nose of a generic head standing
      0.41 distances before the eyes. A rough estimate, which takes the face for symmetric.
    - roll: degrees, above 0 when the line of the eyes falls to the right of the picture.
    - brightness and contrast: mean and standard deviation of the grey face, 0 to 1 and 0 to 0.5.
    """
    cv2 = opencv()
    x, y, box_width, box_height = face.box
    height, width = image.shape[:2]
    left, top = (int(np.clip(start, 0, end - 1)) for start, end in ((x, width), (y, height)))
    right, bottom = max(left + 1, math.ceil(x + box_width)), max(top + 1, math.ceil(y + box_height))
    grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if min(grey.shape) > SHARPNESS_SIZE else cv2.INTER_CUBIC
    scaled = cv2.resize(grey, (SHARPNESS_SIZE, SHARPNESS_SIZE), interpolation=how)
    return {
        "confidence": face.score,
        "sharpness": float(cv2.Laplacian(scaled, cv2.CV_64F).var()),
        "face_size": min(box_width, box_height),
        "yaw": _yaw(face),
        "roll": math.nan if face.roll is None else face.roll,
        "brightness": float(grey.mean()) / 255,
        "contrast": float(grey.std()) / 255,
    }


def reject_reasons(scores: dict[str, float], limits: Limits = DEFAULT) -> list[str]:
    """Why a face is not good enough, such as "blurred: sharpness 12 < 25"; empty when it is."""
    dark, light = limits.brightness
    checks = [
        ("small", "face_size", "<", limits.face_size),
        ("blurred", "sharpness", "<", limits.sharpness),
        ("dark", "brightness", "<", dark),
        ("light", "brightness", ">", light),
        ("flat", "contrast", "<", limits.contrast),
        ("turned away", "yaw", ">", limits.yaw),
    ]
    reasons = []
    for what, name, sign, limit in checks:
        score = abs(scores[name])
        if score < limit if sign == "<" else score > limit:
            reasons.append(f"{what}: {name} {score:.3g} {sign} {limit:g}")
    return reasons


def extract(
    source: Path,
    output: Path,
    detector: Detector,
    size: int = 224,
    margin: float = 0.25,
    every: bool = False,
    limits: Limits = DEFAULT,
) -> dict[str, Any]:
    """Write the faces of the photographs below `source` to `output`, a folder that is new or empty.

    - faces/: the crops, in the photographs' sub-folders and under their names; PNG, or JPEG of quality 95 from JPEG.
    - faces/metadata.csv: for each crop its photograph, number of the face (1 is the largest), box, detector, scores.
    - rejects.csv: photographs that cannot be read or show no face, and faces that `limits` refuse, with the reasons.

    `every` takes all faces of a photograph, not only the largest. Returns the number of `photographs`, of `faces` that
    were scored, of those `kept`, `rejected` by reason (a face may have several), and of `links` that were not followed.
    Raises `UserError` when a folder cannot be used.
    """
    if not source.is_dir():
        raise UserError(f"{str(source)!r} is no folder: a folder of photographs is wanted.")
    new_folder(output)
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{str(output)!r} lies among the photographs: name a folder outside of {str(source)!r}.")
    tree = walk(source)
    photographs, links = tree.images, tree.links
    if not photographs:
        raise UserError(f"{str(source)!r} holds no photographs; they end in {', '.join(sorted(EXTENSIONS))}.")
    faces = output / "faces"
    faces.mkdir(parents=True, exist_ok=True)
    kept: list[list[Any]] = []
    rejected: list[tuple[str, int | None, list[str]]] = []
    scored = 0
    for parts in track(photographs, "looking for faces"):
        name = "/".join(parts).encode("utf-8", "backslashreplace").decode()
        try:
            if name != "/".join(parts):
                raise ValueError("the file name is not valid UTF-8")
            image = np.asarray(decode(source.joinpath(*parts)).convert("RGB"))
        except ValueError as error:
            rejected.append((name, None, [f"unreadable: {error}"]))
            continue
        detected = detector.detect(image)
        if not detected:
            rejected.append((name, None, ["no face"]))
        for number, face in enumerate(detected if every else detected[:1], start=1):
            scored += 1
            scores = quality(image, face)
            if reasons := reject_reasons(scores, limits):
                rejected.append((name, number, reasons))
                continue
            file = _save(crop_face(image, face, size, margin), faces.joinpath(*parts[:-1]), parts[-1], number)
            numbers = [*np.round(face.box, 1).tolist(), detector.name, *(round(scores[key], 3) for key in SCORES)]
            kept.append([file.relative_to(faces).as_posix(), name, number, *("" if n != n else n for n in numbers)])
    write_csv(faces / "metadata.csv", COLUMNS, kept)
    table = [(*of, "; ".join(why)) for *of, why in rejected]
    write_csv(output / "rejects.csv", ("photograph", "face", "reasons"), table)
    by_reason = Counter(reason.split(":")[0] for *_, reasons in rejected for reason in reasons)
    done = {"photographs": len(photographs), "faces": scored, "kept": len(kept), "links": links}
    return done | {"rejected": dict(by_reason.most_common())}


def _yaw(face: Face) -> float:
    if not face.landmarks or "nose" not in face.landmarks:
        return math.nan
    right, left, nose = (np.array(face.landmarks[name]) for name in ("right_eye", "left_eye", "nose"))
    across = left - right
    distance = max(float(np.hypot(*across)), 1e-6)
    offset = float((nose - (right + left) / 2) @ across) / distance  # along the line of the eyes
    return math.degrees(math.atan(offset / distance / NOSE_DEPTH))


def _save(crop: np.ndarray, folder: Path, photograph: str, number: int) -> Path:
    """Write a crop under a name like its photograph's that nothing has yet: it may have a_2.jpg beside a.jpg, a.png."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, extension = os.path.splitext(photograph)
    format, extension = ("JPEG", ".jpg") if extension.lower() in (".jpg", ".jpeg") else ("PNG", ".png")
    stem = stem.encode()[:200].decode(errors="ignore")  # file systems allow 255 bytes
    for n in count(number):
        path = folder / f"{stem}{f'_{n}' if n > 1 else ''}{extension}"
        if not path.exists():
            with written_whole(path) as aside:
                Image.fromarray(crop).save(aside, format, quality=95)
            return path
    raise AssertionError("not reached")
