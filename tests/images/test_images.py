import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageFilter
from torchvision.transforms.v2 import functional as tv
from transformers import (
    CLIPImageProcessor,
    ConvNextImageProcessor,
    EfficientNetImageProcessor,
    LevitImageProcessor,
    MobileViTImageProcessor,
    TimmWrapperImageProcessor,
    ViTImageProcessor,
)

from fer_hf.errors import UserError
from fer_hf.images.batches import FaceDataset, to_uint8
from fer_hf.images.spec import ImageSpec
from fer_hf.images.transforms import EvalTransform, TrainTransform, _grid

TIMM = {"input_size": [3, 224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PROCESSORS = {
    "vit": ViTImageProcessor(size={"height": 224, "width": 224}),
    "vit small": ViTImageProcessor(size={"height": 32, "width": 32}, resample=3),
    "convnext": ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875),
    "efficientnet": EfficientNetImageProcessor(size={"height": 64, "width": 64}, include_top=True, resample=2),
    "clip": CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
    "timm": TimmWrapperImageProcessor(TIMM | {"interpolation": "bicubic", "crop_pct": 0.875}),
    "timm bilinear": TimmWrapperImageProcessor(TIMM | {"interpolation": "bilinear", "crop_pct": 1.0}),
    "timm squash": TimmWrapperImageProcessor(
        TIMM | {"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "squash"}
    ),
}


def faces(count=4, size=(48, 48), mode="L"):
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (count, size[1], size[0], 3)).astype(np.uint8)[i] for i in range(count))
    return [PILImage.fromarray(n).filter(ImageFilter.GaussianBlur(1)).convert(mode) for n in noise]


def difference(processor, images):
    """Mean difference between our pixel values and the processor's own, in units of 1/255 of the picture's range."""
    spec = ImageSpec.from_processor(processor)
    ours = EvalTransform(spec)([to_uint8(image) for image in images])
    theirs = processor([image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    return float(((ours - theirs).abs() * torch.tensor(spec.std).view(1, -1, 1, 1)).mean() * 255)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(("size", "mode"), [((48, 48), "L"), ((100, 130), "RGB"), ((400, 300), "RGB")])
def test_evaluation_equals_the_processor(name, size, mode):
    assert difference(PROCESSORS[name], faces(size=size, mode=mode)) < 2


@pytest.mark.parametrize("name", ["vit", "timm"])
def test_evaluation_equals_the_processor_on_real_faces(name, fer2013):
    dataset = Dataset.from_parquet(str(next((fer2013 / "data").glob("test-*.parquet"))), keep_in_memory=True)
    assert difference(PROCESSORS[name], dataset[:32]["image"]) < 2


def test_mixed_sizes_and_modes_keep_their_order():
    images = [*faces(2), *faces(2, (60, 40), "RGB"), *faces(1)]
    transform = EvalTransform(ImageSpec.from_processor(PROCESSORS["vit small"]))
    together = transform([to_uint8(image) for image in images])
    for image, row in zip(images, together, strict=True):
        assert torch.equal(transform([to_uint8(image)])[0], row)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "CMYK", "I;16"])
def test_any_mode_becomes_one_or_three_channels(mode):
    image = PILImage.new(mode, (5, 4))
    assert to_uint8(image).shape == ((1 if mode == "L" else 3), 4, 5)
    assert to_uint8(image).dtype == torch.uint8


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(do_resize=False),
        MobileViTImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
        LevitImageProcessor(),
        CLIPImageProcessor(size={"shortest_edge": 64}, do_center_crop=False),
        TimmWrapperImageProcessor(TIMM | {"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "border"}),
    ],
)
def test_a_processor_that_cannot_be_followed_is_refused(processor):
    with pytest.raises(UserError):
        ImageSpec.from_processor(processor)


# --- training

SPEC = ImageSpec.from_processor(PROCESSORS["vit small"])
BATCH = torch.stack([to_uint8(image) for image in faces(8, mode="RGB")])
INDEX = list(range(8))


def augmented(index=tuple(INDEX), epoch=0, seed=1, **changes):
    settings = {"erasing": 0.5, "saturation": 0.2} | changes
    return TrainTransform(SPEC, num_samples=8, seed=seed, **settings)(BATCH[list(index)], index, epoch)


