"""Which training images an epoch shows, and in which order."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, WeightedRandomSampler
from transformers import TrainingArguments

from tailmoe.training.data.encoded_images import EncodedImages
from tailmoe.training.data.images import DecodedImages
from tailmoe.training.data.streaming import KEPT
from tailmoe.training.errors import BadInputError

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
    """

    def __init__(self, blocks: np.ndarray, batch_size: int, streams: int, seed: int):
        self.rows, self.starts = np.argsort(blocks, kind="stable"), np.cumsum(np.bincount(blocks))[:-1]
        self.batch_size, self.streams, self.seed, self.epoch = batch_size, streams, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

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
        yield from rest.tolist()

    def _shuffled(self, blocks: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
        windows = [np.concatenate(blocks[start : start + WINDOW]) for start in range(0, len(blocks), WINDOW)]
        return np.concatenate([generator.permutation(window) for window in windows])


def make_sampler(images: DecodedImages | EncodedImages, args: TrainingArguments) -> Sampler | None:
    """The sampler that `args.train_sampler` names; None for the Trainer's own.

    Raises:
        BadInputError: If rare classes should be drawn more often from images that are read in blocks.
    """
    blocks = images.blocks if isinstance(images, EncodedImages) else None
    if args.train_sampler != "shuffle":
        if blocks is not None:
            raise BadInputError(
                f"`train_sampler` {args.train_sampler} asks for images in any order, and streamed ones are read in "
                "blocks: leave one of the two out."
            )
        return ClassSampler(images.labels, POWERS[args.train_sampler], args.seed)
    if blocks is None:
        return None
    streams = args.world_size * max(args.dataloader_num_workers, 1)
    return BlockSampler(blocks, args.train_batch_size, streams, args.seed)
