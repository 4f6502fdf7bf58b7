"""Which training images an epoch shows, and in which order."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import RandomSampler, Sampler, WeightedRandomSampler
from transformers import TrainingArguments

from tailmoe.training.data.lazy_images import LazyImages
from tailmoe.training.data.streaming import KEPT
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
WINDOW = KEPT // 2  # row groups whose images are shuffled together: a batch can lie across two windows
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
        left_out: Fewer draws an epoch than there are images.
    """

    def __init__(self, labels: Tensor, power: float, seed: int, left_out: int = 0):
        labels = labels.cpu()
        weights = torch.bincount(labels).double().pow(-power)[labels]
        super().__init__(weights, len(labels) - left_out)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed * 2**20 + self.epoch)
        return super().__iter__()


class BlockSampler(Sampler):
    """Every image once an epoch, in an order that reads each row group once.

    Row groups are dealt at random to the processes that decode; each shuffles the images of `WINDOW` row groups at a time.
    Batches come from one after the other, as a DataLoader asks its workers. The order is a function of seed, epoch, batch
    size and streams.

    Args:
        blocks: As `block_numbers` returns them.
        batch_size: Of one process that trains.
        streams: Processes that decode, of all processes that train.
        seed: Of the order.
        left_out: How many of an epoch's last images are not shown.
    """

    def __init__(self, blocks: np.ndarray, batch_size: int, streams: int, seed: int, left_out: int = 0):
        self.rows, self.starts = np.argsort(blocks, kind="stable"), np.cumsum(np.bincount(blocks))[:-1]
        self.batch_size, self.streams, self.seed, self.epoch = batch_size, streams, seed, 0
        self.left_out = left_out

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows) - self.left_out

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        blocks = np.split(self.rows, self.starts)
        order = generator.permutation(len(blocks))
        count = min(self.streams, len(blocks))
        streams = [self._shuffled([blocks[b] for b in order[s::count]], generator) for s in range(count)]
        rounds = min(map(len, streams)) // self.batch_size
        for index in range(rounds):
            for stream in streams:
                yield from stream[index * self.batch_size : (index + 1) * self.batch_size].tolist()
        rest = np.concatenate([stream[rounds * self.batch_size :] for stream in streams])
        yield from rest[: len(rest) - self.left_out].tolist()

    def _shuffled(self, blocks: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
        windows = [np.concatenate(blocks[start : start + WINDOW]) for start in range(0, len(blocks), WINDOW)]
        return np.concatenate([generator.permutation(window) for window in windows])


def make_sampler(
    images: torch.utils.data.Dataset, labels: Tensor | None, args: TrainingArguments, left_out: int = 0
) -> Sampler:
    """The sampler that `args.train_sampler` names, of `args.data_seed`, or of `args.seed` where that is None.

    Args:
        images: Of training.
        labels: (N,), of the images; None where they are not known.
        args: Of the Trainer.
        left_out: How many images each epoch goes without, others in each.

    Raises:
        BadInputError: If rare classes should be drawn more often from images that are read in blocks, or without labels.
    """
    blocks = images.blocks if isinstance(images, LazyImages) else None
    seed = args.seed if args.data_seed is None else args.data_seed
    if args.train_sampler != "shuffle":
        if blocks is not None:
            raise BadInputError(
                f"`train_sampler` {args.train_sampler} asks for images in any order, and streamed ones are read in "
                "blocks: leave one of the two out."
            )
        if labels is None:
            raise BadInputError(
                f"`train_sampler` {args.train_sampler} needs the labels of `train_dataset`: give it an attribute `labels`."
            )
        return ClassSampler(labels, POWERS[args.train_sampler], seed, left_out)
    if blocks is None:
        return RandomSampler(images, num_samples=len(images) - left_out)  # accelerate seeds it
    streams = args.world_size * max(args.dataloader_num_workers, 1)
    return BlockSampler(blocks, args.train_batch_size, streams, seed, left_out)


def lone_images(num_images: int, args: TrainingArguments, model: nn.Module) -> int:
    """How many images would be a batch of their own at the end of an epoch, which batch normalisation cannot learn from.

    1, which the log tells, or 0: of a single image a last map of 1 x 1 has no deviation. Several processes fill their last
    batches.

    Raises:
        BadInputError: If there is no batch to train on, or batch normalisation can learn from none.
    """
    size, normalises = args.train_batch_size, any(isinstance(module, _BatchNorm) for module in model.modules())
    if args.dataloader_drop_last and num_images < size * args.world_size:
        raise BadInputError(
            f"`dataloader_drop_last` leaves nothing of {num_images} training images, "
            f"`per_device_train_batch_size` is {args.per_device_train_batch_size}: make it smaller, or keep the last batch."
        )
    if normalises and 1 in (size, num_images):
        raise BadInputError(
            f"{num_images} training image{'s' * (num_images > 1)} in batches of {size} cannot train a network with batch "
            "normalisation: make `per_device_train_batch_size` larger, or give more images."
        )
    if not normalises or num_images % size != 1 or args.dataloader_drop_last or args.world_size > 1:
        return 0
    logger.info(
        "Each epoch leaves out one of the %d training images, by chance: it would be a batch of its own, and batch "
        "normalisation needs two.",
        num_images,
    )
    return 1
