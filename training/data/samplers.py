"""Which training images an epoch shows: as they are, or rare classes more often."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

POWERS = {"shuffle": 0.0, "square_root": 0.5, "class_balanced": 1.0}  # n_c to minus this power weighs an image


class ClassSampler(WeightedRandomSampler):
    """Draws images with replacement, those of a class with n_c images with a weight of `n_c ** -power` each.

    At power 1 all classes are equally frequent, at power 0.5 as the square root of their counts (Kang et al., "Decoupling
    Representation and Classifier", ICLR 2020). An epoch has as many images as the split; its order is a function of seed and
    epoch alone, the same in every process.

    Args:
        labels: (N,), int64.
        power: In [0, 1].
        seed: Of the order.
    """

    def __init__(self, labels: Tensor, power: float, seed: int):
        labels = labels.cpu()
        weights = torch.bincount(labels).double().pow(-power)[labels]
        super().__init__(weights, len(labels))
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed * 2**20 + self.epoch)
        return super().__iter__()
