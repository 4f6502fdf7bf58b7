"""Batches on their way from the data loader to the model: augmented, normalised, mixed."""

import itertools
import logging
from collections import deque
from collections.abc import Iterator
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import BaseImageProcessor

from tailmoe.training.augmentation.transforms import BatchAugmentation, draw_mixup, mixup
from tailmoe.training.data.lazy_images import report_unreadable
from tailmoe.training.data.normalization import Normalization
from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.arguments import LongTailTrainingArguments

logger = logging.getLogger(__name__)
AUGMENTED_AT_ONCE = 2**23  # bytes of images
# arguments, and what leaves them without effect
AUGMENTATIONS = {
    "crop_padding": 0,
    "min_crop_area": 1.0,
    "horizontal_flip": False,
    "auto_augment": False,
    "cutout_size": 0,
}


class AugmentedBatches:
    """Augments the batches of a data loader, whole batches at once, each with the random numbers of its own step.

    The batches of several steps are augmented together: each of the several hundred operations takes a time of its own,
    on an accelerator more than the images do.

    Args:
        args: Of the Trainer.
        augmentation: Of uint8 images.
        normalization: What makes floats of them.
    """

    def __init__(self, args: LongTailTrainingArguments, augmentation: BatchAugmentation, normalization: Normalization):
        self.args, self.augmentation, self.normalization = args, augmentation, normalization
        self.source: Iterator | None = None
        self.ready: deque[dict[str, Tensor]] = deque()
        self.told = False

    @classmethod
    def of_arguments(cls, args: LongTailTrainingArguments, processor: BaseImageProcessor) -> Self:
        """What the arguments ask for, on the images of an image processor."""
        augmentation = args.augmentation(fill=tuple(round(255 * mean) for mean in processor.image_mean))
        return cls(args, augmentation, Normalization(processor).to(args.device))

    def take(self, source: Iterator, num_batches: int, step: int) -> list[dict[str, Tensor]]:
        """The batches of the next update, fewer at the end of an epoch.

        Args:
            source: Iterator over an epoch's batches; a new one drops what was augmented ahead of the old.
            num_batches: Batches of one update.
            step: Updates done so far.
        """
        if source is not self.source:
            self.source, self.ready = source, deque()
        if len(self.ready) < num_batches:
            batches = list(itertools.islice(source, num_batches))
            batches += itertools.islice(source, self._batches_ahead(batches))
            self.ready.extend(self._augment(batches, step))
        return [self.ready.popleft() for _ in range(min(num_batches, len(self.ready)))]

    def _batches_ahead(self, batches: list[dict[str, Tensor]]) -> int:
        if not batches or not is_uint8(batches[0]):
            return 0
        updates = AUGMENTED_AT_ONCE // max(sum(batch["pixel_values"].nbytes for batch in batches), 1)
        return max(updates - 1, 0) * len(batches)

    def _augment(self, batches: list[dict[str, Tensor]], step: int) -> list[dict[str, Tensor]]:
        report_unreadable(batches, self.args.on_bad_image)
        for batch in batches:
            if "labels" not in batch:
                raise BadInputError("`train_dataset` gives no `labels`: images without them cannot be trained on.")
        augmented = bool(batches) and is_uint8(batches[0])
        if batches and not augmented:
            self._tell_once(batches[0]["pixel_values"])
        parameters = []
        for index, batch in enumerate(batches):
            ahead, part = divmod(index, self.args.gradient_accumulation_steps)
            generator = self._generator(step + ahead, part)
            if augmented:
                parameters.append(self._draw(batch["pixel_values"], generator))
            if self.args.mixup_alpha > 0:
                permutation, weight = draw_mixup(len(batch["labels"]), self.args.mixup_alpha, generator)
                batch |= {"permutation": permutation.to(self.args.device, non_blocking=True), "weight": weight}
        if not augmented:
            return batches
        images = torch.cat([batch["pixel_values"] for batch in batches])
        parts = self.augmentation.apply(images, torch.cat(parameters)).split([len(each) for each in parameters])
        return [batch | {"pixel_values": part} for batch, part in zip(batches, parts, strict=True)]

    def _tell_once(self, pixel_values: Tensor) -> None:
        acting = [name for name in AUGMENTATIONS if getattr(self.augmentation, name) != AUGMENTATIONS[name]]
        if acting and not self.told:
            logger.warning(
                "Images that `train_dataset` gives as %s are taken as they are, without `%s`: those are for uint8 images.",
                *(str(pixel_values.dtype).removeprefix("torch."), "`, `".join(acting)),
            )
        self.told = True

    def _draw(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Parameters of a batch: of those that one process would draw for all processes' images, the own images'."""
        count = len(images)
        drawn = self.augmentation.draw(images[:1].expand(count * self.args.world_size, -1, -1, -1), generator)
        return drawn[count * self.args.process_index :][:count]

    def _generator(self, step: int, part: int) -> torch.Generator:
        """Random numbers of one batch: a function of seed, step and batch of the step, nothing else."""
        source = np.random.SeedSequence([self.args.seed, step, part, 0])
        return torch.Generator().manual_seed(int(source.generate_state(1, np.uint64)[0] >> 1))

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch as the model takes it: normalised, and mixed if mixup's partners were drawn."""
        batch = dict(batch)
        report_unreadable([batch], self.args.on_bad_image)  # of a batch for evaluation, which was not augmented
        if is_uint8(batch):
            batch["pixel_values"] = self.normalization(batch["pixel_values"])
        if "permutation" in batch:
            permutation = batch.pop("permutation")
            batch["pixel_values"] = mixup(batch["pixel_values"], permutation, batch["weight"])
            batch["mixed_labels"] = batch["labels"][permutation]
        return batch


def is_uint8(batch: dict[str, Tensor]) -> bool:
    """Whether the batch holds images that are not normalised yet."""
    return "pixel_values" in batch and batch["pixel_values"].dtype == torch.uint8
