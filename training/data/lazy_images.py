"""Images that do not fit in memory: decoded each time they are asked for, by processes of their own."""

import logging
import os

import datasets
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import BaseImageProcessor, TrainingArguments

from tailmoe.training.data.images import (
    DecodedImages,
    channel_statistics,
    check_policy,
    decode_rows,
    encoded_column,
    processed,
    whole_batch,
)
from tailmoe.training.data.long_tailed import label_array
from tailmoe.training.data.streaming import block_numbers
from tailmoe.training.errors import BadInputError
from tailmoe.training.faults import naming_faults

logger = logging.getLogger(__name__)
SAMPLED_FOR_STATISTICS = 1000
STREAM_WORKERS = 4


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LazyImages(torch.utils.data.Dataset):
    """A split that stays as its files are: a batch is read, decoded and resized when it is asked for.

    Batches come whole as those of `DecodedImages` do; images that cannot be read are missing from their batch, and told
    in its list `unreadable`.

    Args:
        dataset: With the columns `image` and `label`.
        image_processor: Converts and resizes the images.

    Raises:
        BadInputError: If a column is missing, or the split is empty.

    `blocks` tells which images are read together, see `block_numbers`; `rows` (N,) where each is in its split.
    """

    skipped = None  # images left out: not known

    def __init__(self, dataset: datasets.Dataset, image_processor: BaseImageProcessor):
        self.labels = torch.from_numpy(label_array(dataset))
        self.rows = torch.arange(len(self.labels))
        self.encoded, self.image_processor = encoded_column(dataset), image_processor
        self.blocks = block_numbers(self.encoded)

    @property
    def num_workers(self) -> int:
        """Processes that decode in training: one for each core; of streamed images, whose order depends on it, always four."""
        return available_cores() if self.blocks is None else STREAM_WORKERS

    @naming_faults()
    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over 1,000 evenly spaced images, in units of the full scale."""
        rows = torch.linspace(0, len(self) - 1, min(len(self), SAMPLED_FOR_STATISTICS)).long().unique()
        loader = image_loader(Subset(self, rows.tolist()), batch_size=16)
        return channel_statistics(
            batch["pixel_values"]
            for batch in tqdm(loader, desc="Measuring colours", unit="batch", leave=False, disable=None)
            if len(batch["labels"])
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor | list[str]]:
        images, kept, unreadable = decode_rows(self.encoded, indices)
        pixels = processed(images, self.image_processor) if images else torch.empty(0, dtype=torch.uint8)
        batch = {"pixel_values": pixels, "labels": self.labels[torch.as_tensor(kept, dtype=torch.long)]}
        return batch | {"unreadable": unreadable} if unreadable else batch


class UnlabelledImages(torch.utils.data.Dataset):
    """Images to predict, read and decoded batch by batch.

    Args:
        dataset: With a column `image`.
        image_processor: Converts and resizes the images.
    """

    def __init__(self, dataset: datasets.Dataset, image_processor: BaseImageProcessor):
        self.encoded, self.image_processor = encoded_column(dataset), image_processor

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        images, _, unreadable = decode_rows(self.encoded, indices)
        if unreadable:
            raise BadInputError(f"Cannot read {unreadable[0]}: leave it out.")
        return {"pixel_values": processed(images, self.image_processor)}


def load_images(
    dataset: datasets.Dataset,
    image_processor: BaseImageProcessor,
    on_bad_image: str = "error",
    memory_share: float = 0.5,
    desc: str = "Decoding images",
) -> DecodedImages | LazyImages:
    """A split, decoded at once if that takes at most a share of the free memory; the log tells if it does not.

    Args:
        dataset: With the columns `image` and `label`.
        image_processor: Converts and resizes the images.
        on_bad_image: `"error"` or `"skip"`.
        memory_share: In [0, 1].
        desc: Title of the progress bar.

    Raises:
        BadInputError: As `DecodedImages.from_dataset`.
    """
    check_policy(on_bad_image)
    free = psutil.virtual_memory().available
    size = len(dataset) * _bytes_of_one(dataset, image_processor)
    if size <= memory_share * free:
        return DecodedImages.from_dataset(dataset, image_processor, on_bad_image, desc)
    logger.info(
        "%d images would take %.1f GB decoded, of %.1f GB free: they are decoded batch by batch, by %d processes.",
        *(len(dataset), size / 1e9, free / 1e9, available_cores()),
    )
    return LazyImages(dataset, image_processor)


def place_images(images: torch.utils.data.Dataset, args: TrainingArguments) -> torch.utils.data.Dataset:
    """The training images, decoded ones on an accelerator that has room for them; encoded ones get processes that decode.

    The log tells which arguments that changes.
    """
    on_gpu = args.device.type == "cuda"
    if isinstance(images, LazyImages):
        workers, pinned, reason = (
            args.dataloader_num_workers or images.num_workers,
            on_gpu,
            "images are decoded by batch",
        )
    elif (
        on_gpu
        and isinstance(images, DecodedImages)
        and images.pixel_values.nbytes < torch.cuda.mem_get_info(args.device)[0] / 4
    ):
        workers, pinned, reason = 0, False, "the images are in the memory of the GPU"
        images = images.to(args.device)
    else:
        return images
    args.adjust("dataloader_num_workers", workers, reason)
    args.adjust("dataloader_pin_memory", pinned, reason)
    return images


def image_loader(images: torch.utils.data.Dataset, batch_size: int) -> DataLoader:
    """Whole batches in the order of the split; encoded images are decoded by one process for each core."""
    source = images.dataset if isinstance(images, Subset) else images
    workers = available_cores() if isinstance(source, LazyImages) else 0
    return DataLoader(images, batch_size, num_workers=workers, collate_fn=whole_batch)


def report_unreadable(batches: list[dict], on_bad_image: str) -> None:
    """Take the lists `unreadable` out of the batches.

    Raises:
        BadInputError: For the first image in them, unless such images are skipped; if nothing is left of a batch.
    """
    for batch in batches:
        for bad in batch.pop("unreadable", []):
            if on_bad_image == "error":
                raise BadInputError(f"Cannot read {bad}; `on_bad_image: skip` leaves such rows out.")
            logger.warning("Skipped %s", bad)
        if len(batch.get("labels", [0])) == 0:
            raise BadInputError("None of the images of a batch can be read: the warnings above name them.")


def _bytes_of_one(dataset: datasets.Dataset, image_processor: BaseImageProcessor) -> int:
    """Size of the first readable image of a few, as the image processor makes it; 0 if none of them is readable."""
    encoded = encoded_column(dataset)
    for start in range(0, min(len(dataset), 64), 16):
        images, _, _ = decode_rows(encoded, range(start, min(start + 16, len(dataset))))
        if images:
            return processed(images[:1], image_processor).nbytes
    return 0
