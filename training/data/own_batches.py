"""Data sets that give pixel values and labels themselves, as transformers' Trainer takes them."""

from collections.abc import Callable

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset
from transformers import BaseImageProcessor, default_data_collator

from tailmoe.training.data.columns import own_columns
from tailmoe.training.data.images import DecodedImages, processed
from tailmoe.training.data.lazy_images import LazyImages
from tailmoe.training.data.long_tailed import check_range, label_array
from tailmoe.training.errors import BadInputError


class Collator:
    """Batches of `pixel_values` (B, C, H, W) and `labels` (B,), of which whole ones stay as they are.

    Args:
        collate: Makes a dict of a list of examples; None for transformers' own.
        num_labels: Of the model.

    Raises:
        BadInputError: When called, if examples cannot be collated, or what comes of them are no images and labels.
    """

    def __init__(self, collate: Callable[[list], dict] | None, num_labels: int):
        self.collate, self.num_labels = collate or default_data_collator, num_labels

    def __call__(self, examples: list | dict) -> dict[str, Tensor]:
        if isinstance(examples, dict):  # of decoded images
            return examples
        try:
            given = self.collate(examples)
            batch = {name: torch.as_tensor(given[name]) for name in ("pixel_values", "labels") if name in given}
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
            told = str(error).split("\n")[0]
            raise BadInputError(
                f"Examples cannot be made a batch ({told}): give a `data_collator` that can."
            ) from error
        if "pixel_values" not in batch:
            raise BadInputError(
                f"A batch must have `pixel_values` and `labels`, got {', '.join(map(str, given)) or 'nothing'}: let the data "
                "set or `data_collator` give them."
            )
        self._check(batch)
        if batch["pixel_values"].dtype == torch.float64:  # of numpy
            batch["pixel_values"] = batch["pixel_values"].float()
        return batch

    def _check(self, batch: dict[str, Tensor]) -> None:
        pixels, labels = batch["pixel_values"], batch.get("labels")
        if pixels.dim() != 4 or not (pixels.is_floating_point() or pixels.dtype == torch.uint8):
            raise BadInputError(
                f"`pixel_values` must be floats or uint8 of shape (B, C, H, W), got {pixels.dtype} of {tuple(pixels.shape)}."
            )
        if labels is None:
            return
        if labels.shape != pixels.shape[:1] or labels.is_floating_point():
            raise BadInputError(
                f"`labels` must be a whole number for each of {len(pixels)} images, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}."
            )
        check_range(labels.cpu().numpy(), self.num_labels)


def gives_pixels(dataset: object) -> bool:
    """Whether a `datasets.Dataset` has a transform of its own, or pixel values instead of images."""
    if dataset.format["type"] == "custom":
        return True
    has_images = any(isinstance(feature, datasets.Image) for feature in dataset.features.values())
    return "pixel_values" in dataset.column_names and not has_images


def streamed(dataset: datasets.IterableDataset, image_processor: BaseImageProcessor) -> datasets.IterableDataset:
    """A streamed split whose images the image processor has made uint8 pixels of; without a column of images as it is."""
    features = dataset.features or {}
    if not any(isinstance(feature, datasets.Image) for feature in features.values()):
        return dataset
    image, label = own_columns(features)

    def pixels(row: dict) -> dict:
        return {"pixel_values": processed([row[image]], image_processor)[0].numpy(), "labels": row[label]}

    return dataset.map(pixels, remove_columns=list(features))


def labels_of(dataset: object) -> Tensor | None:
    """The labels (N,) of a split, where it can tell them without its images.

    Decoded images tell them, the label column of a `datasets.Dataset`, an attribute `labels` or `targets`, and parts of such.

    Raises:
        BadInputError: If a label is missing, or not a whole number.
    """
    if isinstance(dataset, DecodedImages | LazyImages):
        return dataset.labels
    if isinstance(dataset, datasets.Dataset):
        features = dataset.features
        names = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
        names = names or [name for name in ("label", "labels") if name in features]
        return torch.from_numpy(label_array(dataset.with_format(None), names[0])) if len(names) == 1 else None
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [labels_of(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else torch.cat(parts)
    if isinstance(dataset, IterableDataset):
        return None
    told = [getattr(dataset, name, None) for name in ("labels", "targets")]
    told = [torch.as_tensor(np.asarray(each)) for each in told if each is not None and not callable(each)]
    return next((each for each in told if each.dim() == 1 and not each.is_floating_point()), None)
