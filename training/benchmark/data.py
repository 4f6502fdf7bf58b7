"""From encoded images to normalised batches."""

import itertools

import torch
from torch.utils.data import DataLoader
from transformers import BaseImageProcessor

from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.augmentation import BatchAugmentation
from tailmoe.training.augmented_batches import AugmentedBatches
from tailmoe.training.benchmark.measure import Figure, compare, times_in_turn
from tailmoe.training.benchmark.reference import ImagesOneByOne
from tailmoe.training.benchmark.setting import BATCH, benchmark_images
from tailmoe.training.data.encoded_images import available_cores
from tailmoe.training.data.images import whole_batch
from tailmoe.training.evaluation import Normalization

CUTOUT = ImagesOneByOne.cutout_size


def data_figures(device: str, repeats: int) -> list[Figure]:
    """Epochs of 2,048 images of 32x32 pixels, without and with AutoAugment; the reference decodes in worker processes."""
    images = benchmark_images()
    figures = []
    for auto_augment, name in ((False, "crop, flip, Cutout"), (True, "with AutoAugment")):
        one_by_one = ImagesOneByOne(images.encoded, images.decoded.labels, images.processor, auto_augment)
        loader = DataLoader(one_by_one, BATCH, shuffle=True, num_workers=available_cores(), persistent_workers=True)
        decoded = images.decoded.to(device)
        whole = DataLoader(decoded, BATCH, shuffle=True, collate_fn=whole_batch)
        batches = augmented_batches(device, images.processor, auto_augment)

        def epoch_of_whole_batches(whole=whole, batches=batches):
            source = iter(whole)
            for step in itertools.count():
                taken = batches.take(source, 1, step)
                if not taken:
                    return
                batches.finish(taken[0])

        def epoch_one_by_one(loader=loader):
            for batch in loader:
                for value in batch.values():
                    value.to(device)

        times = times_in_turn(
            {"ours": epoch_of_whole_batches, "reference": epoch_one_by_one}, device, repeats, least=0.3
        )
        figures.append(
            compare(
                "data", name, "images/s", len(decoded), times, target=10.0, batch_size=BATCH, workers=available_cores()
            )
        )
    return figures


def augmented_batches(device: str, processor: BaseImageProcessor, auto_augment: bool) -> AugmentedBatches:
    """The augmentation of the Trainer, without a Trainer."""
    args = LongTailTrainingArguments(output_dir="unused", use_cpu=device == "cpu", report_to="none")
    augmentation = BatchAugmentation(auto_augment=auto_augment, cutout_size=CUTOUT)
    return AugmentedBatches(args, augmentation, Normalization(processor).to(torch.device(device)))
