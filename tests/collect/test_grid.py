"""The grid of a picture is found: even or uneven, with gutters or without; and a picture without one is refused."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fer_hf.collect.grid import find_grid
from fer_hf.data.readers import toy

FACES = [toy.draw_face(emotion, np.random.default_rng(n), size=170) for n, emotion in enumerate(toy.LABELS * 6)]

Box = tuple[int, int, int, int]


def paint(boxes: list[Box], size: tuple[int, int], back: object = "white", seed: int = 0) -> Image.Image:
    """A face in each box, on a background."""
    canvas, rng = Image.new("RGB", size, back), np.random.default_rng(seed)
    for left, top, right, bottom in boxes:
        face = FACES[rng.integers(len(FACES))].resize((right - left, bottom - top))
        canvas.paste(face, (left, top))
    return canvas


def lay_out(
    widths: list[int], heights: list[int], across: list[int], down: list[int]
) -> tuple[list[Box], tuple[int, int]]:
    """Boxes row by row and the size of the picture; `across` and `down` are the gutters, outer borders included."""
    lefts = np.cumsum([across[0], *(w + g for w, g in zip(widths, across[1:], strict=True))])
    tops = np.cumsum([down[0], *(h + g for h, g in zip(heights, down[1:], strict=True))])
    boxes = [
        (int(x), int(y), int(x) + w, int(y) + h)
        for y, h in zip(tops, heights, strict=False)
        for x, w in zip(lefts, widths, strict=False)
    ]
    return boxes, (int(lefts[-1]), int(tops[-1]))


def even(rows: int, columns: int, cell: int, gutter: int, border: int) -> tuple[list[Box], tuple[int, int]]:
    gutters = [[border, *[gutter] * (count - 1), border] for count in (columns, rows)]
    return lay_out([cell] * columns, [cell] * rows, *gutters)


def found(picture: Image.Image) -> list[Box]:
    return [cell.box for cell in find_grid(np.asarray(picture)).cells]


def assert_close(boxes: list[Box], truth: list[Box], within: int = 3) -> None:
    assert len(boxes) == len(truth)
    np.testing.assert_allclose(boxes, truth, atol=within)


@pytest.mark.parametrize(
    ("rows", "columns", "cell", "gutter", "border"),
    [
        (6, 6, 160, 10, 5),
        (5, 5, 190, 14, 0),
        (3, 3, 330, 8, 8),
        (4, 5, 200, 6, 0),
        (2, 2, 400, 20, 20),
        (6, 6, 170, 0, 0),
    ],
)
def test_even_grids(rows: int, columns: int, cell: int, gutter: int, border: int) -> None:
    """The count is that of the picture, whatever was asked for; cells that touch have no gutters."""
    truth, size = even(rows, columns, cell, gutter, border)
    picture = paint(truth, size)
    assert_close(found(picture), truth)
    grid = find_grid(np.asarray(picture))
    assert grid.columns == (columns,) * rows
    assert str(grid) == f"{rows}x{columns}"
    assert [(cell.row, cell.column) for cell in grid.cells] == [divmod(n, columns) for n in range(rows * columns)]
    assert 0.3 <= grid.confidence <= 1


@pytest.mark.parametrize("back", ["white", "black", (200, 180, 40)])
def test_uneven_gutters_and_cells(back: object) -> None:
    truth, size = lay_out([170, 160, 180, 165], [150, 170, 160], [4, 12, 6, 20, 9], [10, 5, 16, 0])
    assert_close(found(paint(truth, size, back)), truth)


@pytest.mark.parametrize("quality", [85, 50])
def test_jpeg_noise(quality: int) -> None:
    truth, size = even(6, 6, 160, 8, 4)
    file = io.BytesIO()
    paint(truth, size).save(file, "JPEG", quality=quality)
    assert_close(found(Image.open(file)), truth)


def test_a_missing_cell_is_still_a_cell() -> None:
    truth, size = even(4, 4, 200, 10, 5)
    assert_close(found(paint([box for n, box in enumerate(truth) if n != 6], size)), truth)


def test_rows_of_different_length() -> None:
    top, (width, height) = lay_out([200] * 3, [200, 200], [0, 0, 0, 0], [0, 0, 0])
    bottom, _ = lay_out([150] * 4, [200], [0] * 5, [0, 0])
    truth = top + [(left, y + height, right, end + height) for left, y, right, end in bottom]
    picture = paint(truth, (width, height + 200))
    assert find_grid(np.asarray(picture)).columns == (3, 3, 4)
    assert_close(found(picture), truth)


def test_grey_pictures_and_large_ones() -> None:
    truth, size = even(3, 3, 330, 8, 8)
    picture = paint(truth, size)
    assert_close([cell.box for cell in find_grid(np.asarray(picture.convert("L"))).cells], truth)
    large = picture.resize((size[0] * 3, size[1] * 3))
    assert_close(found(large), [tuple(3 * edge for edge in box) for box in truth], within=9)


def portrait(seed: int, size: int) -> Image.Image:
    """A head and shoulders before a backdrop that reaches to all sides."""
    rng, canvas = np.random.default_rng(seed), Image.new("RGB", (size, size), (225, 225, 228))
    pen, (x, y) = ImageDraw.Draw(canvas), rng.uniform(0.45, 0.55, 2) * size
    pen.ellipse((x - 0.35 * size, y + 0.3 * size, x + 0.35 * size, y + size), fill=tuple(rng.integers(20, 160, 3)))
    pen.ellipse((x - 0.25 * size, y - 0.35 * size, x + 0.25 * size, y + 0.35 * size), fill=(180, 120, 90))
    return canvas


def test_one_backdrop_for_all_and_no_gutters() -> None:
    """Nothing but empty strips parts the columns, so their borders may lie anywhere in these."""
    truth, size = even(5, 6, 170, 0, 0)
    picture = Image.new("RGB", size)
    for number, box in enumerate(truth):
        picture.paste(portrait(number, 170), box[:2])
    grid = find_grid(np.asarray(picture))
    assert grid.columns == (6,) * 5
    np.testing.assert_allclose([cell.box for cell in grid.cells], truth, atol=10)


def test_rows_that_differ_have_gutters_of_their_own() -> None:
    """With four and six columns of narrow gutters, no line goes through all rows, and none is taken from another.

    A cell that is missing changes nothing.
    """
    truth, top = list[Box](), 0
    for columns, cell in ((6, 160), (4, 242), (6, 160), (4, 242)):
        boxes, _ = lay_out([cell] * columns, [200], [0, *[4] * (columns - 1), 0], [0, 0])
        truth += [(left, top, right, top + 200) for left, _, right, _ in boxes]
        top += 204
    assert_close(found(paint(truth, (980, top - 4))), truth, within=1)
    boxes = found(paint([box for number, box in enumerate(truth) if number != 6], (980, top - 4)))
    assert_close(boxes[:6] + boxes[7:], truth[:6] + truth[7:], within=1)


@pytest.mark.parametrize("what", ["face", "noise", "fine noise", "blank", "gradient", "portrait", "page", "thin"])
def test_what_is_no_grid(what: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    ramp = np.tile(np.linspace(0, 255, 512).astype(np.uint8)[:, None, None], (1, 512, 3))
    fine = np.clip(128 + 30 * np.random.default_rng(2).standard_normal((2000, 2000)), 0, 255).astype(np.uint8)
    page = Image.new("RGB", (900, 900), (225, 225, 228))
    page.paste(portrait(1, 500), (90, 120))
    pictures = {
        "fine noise": fine,
        "portrait": portrait(0, 800),
        "page": page,
        "thin": noise[:20],
        "face": FACES[3].resize((512, 512)),
        "noise": noise,
        "blank": np.full_like(noise, 128),
        "gradient": ramp,
    }
    with pytest.raises(ValueError, match=r"part it|part row|too faint|too few"):
        find_grid(np.asarray(pictures[what]))
