"""Procedural faces: a small seven-class dataset that needs no download, for `fer-hf quickstart` and for the tests.

A face is a list of filled polygons in face coordinates: x and y run from about -1 to 1 with y downwards, the centre of
the head is (0, 0) and its half width about 0.75. Identity, expression, pose, light and noise are drawn at random, and
only the expression depends on the label. The polygons are moved by the pose, painted at twice the size and averaged.

How hard it is (seed 0, default counts): logistic regression on the pixels gets four in ten test faces right, a
small convolutional network from random weights gets more than nine in ten.
"""

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from fer_hf.data.columns import make_split
from fer_hf.data.readers import Raw
from fer_hf.data.splits import SPLITS
from fer_hf.emotions import LABEL_SETS
from fer_hf.errors import UserError

NAME = "procedural faces (toy)"
WANTED = "toy, without a path"
OPTIONS = ()
NOTE = "The faces are drawings made by a program, not people: figures on them say nothing about real faces."
LABELS = LABEL_SETS["fer7"]
Points = NDArray[np.float64]  # (N, 2) x and y
Color = tuple[int, int, int]  # RGB, 0 to 255
Shape = tuple[Points, Color]  # a filled polygon
OVERSAMPLING = 2
INTENSITY = (0.5, 1.1)  # how strong an expression is: 0 is neutral, 1 is the table below
WOBBLE = 0.12  # standard deviation of each setting around its value, neutral faces included
# What an expression changes, after the action units of the Facial Action Coding System (Ekman and Friesen, 1978).
# smile: corners up. open: jaw. width: mouth stretched. sneer: upper lip up. inner, outer: ends of the brows up.
# lids: eyes open wider. wrinkle: lines across the nose. teeth: how much of the opening they fill.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "angry": {"smile": -0.5, "width": -0.15, "inner": -1.0, "outer": 0.5, "lids": -0.2, "frown": 1.0},
    "disgust": {"smile": -0.6, "open": 0.2, "sneer": 1.0, "inner": -0.4, "outer": -0.3, "lids": -0.55, "wrinkle": 1.0},
    "fear": {"smile": -0.5, "open": 0.45, "width": 0.3, "inner": 1.0, "outer": 0.2, "lids": 0.7, "teeth": 1.0},
    "happy": {"smile": 1.0, "open": 0.35, "width": 0.3, "outer": 0.1, "lids": -0.3, "teeth": 1.0, "cheeks": 1.0},
    "neutral": {},
    "sad": {"smile": -1.0, "inner": 0.8, "outer": -0.6, "lids": -0.3},
    "surprise": {"open": 1.0, "width": -0.4, "inner": 0.9, "outer": 0.9, "lids": 0.7},
}
SETTINGS = ("smile", "open", "width", "sneer", "inner", "outer", "lids", "frown", "wrinkle", "teeth", "cheeks")
SKINS: list[Color] = [(250, 220, 196), (232, 190, 160), (208, 158, 120), (170, 118, 84), (124, 82, 58), (86, 56, 42)]
HAIRS: list[Color] = [(30, 24, 22), (62, 42, 30), (110, 70, 40), (196, 156, 90), (150, 148, 146), (140, 60, 34)]
IRISES: list[Color] = [(70, 46, 30), (60, 90, 120), (70, 96, 60), (40, 30, 26)]
_TURN = np.linspace(0, 2 * np.pi, 25)[:-1]
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_T = np.linspace(-1, 1, 9)
_BULGE = 1 - _T**2  # 0 at both ends, 1 in the middle
Identity = SimpleNamespace
"""Who it is: sizes and places in face coordinates, colours in RGB; `draw_identity` lists them."""


def layout(path: Path) -> None:
    """None: the faces are drawn, and lie nowhere."""


def read(place: str = "") -> Raw:
    """The faces of `load`, whatever `place` is."""
    return Raw(dict(load()), NAME, notes=[NOTE])


def shade(color: Color, factor: float) -> Color:
    """The colour made darker (below 1) or lighter (above 1)."""
    r, g, b = (min(255, int(c * factor)) for c in color)
    return r, g, b


