"""Mixup and CutMix: pixels and labels in the same proportion, drawn as the papers draw it, keyed by the step."""

import pytest
import torch
from scipy.stats import kstest

from fer_hf.training.mixing import Mix

IMAGES = torch.arange(1.0, 5.0).view(4, 1, 1, 1).expand(4, 3, 32, 32).contiguous()  # image i is all i + 1
LABELS = torch.tensor([0, 1, 2, 1])


def test_mixup_blends_pixels_and_labels_alike():
    images, targets = Mix(3, mixup=1.0, cutmix=0.0, seed=0)(IMAGES, LABELS, step=5, row=7)
    share = targets[1, 1].item()
    assert targets[1].tolist() == pytest.approx([1 - share, share, 0])
    assert torch.allclose(images[1], share * IMAGES[1] + (1 - share) * IMAGES[0])
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))


def test_cutmix_labels_have_the_share_of_the_pixels():
    images, targets = Mix(3, mixup=0.0, cutmix=1.0, seed=0)(IMAGES, LABELS, step=5, row=7)
    kept = (images[1] == 2).float().mean()
    assert set(images[1].unique().tolist()) == {1.0, 2.0}
    assert targets[1, 1].item() == pytest.approx(kept.item(), abs=1e-6)


def test_the_same_step_gives_the_same_mix_and_nothing_else_is_disturbed():
    mix = Mix(3, mixup=0.4, cutmix=1.0, seed=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = mix(IMAGES, LABELS, step=9, row=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = mix(IMAGES, LABELS, step=9, row=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (mix(IMAGES, LABELS, step=10, row=2), mix(IMAGES, LABELS, step=9, row=3)):
        assert not torch.equal(first[1], other[1])


def test_the_proportion_follows_the_beta_distribution_and_both_ways_are_used():
    mixup = Mix(3, mixup=0.4, cutmix=0.0, seed=0)
    shares = [mixup(IMAGES, LABELS, step, 0)[1][0, 0].item() for step in range(400)]
    assert kstest(shares, "beta", args=(0.4, 0.4)).pvalue > 0.01
    both = Mix(3, mixup=1.0, cutmix=1.0, seed=0)
    blended = [len(both(IMAGES, LABELS, step, 0)[0][1].unique()) == 1 for step in range(200)]
    assert 70 < sum(blended) < 130


def test_soft_labels_are_mixed_too():
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8], [1.0, 0, 0], [0.1, 0.1, 0.8]])
    images, targets = Mix(3, mixup=1.0, cutmix=0.0, seed=0)(IMAGES, soft, step=1, row=0)
    share = images[1, 0, 0, 0] - 1  # between image 0, all 1, and image 1, all 2
    assert torch.allclose(targets[1], share * soft[1] + (1 - share) * soft[0], atol=1e-6)
