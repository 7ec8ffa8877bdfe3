"""Corruptions: keyed, ordered by strength, alike at every size."""

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from fer_hf.errors import UserError
from fer_hf.images.corruptions import CORRUPTIONS, STRENGTHS, corrupt


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """Smooth drawings of an edge of 64 pixels, three channels."""
    noise = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    return F.interpolate(noise, (64, 64), mode="bicubic").clamp(0, 255).to(torch.uint8)


def change(images: torch.Tensor, name: str, strength: int) -> float:
    return (corrupt(images, name, strength, range(len(images))).float() - images.float()).abs().mean().item()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption(name, faces):
    before = faces.clone()
    changes = [change(faces, name, strength) for strength in STRENGTHS]
    assert torch.equal(faces, before)
    assert changes == sorted(changes)
    assert 0.2 < changes[0] < changes[-1]
    for images in (faces[:, :1], faces, faces[..., :40, :]):  # grey, coloured, not square
        made = corrupt(images, name, 5, range(4), seed=1)
        assert (made.shape, made.dtype) == (images.shape, torch.uint8)
        assert torch.equal(made[2:], corrupt(images[2:], name, 5, [2, 3], seed=1))  # whatever the batch
    large = F.interpolate(faces.float(), (192, 192), mode="bicubic").clamp(0, 255).to(torch.uint8)
    if name not in ("gaussian_noise", "jpeg"):  # whose grain is the pixel
        assert change(large, name, 4) == pytest.approx(changes[3], rel=0.2)
    assert corrupt(faces[..., :1, :1], name, 5, range(4)).shape == (4, 3, 1, 1)


@pytest.mark.parametrize("name", ["gaussian_noise", "motion_blur", "rotation"])
def test_what_is_random_hangs_on_seed_and_index(name, faces):
    same = faces[:1].expand(6, -1, -1, -1)
    made = corrupt(same, name, 4, range(6))
    assert torch.equal(made, corrupt(same, name, 4, range(6)))
    assert len({image.numpy().tobytes() for image in made}) >= 2
    assert not torch.equal(made, corrupt(same, name, 4, range(6), seed=1))


def test_blur_is_that_of_scipy(faces):
    made = corrupt(faces, "gaussian_blur", 4, range(4)).float()
    expected = torch.from_numpy(gaussian_filter(faces.float().numpy(), (0, 0, 0.045 * 64, 0.045 * 64), mode="mirror"))
    assert (made - expected).abs().max() < 2


def test_bands_lie_over_the_eyes_and_the_mouth():
    white = torch.full((1, 1, 100, 100), 255, dtype=torch.uint8)
    white[..., 0] = 0
    for name, rows in (("eyes_covered", (24, 49)), ("mouth_covered", (64, 89))):
        covered = (corrupt(white, name, 5, [0])[0, 0, :, 50] != 255).nonzero().flatten()
        assert (covered[0].item(), covered[-1].item()) == rows


def test_unknown_corruptions_and_strengths_are_refused(faces):
    with pytest.raises(UserError, match="corruption='fog' is unknown: use gaussian_blur, "):
        corrupt(faces, "fog", 1, range(4))
    with pytest.raises(UserError, match="strength=6 of jpeg is unknown: use 1"):
        corrupt(faces, "jpeg", 6, range(4))