def draw_identity(rng: np.random.Generator) -> Identity:
    """A random person."""
    u = rng.uniform
    skin = shade(SKINS[rng.integers(len(SKINS))], u(0.92, 1.06))
    return Identity(
        skin=skin,
        hair=shade(HAIRS[rng.integers(len(HAIRS))], u(0.8, 1.2)),
        iris=IRISES[rng.integers(len(IRISES))],
        lips=(min(255, int(skin[0] * u(0.8, 0.95))), int(skin[1] * u(0.5, 0.75)), int(skin[2] * u(0.55, 0.8))),
        width=u(0.66, 0.8),
        height=u(0.9, 1.04),
        jaw=u(0.75, 1.0),
        hairline=u(-0.72, -0.5),
        long_hair=bool(u() < 0.4),
        eye_x=u(0.28, 0.36),
        eye_y=u(-0.2, -0.08),
        eye_width=u(0.13, 0.18),
        eye_height=u(0.055, 0.085),
        brow_y=u(0.17, 0.24),
        brow_thickness=u(0.025, 0.055),
        nose_length=u(0.28, 0.38),
        nose_width=u(0.09, 0.15),
        mouth_y=u(0.46, 0.56),
        mouth_width=u(0.24, 0.32),
        lip=u(0.03, 0.06),
        glasses=bool(u() < 0.15),
    )


def draw_expression(emotion: str, rng: np.random.Generator) -> dict[str, float]:
    """The settings of one face: the emotion's own, times a random intensity, each a little off."""
    intensity = rng.uniform(*INTENSITY)
    wobble = rng.normal(0, WOBBLE, len(SETTINGS))
    target = EXPRESSIONS[emotion]
    return {name: intensity * target.get(name, 0) + off for name, off in zip(SETTINGS, wobble, strict=True)}


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """A filled ellipse around (x, y)."""
    return _CIRCLE * (rx, ry) + (x, y)


def band(x: Points, top: Points, bottom: Points) -> Points:
    """The area between two curves over the same x, each of shape (N,)."""
    return np.stack([np.append(x, x[::-1]), np.append(top, bottom[::-1])], axis=1)


def stroke(x0: float, y0: float, x1: float, y1: float, thickness: float) -> Points:
    """A straight line as a thin polygon."""
    length = max(np.hypot(x1 - x0, y1 - y0), 1e-6)
    dx, dy = -(y1 - y0) / length * thickness / 2, (x1 - x0) / length * thickness / 2
    return np.array([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)])


def head(who: Identity) -> list[Shape]:
    """Neck, hair, ears and the face itself."""
    outline = ellipse(0, 0, who.width, who.height)
    outline[:, 0] *= 1 - (1 - who.jaw) * np.clip(outline[:, 1], 0, 1)
    back = ellipse(0, -0.12, who.width + 0.1, who.height)
    if who.long_hair:
        back[:, 1] = np.where(back[:, 1] > 0, back[:, 1] * 1.3, back[:, 1])
    fringe = outline.copy()
    fringe[:, 1] = np.minimum(fringe[:, 1] * 1.02, who.hairline + 0.35 * fringe[:, 0] ** 2)
    dark = shade(who.skin, 0.8)
    return [
        (back, who.hair),
        (ellipse(0, 1.9, 0.95, 0.75), shade(who.iris, 1.3)),
        (ellipse(0, 0.85, 0.34, 0.5), dark),
        (ellipse(-who.width, 0, 0.09, 0.17), dark),
        (ellipse(who.width, 0, 0.09, 0.17), dark),
        (outline, who.skin),
        (fringe, who.hair),
    ]


def eye(who: Identity, face: dict[str, float], side: int, gaze: float) -> list[Shape]:
    """One eye and its brow; `side` is -1 for the left of the image and 1 for the right."""
    x = side * who.eye_x + who.eye_width * _T
    opening = who.eye_height * max(0.15, 1 + face["lids"])
    upper = who.eye_y - 1.1 * opening * _BULGE
    lower = who.eye_y + 0.8 * opening * _BULGE
    iris = ellipse(side * who.eye_x + gaze, who.eye_y - 0.1 * opening, 0.075, 0.075)
    iris[:, 1] = np.clip(iris[:, 1], who.eye_y - 1.05 * opening, who.eye_y + 0.75 * opening)
    pupil = np.array((side * who.eye_x + gaze, who.eye_y - 0.1 * opening)) + (iris - iris.mean(axis=0)) * 0.5

    along = _T * side  # -1 at the inner end of the brow, 1 at the outer
    rise = (1 - along) / 2 * face["inner"] + (1 + along) / 2 * face["outer"]
    brow_x = side * (who.eye_x + 0.02 + (who.eye_width + 0.05) * along - 0.03 * (along < -0.5) * max(0, face["frown"]))
    brow = who.eye_y - who.brow_y - 0.12 * rise - 0.035 * _BULGE
    thickness = who.brow_thickness * (1 - 0.4 * np.clip(along, 0, 1))
    return [
        (band(x, upper, lower), (244, 242, 238)),
        (iris, who.iris),
        (pupil, (16, 14, 14)),
        (band(x, upper - 0.025, upper + 0.008), shade(who.skin, 0.35)),
        (band(x, lower - 0.003, lower + 0.012), shade(who.skin, 0.65)),
        (band(brow_x, brow - thickness, brow + thickness), shade(who.hair, 0.7)),
    ]


