"""Mixup and CutMix of a batch on its device, with random numbers that depend on seed and global step alone."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp


class Mix:
    """Blends a batch with itself, turned by one place, and its labels in the same proportion.

    Args:
        num_classes: C.
        mixup, cutmix: alpha of the beta distribution that the proportion is drawn from (arXiv 1710.09412, 1905.04899);
            0 switches it off. With both, each batch gets one of them, by a fair coin.
        seed: of the run.
    """

    def __init__(self, num_classes: int, mixup: float, cutmix: float, seed: int):
        self.num_classes, self.seed = num_classes, seed
        self.ways = [way(alpha=alpha) for way, alpha in ((MixUp, mixup), (CutMix, cutmix)) if alpha]

    def __call__(self, images: Tensor, targets: Tensor, step: int, row: int) -> tuple[Tensor, Tensor]:
        """`pixel_values` `(B, 3, H, W)` and targets, hard or soft, to mixed ones; targets become `(B, C)`.

        `step` is the global one, and `row` the first image's: it tells the batches of one step apart.
        """
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.num_classes).float()
        key = np.random.SeedSequence([self.seed, step, row]).generate_state(2)
        way = self.ways[int(key[0]) % len(self.ways)]
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator, on the CPU
            torch.default_generator.manual_seed(int(key[1]))
            return way(images, targets)
