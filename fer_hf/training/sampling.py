"""Class-balanced sampling: the alternative to class weights."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class ClassBalancedSampler(Sampler[int]):
    """Draws as many images an epoch as there are, every class equally often, with replacement, keyed by (seed, epoch).

    The k-th time that row r is drawn in an epoch it comes as `r + k * len(labels)`, so that `FaceDataset` can give each
    time an augmentation of its own.

    Args:
        labels: the class of each row, `(N,)`, from 0.
        seed: of the draws.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        self.seed, self.epoch = seed, 0
        counts = np.bincount(labels)
        self.probabilities = 1 / (np.count_nonzero(counts) * counts[labels])

    def __len__(self) -> int:
        return len(self.probabilities)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw: the Trainer, and accelerate, call this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, self.epoch]))
        times = np.zeros(len(self), dtype=int)
        for row in generator.choice(len(self), size=len(self), p=self.probabilities):
            yield int(row + times[row] * len(self))
            times[row] += 1