def nose(who: Identity, face: dict[str, float]) -> list[Shape]:
    """The nose, the lines across it (disgust), between the brows (anger) and beside the mouth (smile, sneer)."""
    dark, line = shade(who.skin, 0.78), shade(who.skin, 0.55)
    tip = who.eye_y + who.nose_length - 0.05 * max(0, face["wrinkle"])
    shapes = [
        (stroke(0.03, who.eye_y + 0.05, who.nose_width * 0.8, tip, 0.035), dark),
        (ellipse(0, tip + 0.02, who.nose_width, 0.035), dark),
    ]
    for side in (-1, 1):
        shapes.append((ellipse(side * who.nose_width * 0.6, tip + 0.02, 0.025, 0.02), line))
        if (depth := face["wrinkle"]) > 0.3:
            for row in (0.02, 0.09, 0.16):
                y = who.eye_y + row
                shapes.append((stroke(side * 0.02, y, side * 0.11, y - 0.06, 0.028 * min(depth, 1)), line))
        if (depth := face["frown"]) > 0.3:
            y = who.eye_y - who.brow_y
            shapes.append((stroke(side * 0.045, y - 0.06, side * 0.035, y + 0.1, 0.028 * min(depth, 1)), line))
        if (depth := max(face["cheeks"], face["sneer"])) > 0.3:
            x0, x1 = side * (who.nose_width + 0.04), side * (who.mouth_width + 0.1)
            shapes.append((stroke(x0, tip, x1, tip + 0.17, 0.028 * min(depth, 1)), line))
    return shapes


def mouth(who: Identity, face: dict[str, float], slant: float) -> list[Shape]:
    """Lips, and between them the opening with teeth."""
    half = who.mouth_width * (1 + 0.6 * max(-0.7, face["width"]))
    x = half * _T
    opening = 0.42 * max(0, face["open"])
    corners = who.mouth_y - 0.11 * face["smile"] + slant * _T
    bend = 0.2 * face["smile"] * _BULGE
    # A stretched mouth opens as a flat box, a dropped jaw as an oval.
    gap = (1 - _T**6 if face["width"] > 0.1 and face["smile"] < 0.2 else _BULGE) * opening
    middle = corners + bend
    upper = middle - 0.3 * gap - 0.14 * max(0, face["sneer"]) * (1 - np.abs(_T)) ** 0.7
    lower = middle + 0.7 * gap
    lip = who.lip * (0.35 + 0.65 * _BULGE)
    shapes = [(band(x, upper - lip, lower + 1.2 * lip), who.lips)]
    if opening < 0.04:
        line = 0.012 + 0 * x
        return [*shapes, (band(x, middle - line, middle + line), shade(who.lips, 0.45))]
    shapes.append((band(x, upper, lower), (60, 18, 22)))
    if max(face["teeth"], face["sneer"]) > 0.3:
        teeth = np.minimum(upper + 0.11, lower)
        shapes.append((band(x * 0.92, upper + 0.008, teeth), (240, 236, 226)))
    return shapes


def glasses(who: Identity) -> list[Shape]:
    """Two rims and a bridge."""
    rim = (40, 36, 40)
    shapes = [(stroke(-0.1, who.eye_y, 0.1, who.eye_y, 0.03), rim)]
    for side in (-1, 1):
        ring = _CIRCLE * (0.21, 0.17) + (side * who.eye_x, who.eye_y)
        inner = _CIRCLE[::-1] * (0.185, 0.145) + (side * who.eye_x, who.eye_y)
        shapes.append((np.concatenate([ring, ring[:1], inner, inner[:1]]), rim))
    return shapes