def test_augmentation_depends_on_seed_epoch_and_index_only():
    whole = augmented()
    part = [6, 2]
    assert torch.equal(augmented(part), whole[part])
    torch.manual_seed(123)
    np.random.seed(123)
    assert torch.equal(augmented(), whole)
    assert not torch.equal(augmented(epoch=1), whole)
    assert not torch.equal(augmented(seed=2), whole)


def test_more_samples_change_nothing_for_the_first_ones():
    few = TrainTransform(SPEC, 8, 0).uniform(3, INDEX)
    many = TrainTransform(SPEC, 800, 0).uniform(3, INDEX)
    assert torch.equal(few, many)
    assert many.min() >= 0
    assert many.max() < 1


def test_what_came_later_draws_numbers_of_its_own():
    first = np.random.Generator(np.random.Philox(key=[1, 3])).random((8, 16), dtype=np.float32)
    drawn = TrainTransform(SPEC, 8, 1).uniform(3, INDEX)
    assert torch.equal(drawn[:, :16], torch.from_numpy(first))
    assert len(drawn.unique()) == drawn.numel() == 8 * 20


NOTHING = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "horizontal_flip": 0.0,
    "rotation": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "erasing": 0.0,
}


def test_all_settings_off_is_a_plain_resize():
    spec = ImageSpec((48, 48), (48, 48), SPEC.interpolation, SPEC.mean, SPEC.std)
    plain = TrainTransform(spec, 8, 0, **NOTHING)(BATCH, INDEX, 0)
    assert torch.allclose(plain, EvalTransform(spec)(BATCH), atol=1e-5)


def test_the_sampling_grid_is_that_of_torch():
    theta = torch.randn(4, 2, 3)
    expected = torch.nn.functional.affine_grid(theta, [4, 1, 5, 7], align_corners=False)
    torch.testing.assert_close(_grid(theta, (5, 7)), expected)


def test_flip_mirrors():
    spec = ImageSpec((48, 48), (48, 48), SPEC.interpolation, SPEC.mean, SPEC.std)
    flipped = TrainTransform(spec, 8, 0, **(NOTHING | {"horizontal_flip": 1.0}))(BATCH, INDEX, 0)
    assert torch.allclose(flipped, EvalTransform(spec)(BATCH).flip(-1), atol=1e-5)


def test_rotation_turns_by_the_drawn_angle_and_keeps_the_aspect():
    spec = ImageSpec((40, 80), (40, 80), SPEC.interpolation, (0.0,) * 3, (1.0,) * 3)
    picture = torch.zeros(1, 1, 40, 80, dtype=torch.uint8)
    picture[..., 18:22, 48:56] = 255  # a bar to the right of the centre
    transform = TrainTransform(spec, 1, 0, **(NOTHING | {"rotation": 90.0}))
    turned = transform(picture, [0], 0)[0, 0]
    angle = np.deg2rad(-90 + 180 * float(transform.uniform(0, [0])[0, 5]))
    rows, columns = np.indices(turned.shape)
    near = turned.numpy() * (np.hypot(rows - 19.5, columns - 39.5) < 18)  # farther out the border reflects the bar
    y, x = np.average(rows, weights=near), np.average(columns, weights=near)
    # The grid maps output to input, so what is seen turns the other way; 12 is the bar's distance from the centre.
    assert np.hypot(x - 39.5, y - 19.5) == pytest.approx(12, abs=0.5)
    assert np.arctan2(y - 19.5, x - 39.5) == pytest.approx(-angle, abs=0.1)


