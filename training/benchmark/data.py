"""From encoded images to normalised batches."""

import itertools

import torch
from torch.utils.data import DataLoader
from transformers import BaseImageProcessor

from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.augmentation import BatchAugmentation
from tailmoe.training.augmented_batches import AugmentedBatches
from tailmoe.training.benchmark.measure import Figure, Spread, compare, large_copy, times_in_turn
from tailmoe.training.benchmark.reference import ImagesOneByOne
from tailmoe.training.benchmark.setting import BATCH, SIZE, BenchmarkImages, benchmark_images
from tailmoe.training.data.encoded_images import available_cores
from tailmoe.training.data.images import whole_batch
from tailmoe.training.evaluation import Normalization

CUTOUT = ImagesOneByOne.cutout_size
READ_AND_WRITTEN = 3 * SIZE**2 * (1 + 4) / 1e9  # GB an image: bytes in, float32 out


def data_figures(device: str, repeats: int) -> list[Figure]:
    """Epochs of 2,048 images of 32x32 pixels, without and with AutoAugment; the reference decodes in worker processes."""
    images = benchmark_images()
    return [
        _figure("crop, flip, Cutout", images, device, repeats, auto_augment=False),
        _figure("with AutoAugment", images, device, repeats, auto_augment=True),
    ]


def _figure(name: str, images: BenchmarkImages, device: str, repeats: int, auto_augment: bool) -> Figure:
    one_by_one = ImagesOneByOne(images.encoded, images.decoded.labels, images.processor, auto_augment)
    loader = DataLoader(one_by_one, BATCH, shuffle=True, num_workers=available_cores(), persistent_workers=True)
    whole = DataLoader(images.decoded.to(device), BATCH, shuffle=True, collate_fn=whole_batch)
    batches = augmented_batches(device, images.processor, auto_augment)
    copy, copied = large_copy(device)

    def epoch_of_whole_batches() -> None:
        source = iter(whole)
        for step in itertools.count():
            taken = batches.take(source, 1, step)
            if not taken:
                return
            batches.finish(taken[0])

    def epoch_one_by_one() -> None:
        for batch in loader:
            for value in batch.values():
                value.to(device)

    candidates = {"ours": epoch_of_whole_batches, "reference": epoch_one_by_one, "copy": copy}
    times = times_in_turn(candidates, device, repeats, least=0.3)
    limit = Spread.of(times["copy"]).per(copied).median
    details = {"batch_size": BATCH, "workers": available_cores()}
    details["share_of_limit"] = READ_AND_WRITTEN * len(one_by_one) / Spread.of(times["ours"]).median / limit
    return compare("data", name, "images/s", len(one_by_one), times, target=10.0, **details)


def augmented_batches(device: str, processor: BaseImageProcessor, auto_augment: bool) -> AugmentedBatches:
    """The augmentation of the Trainer, without a Trainer."""
    args = LongTailTrainingArguments(output_dir="unused", use_cpu=device == "cpu", report_to="none")
    augmentation = BatchAugmentation(auto_augment=auto_augment, cutout_size=CUTOUT)
    return AugmentedBatches(args, augmentation, Normalization(processor).to(torch.device(device)))