def draw_pose(rng: np.random.Generator, pixels: int) -> tuple[Points, Points]:
    """A random rotation, shear, scale and shift from face coordinates to pixels: a (2, 2) matrix and an offset (2,)."""
    u = rng.uniform
    angle, shear, scale = np.deg2rad(u(-12, 12)), u(-0.1, 0.1), u(0.9, 1.08) * 0.46 * pixels
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[1, shear], [0, u(0.92, 1.08)]])
    return matrix, pixels * (0.5 + u(-0.06, 0.06, 2))


def lit(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Brightness, a linear gradient across the image, a tint and noise, on (H, W, 3) values from 0 to 255."""
    ramp = np.linspace(-1, 1, len(pixels), dtype=np.float32)
    across, down = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.7, 1.1)) + across * ramp[None, :] + down * ramp[:, None]
    tint = rng.uniform(0.93, 1.07, 3).astype(np.float32)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(3, 12))
    return pixels * light[..., None] * tint + noise


def draw_face(emotion: str, rng: np.random.Generator, size: int = 64) -> PILImage.Image:
    """A face that shows `emotion`, one of `LABELS`, as an RGB image of `size` by `size` pixels.

    All chance comes from `rng`: the same state gives the same bytes. Raises `UserError` for any other emotion.
    """
    if emotion not in EXPRESSIONS:
        raise UserError(f"There is no procedural face for {emotion!r}. There is one for: {', '.join(LABELS)}.")
    who, face = draw_identity(rng), draw_expression(emotion, rng)
    yaw, pitch, gaze = rng.uniform(-0.16, 0.16), rng.uniform(-0.08, 0.08), rng.uniform(-0.05, 0.05)
    features = [
        *eye(who, face, -1, gaze),
        *eye(who, face, 1, gaze),
        *nose(who, face),
        *mouth(who, face, rng.uniform(-0.03, 0.03)),
        *(glasses(who) if who.glasses else []),
    ]

    outside = head(who)
    shapes = [*outside, *features]
    points = np.concatenate([points for points, _ in shapes])
    ends = np.cumsum([len(points) for points, _ in shapes])
    # A turned head moves what is in the middle of the face more than what is near its rim.
    inside = points[ends[len(outside) - 1] :]
    inside += (1 - inside[:, :1] ** 2) * (yaw, pitch)
    matrix, offset = draw_pose(rng, size * OVERSAMPLING)
    points = points @ matrix.T + offset

    background: Color = tuple(rng.integers(40, 216, 3).tolist())
    canvas = PILImage.new("RGB", (size * OVERSAMPLING, size * OVERSAMPLING), background)
    pen = ImageDraw.Draw(canvas)
    for polygon, (_, color) in zip(np.split(points, ends[:-1]), shapes, strict=True):
        pen.polygon(polygon.ravel().tolist(), fill=color)
    pixels = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    return PILImage.fromarray(np.clip(lit(pixels, rng), 0, 255).astype(np.uint8))


def load(seed: int = 0, train: int = 300, validation: int = 60, test: int = 100, size: int = 64) -> DatasetDict:
    """The dataset: `train`, `validation` and `test` faces per class, in all seven classes of `fer7`.

    Columns: `image` (RGB, `size` by `size`), `label` (ClassLabel in the order of `LABELS`), `id` ("toy-test-sad-0007").
    A face depends on (seed, split, emotion, index, size) alone, so a larger count adds faces and changes none.
    Raises `UserError` when a number is out of range.
    """
    counts = {"train": train, "validation": validation, "test": test}
    for name, value, low, high in [("seed", seed, 0, 2**32 - 1), ("size", size, 16, 1024)] + [
        (split, count, 1, 9999) for split, count in counts.items()
    ]:
        if not low <= value <= high:
            raise UserError(f"The toy faces cannot be made with {name}={value!r}: it must be from {low} to {high}.")
    return DatasetDict({split: _split(split, seed, count, size) for split, count in counts.items()})


@lru_cache(6)  # drawing takes seconds, and a split never changes
def _split(split: str, seed: int, count: int, size: int) -> Dataset:
    keys = [(label, index) for index in range(count) for label in range(len(LABELS))]
    images = []
    for label, index in keys:
        rng = np.random.default_rng([seed, SPLITS.index(split), label, index])
        file = BytesIO()
        draw_face(LABELS[label], rng, size).save(file, format="PNG", compress_level=0)  # noise does not compress
        images.append(file.getvalue())
    ids = [f"toy-{split}-{LABELS[label]}-{index:04d}" for label, index in keys]
    return make_split(LABELS, images, [label for label, _ in keys], ids)