def test_shear_shift_and_rotation_are_those_of_torchvision():
    spec = ImageSpec((40, 60), (40, 60), tv.InterpolationMode.BILINEAR, (0.0,) * 3, (1.0,) * 3)
    pictures = torch.stack([to_uint8(image) for image in faces(6, (60, 40), "RGB")])
    transform = TrainTransform(spec, 6, 0, **(NOTHING | {"rotation": 20.0, "shear": 15.0, "shift": 0.1}))
    drawn, ours = transform.uniform(0, range(6)), transform(pictures, range(6), 0)
    angle, lean, x, y = (2 * drawn[:, [5, 16, 17, 18]] - 1).mul(torch.tensor([20, 15, 0.1 * 60, 0.1 * 40])).T
    for row, picture in enumerate(pictures.float() / 255):
        # torchvision moves the picture after it was turned, we before.
        a, k = np.deg2rad(float(angle[row])), np.tan(np.deg2rad(float(lean[row])))
        map_back = np.array([[1, k], [0, 1]]) @ [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        moved = (-np.linalg.inv(map_back) @ [float(x[row]), float(y[row])]).tolist()
        settings = {"angle": -float(angle[row]), "translate": moved, "scale": 1.0, "shear": [float(lean[row]), 0.0]}
        settings |= {"interpolation": spec.interpolation}
        turned, inside = (tv.affine(image, **settings) for image in (picture, picture * 0 + 1))
        assert (inside > 0.999).float().mean() > 0.5
        assert float(((ours[row] - turned).abs() * (inside > 0.999)).max()) < 1e-3


def test_hue_is_turned_as_torchvision_does():
    spec = ImageSpec((48, 48), (48, 48), SPEC.interpolation, (0.0,) * 3, (1.0,) * 3)
    transform = TrainTransform(spec, 8, 0, **(NOTHING | {"hue": 0.5}))
    batch = BATCH.clone()
    batch[0] = torch.tensor([[0, 255, 255], [0, 255, 0], [0, 255, 128]]).repeat(1, 16)[:, None].expand(3, 48, 48)
    turns = transform.uniform(0, INDEX)[:, 19] - 0.5
    for ours, image, turn in zip(transform(batch, INDEX, 0), batch.float() / 255, turns, strict=True):
        assert torch.allclose(ours, tv.adjust_hue(image, float(turn)), atol=1e-4)
    grey = torch.stack([to_uint8(image) for image in faces(8)])
    assert torch.equal(transform(grey, INDEX, 0), TrainTransform(spec, 8, 0, **NOTHING)(grey, INDEX, 0))


def test_erasing_removes_between_2_and_20_percent_of_the_pixels():
    settings = NOTHING | {"erasing": 1.0}
    white = torch.full((200, 1, 64, 64), 255, dtype=torch.uint8)
    spec = ImageSpec((64, 64), (64, 64), SPEC.interpolation, (0.0,) * 3, (1.0,) * 3)
    share = (TrainTransform(spec, 200, 0, **settings)(white, range(200), 0)[:, 0] == 0).float().mean((1, 2))
    assert share.min() > 0.01
    assert share.max() < 0.22
    assert 0.08 < share.mean() < 0.14


def test_large_images_are_shrunk_before_they_are_sampled():
    """A pattern of single pixels is grey from afar; sampling four neighbours of it would give noise."""
    pattern = torch.zeros(1, 1, 512, 512, dtype=torch.uint8)
    pattern[..., ::2] = 255
    spec = ImageSpec((32, 32), (32, 32), SPEC.interpolation, (0.0,) * 3, (1.0,) * 3)
    out = TrainTransform(spec, 1, 0, **(NOTHING | {"rotation": 10.0}))(pattern, [0], 0)
    assert float((out - 0.5).abs().max()) < 0.05


# --- datasets


def test_batches_of_a_dataset():
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"]), "id": Value("string")})
    images = [*faces(2), *faces(1, (20, 30), "RGB")]
    data = Dataset.from_dict({"image": images, "label": [0, 1, 1], "id": list("xyz")}, features=features)
    rows = FaceDataset(data)
    assert len(rows) == 3
    batch = rows.__getitems__([1, 0])
    assert batch["images"].shape == (2, 1, 48, 48)
    assert batch["labels"].tolist() == [1, 0]
    assert batch["index"] == [1, 0]
    assert next(iter(batch)) == "labels"
    mixed = rows.__getitems__([0, 2])
    assert [tuple(image.shape) for image in mixed["images"]] == [(1, 48, 48), (3, 30, 20)]
    assert torch.equal(rows[2]["images"][0], mixed["images"][1])
    decoded = FaceDataset(data.select([0, 1]), pixels=torch.stack([to_uint8(image) for image in images[:2]]))
    assert torch.equal(decoded.__getitems__([1, 0])["images"], batch["images"])
