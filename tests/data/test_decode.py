"""The decoder: pictures come out upright and in 8 bits, or are refused with the reason."""

import io
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import ImageOps

from fer_hf.data.decode import decode, decode_as_stored, decode_rows, shape_of, to_array, undecoded
from fer_hf.errors import FerError

ORIENTATION = 0x0112


def stripe() -> np.ndarray:
    """100 x 60 pixels whose right end is red: turned by 90 degrees it is the lower end."""
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 70:] = (255, 0, 0)
    return image


def encoded(image: PIL.Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_once(format: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(PIL.Image.fromarray(stripe()), format, exif=exif)
    with PIL.Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    for image in (content, {"bytes": content, "path": None}, decode(content)):
        assert np.array_equal(decode(image), expected)
    assert shape_of(content) == (3, *expected.shape[:2])
    assert expected.shape == ((100, 60, 3) if orientation >= 5 else (60, 100, 3))
    if orientation == 6:
        assert expected[90, 30, 0] > 200
        assert expected[10, 30, 0] < 50


@pytest.mark.parametrize("tag", [(2, 2, b"6\0\0\0"), (3, 1, b"\x63\0\0\0"), (5, 1, b"\xff\xff\xff\xff")])
def test_an_orientation_that_means_nothing_is_passed_over(tag: tuple[int, int, bytes]) -> None:
    """Text, a number that is no orientation, and a fraction that lies nowhere."""
    kind, count, value = tag
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, ORIENTATION, kind, count) + value + b"\0\0\0\0"
    content = encoded(PIL.Image.fromarray(stripe()), "JPEG", exif=exif)
    assert decode(content).size == (100, 60)
    assert shape_of(content) == (3, 60, 100)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I"])
def test_any_mode_becomes_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    PIL.Image.new(mode, (20, 30)).save(tmp_path / "a.tif")
    picture = decode(tmp_path / "a.tif")
    assert (picture.mode, picture.size) == ("L" if mode == "L" else "RGB", (20, 30))
    assert to_array(picture).shape == (1 if mode == "L" else 3, 30, 20)
    assert decode_as_stored(str(tmp_path / "a.tif")).mode == mode


@pytest.mark.parametrize(("pixels", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_more_than_eight_bits_are_refused(pixels: type, mode: str) -> None:
    image = PIL.Image.fromarray(np.full((8, 8), 40_000, pixels))
    for what in (image, encoded(image, "TIFF")):
        with pytest.raises(ValueError, match=f"its mode is {mode}, of more than 8 bits"):
            decode(what)


@pytest.mark.parametrize("value", [-1, 256])
def test_values_outside_of_eight_bits_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="its mode is I, of more than 8 bits"):
        decode(PIL.Image.new("I", (4, 4), value))
    if value > 0:
        with pytest.raises(ValueError, match="its mode is I;16B, of more than 8 bits"):
            decode(PIL.Image.new("I;16B", (4, 4), value))


GREY = PIL.Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY.convert("LA"), GREY.convert("RGB")),
        (encoded(GREY.convert("P"), "PNG", transparency=0), GREY.convert("RGB")),
        (encoded(GREY.convert("CMYK"), "TIFF"), GREY.convert("RGB")),
        (PIL.Image.new("RGBA", (2, 2), (10, 20, 30, 0)), PIL.Image.new("RGB", (2, 2), (10, 20, 30))),
        (
            encoded(GREY.point(lambda v: 255 * (v > 99), "1"), "PNG"),
            GREY.point(lambda v: 255 * (v > 99)).convert("RGB"),
        ),
        (encoded(GREY, "GIF", save_all=True, append_images=[PIL.Image.new("L", (16, 16))]), GREY.convert("RGB")),
        (PIL.Image.fromarray(np.asarray(GREY).astype(np.uint16)), GREY.convert("RGB")),
    ],
    ids=["grey with alpha", "palette", "CMYK", "transparent", "one bit", "first of a film", "eight bits in sixteen"],
)
def test_modes_keep_their_values(image: PIL.Image.Image | bytes, expected: PIL.Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(decode(image).convert("RGB")), np.asarray(expected))


def test_what_cannot_be_decoded_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(PIL.Image.effect_noise((64, 64), 50), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(content[:-300])
    for image, reason in {
        tmp_path / "cut.jpg": "truncated",
        b"<html>": "no image, or of a format",
        b"": "no image, or of a format",
        None: "there is no image",
        tmp_path / "nowhere.png": "^No such file or directory$",
        tmp_path: "^Is a directory$",
        "https://example.org/face.png": "an address, not a file: save the picture first",
        Path("https://example.org/face.png"): "an address, not a file: save the picture first",
    }.items():
        with pytest.raises(ValueError, match=reason):
            decode(image)
    with pytest.raises(ValueError, match="it has no pixels"):
        decode(PIL.Image.new("RGB", (0, 4)))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.warns(PIL.Image.DecompressionBombWarning), pytest.raises(ValueError, match="64 x 64 pixels are more"):
        decode(content)


def test_rows_that_can_no_longer_be_read_are_named() -> None:
    good = {"bytes": encoded(PIL.Image.new("L", (4, 4)), "PNG"), "path": None}
    columns = {"image": [good, {"bytes": b"no image", "path": None}], "id": ["good", "bad"]}
    images = undecoded(Dataset.from_dict(columns, Features(image=Image(), id=Value("string"))))
    assert [picture.size for picture in decode_rows(images, [0, 0])] == [(4, 4)] * 2
    assert decode_rows(images, []) == []
    with pytest.raises(FerError, match=r"The image bad can no longer be read: it is no image"):
        decode_rows(images, [0, 1])
