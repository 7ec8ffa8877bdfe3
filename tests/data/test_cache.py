"""The store of decoded images: what is in it, when it is used again, and what it survives."""

import io
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset, Features, Image, Value

from fer_hf.data import cache
from fer_hf.data.cache import decoded
from fer_hf.data.readers import toy
from fer_hf.errors import UserError


@pytest.fixture(autouse=True)
def _on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "KEPT_IN_MEMORY", 0)
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")


def of(images) -> Dataset:
    features = Features({"image": Image(), "id": Value("string")})
    return Dataset.from_dict({"image": images, "id": [str(row) for row in range(len(images))]}, features=features)


def noise(height, width, mode="RGB", seed=0) -> PIL.Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return PIL.Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8), mode
    )


def files(tmp_path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*.npy"))


def test_grey_images_of_one_size_come_back_as_they_were(tmp_path):
    data = of([noise(48, 48, "L", seed) for seed in range(21)])
    first = decoded(data, "train", 64)
    assert first.shape == (21, 1, 48, 48)
    assert first.dtype == np.uint8
    assert all(np.array_equal(row[0], np.asarray(image)) for row, image in zip(first, data["image"], strict=True))
    (file,) = files(tmp_path)
    written = file.stat().st_mtime_ns
    again = decoded(data, "train", 64)
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)
    assert file.stat().st_mtime_ns == written


def test_more_images_than_a_batch_keep_their_order(monkeypatch):
    monkeypatch.setattr(cache, "BATCH", 5)
    images = [noise(4, 6, "L", seed) for seed in range(23)]
    assert np.array_equal(decoded(of(images), "all", 64)[:, 0], np.stack([np.asarray(image) for image in images]))


def test_other_rows_and_orders_are_other_files(tmp_path):
    data = toy.load(train=3, validation=1, test=1, size=32)["train"]
    assert np.array_equal(decoded(data.select([5, 2]), "two", 64), decoded(data, "all", 64)[[5, 2]])
    assert len(files(tmp_path)) == 2


def test_grey_among_colour_gets_three_channels_and_alpha_is_dropped():
    images = [noise(8, 8, "L"), noise(8, 8, "RGB"), noise(8, 8, "RGBA")]
    found = decoded(of(images), "mixed", 64)
    assert found.shape == (3, 3, 8, 8)
    for row, image in zip(found, images, strict=True):
        assert np.array_equal(row.transpose(1, 2, 0), np.asarray(image.convert("RGB")))


def test_images_of_many_sizes_become_squares():
    data = of([noise(8, 8), noise(1, 1), noise(40, 20)])
    assert decoded(data, "mixed") is None
    found = decoded(data, "mixed", 16)
    assert found.shape == (3, 3, 16, 16)
    assert np.array_equal(found[1], np.broadcast_to(np.asarray(noise(1, 1)).reshape(3, 1, 1), (3, 16, 16)))
    assert decoded(data, "mixed", 64).shape == (3, 3, 40, 40)  # no larger than the largest of them


def test_images_that_are_larger_than_needed_are_shrunk():
    images = [noise(40, 20, seed=seed) for seed in range(3)]
    assert decoded(of(images), "large", 20).shape == (3, 3, 40, 20)
    assert decoded(of(images), "large").shape == (3, 3, 40, 20)
    found = decoded(of(images), "large", 10)
    smaller = np.asarray(images[1].resize((10, 20), PIL.Image.Resampling.BICUBIC))
    assert np.array_equal(found[1], smaller.transpose(2, 0, 1))


def test_a_photograph_that_lies_on_its_side_is_turned():
    file, exif = io.BytesIO(), PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    noise(8, 12).save(file, "JPEG", exif=exif)
    data = of([{"bytes": file.getvalue(), "path": None}])
    assert np.array_equal(decoded(data, "one", 64)[0].transpose(1, 2, 0), np.asarray(data[0]["image"].convert("RGB")))


def test_a_source_that_has_changed_is_decoded_again(tmp_path):
    path = tmp_path / "face.png"
    noise(8, 8, seed=1).save(path)
    data = of([str(path)])
    first = decoded(data, "one", 64).copy()
    noise(8, 8, seed=2).save(path)
    os.utime(path, ns=(1, 1))
    assert not np.array_equal(decoded(data, "one", 64), first)


@pytest.mark.parametrize("spoil", ["cut short", "one byte", "empty"])
def test_a_damaged_file_is_written_again(tmp_path, spoil):
    data = of([noise(8, 8, seed=seed) for seed in range(3)])
    expected = decoded(data, "three", 64).copy()
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes({"cut short": content[:-100], "one byte": content, "empty": b""}[spoil])
    assert np.array_equal(decoded(data, "three", 64), expected)
    assert np.array_equal(np.load(file), expected)


def test_a_full_disk_leaves_nothing_and_stops_nothing(tmp_path, monkeypatch, caplog):
    data = of([noise(8, 8)])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300))
    assert decoded(data, "one", 64) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "move_into_place", fails)
    assert decoded(data, "one", 64) is None
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert "No space left" in caplog.text
    with pytest.raises(UserError, match="No space left on device"):  # or a resume could see other images
        decoded(data, "one", 4)


def _slowly(data, folder, results):
    cache.KEPT_IN_MEMORY = 0
    cache.folder = lambda: folder
    batches = cache._Pass.batches

    def slow(passed):
        results.put("decoded")
        time.sleep(1)
        yield from batches(passed)

    cache._Pass.batches = slow
    results.put(int(decoded(data, "one", 64).sum()))


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path):
    data = of([noise(8, 8)])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    both = [context.Process(target=_slowly, args=(data, tmp_path / "cache", results), daemon=True) for _ in range(2)]
    for process in both:
        process.start()
    found = [results.get(timeout=60) for _ in range(3)]
    for process in both:
        process.join()
    assert found.count("decoded") == 1
    assert len(set(found) - {"decoded"}) == 1
    assert results.empty()


def test_what_a_killed_build_left_behind_is_written_over(tmp_path):
    data = of([noise(8, 8)])
    expected = decoded(data, "one", 64).copy()
    (file,) = files(tmp_path)
    file.unlink()
    file.with_suffix(".part").write_bytes(b"half an array")
    assert np.array_equal(decoded(data, "one", 64), expected)
    assert [path.suffix for path in sorted((tmp_path / "cache").iterdir())] == [".lock", ".npy"]


def test_an_image_that_is_gone_is_named(tmp_path):
    path = tmp_path / "face.png"
    noise(8, 8).save(path)
    data = of([str(path)])
    assert decoded(data, "training", 64) is not None
    path.unlink()
    with pytest.raises(UserError, match=r"The training image 0 can no longer be read: .*No such file"):
        decoded(data, "training", 64)


def test_small_sets_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEPT_IN_MEMORY", 10**6)
    assert decoded(of([noise(8, 8)]), "one", 64).shape == (1, 3, 8, 8)
    assert not files(tmp_path)


@pytest.mark.parametrize("bad", [(), (3, 9, 14)])
def test_a_check_looks_at_every_image_also_behind_one_that_is_unlike_the_others(monkeypatch, bad):
    """Parts are decoded in threads: what comes after the first part that is not whole must be looked at, too."""
    monkeypatch.setattr(cache, "PART", 1)
    monkeypatch.setattr(cache, "THREADS", 2)
    images = [{"bytes": encoded(noise(8, 8, "L", row)), "path": None} for row in range(16)]
    images[5] = {"bytes": encoded(noise(8, 8, "RGB")), "path": None}
    images[13] = {"bytes": encoded(noise(9, 9, "L")), "path": None}
    for row in bad:
        images[row] = {"bytes": b"nothing", "path": None}
    for _ in range(2):  # the second time it is remembered
        checked = cache.check(of(images), "train")
        assert sorted(checked.bad, key=int) == [str(row) for row in bad]
        assert checked.shape is None
        assert checked.pixels() is None


def encoded(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
