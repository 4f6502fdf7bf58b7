"""Images decoded once and served as whole batches."""

import logging
from collections.abc import Iterable, Sequence

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm
from transformers import BaseImageProcessor

import tailmoe.training.data.formats  # noqa: F401 (makes Pillow read HEIC where a package for it is installed)
from tailmoe.modeling.image_loading import load_image
from tailmoe.training.data.long_tailed import label_array
from tailmoe.training.data.streaming import read_images
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
CHUNK = 16  # images decoded at once: photographs of 12 megapixels take 36 MB each
NAMES_SHOWN = 5


def decode_image(source: bytes | str) -> Image.Image:
    """An image from its bytes or its path: upright, 8 bits a channel, grey or colour.

    Raises:
        BadInputError: If it is missing, not an image, truncated, or too large to decode safely.
    """
    try:
        return load_image(source)
    except FileNotFoundError:
        raise BadInputError("there is no such file") from None
    except Image.UnidentifiedImageError:
        raise BadInputError("it is not an image that Pillow knows") from None
    except Exception as error:  # on broken bytes Pillow's decoders raise errors of any type
        raise BadInputError(str(error).rstrip(".") or type(error).__name__) from None


class DecodedImages(torch.utils.data.Dataset):
    """A split in memory: uint8 pixels as the image processor resizes them, before scaling and normalisation.

    Batches come whole: `__getitems__` returns one dict of `pixel_values` (B, C, H, W), uint8, and `labels` (B,).

    Args:
        pixel_values: (N, C, H, W), uint8.
        labels: (N,), int64.
        skipped: Number of images left out because they could not be read.
        rows: (N,), int64, where each image is in its split; in order and without gaps if None.
    """

    def __init__(self, pixel_values: Tensor, labels: Tensor, skipped: int = 0, rows: Tensor | None = None):
        self.pixel_values, self.labels, self.skipped = pixel_values, labels, skipped
        self.rows = torch.arange(len(labels)) if rows is None else rows

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset,
        image_processor: BaseImageProcessor,
        on_bad_image: str = "error",
        desc: str = "Decoding images",
    ) -> "DecodedImages":
        """Decode a data set with the columns `image` and `label`.

        Args:
            dataset: The split.
            image_processor: Converts and resizes the images.
            on_bad_image: `"error"`, or `"skip"` to leave out, count and log images that cannot be read.
            desc: Title of the progress bar.

        Raises:
            BadInputError: For an empty split, an image that cannot be read (unless skipped; its row and file are
                named), or when none can be read.
        """
        check_policy(on_bad_image)
        labels = label_array(dataset)
        encoded = encoded_column(dataset)
        pixels, kept, bad = None, [], []
        with tqdm(total=len(dataset), desc=desc, unit="image", leave=False, disable=None) as bar:
            for start in range(0, len(dataset), CHUNK):
                images, rows, unread = decode_rows(encoded, range(start, min(start + CHUNK, len(dataset))))
                if unread and on_bad_image == "error":
                    raise BadInputError(f"Cannot read {unread[0]}; `on_bad_image: skip` leaves such rows out.")
                if images:
                    chunk = processed(images, image_processor)
                    if pixels is None:  # filled in place: a large split must not be in memory twice
                        pixels = torch.empty((len(dataset), *chunk.shape[1:]), dtype=torch.uint8)
                    _check_shape(chunk, pixels, image_processor)
                    pixels[len(kept) : len(kept) + len(rows)] = chunk
                kept += rows
                bad += unread
                bar.update(len(images) + len(unread))
        if not kept:
            raise BadInputError(f"None of the {len(dataset)} images can be read, the first is {bad[0]}.")
        if bad:
            shown = "; ".join(bad[:NAMES_SHOWN]) + ("; ..." if len(bad) > NAMES_SHOWN else "")
            logger.warning("Skipped %d unreadable images of %d: %s", len(bad), len(dataset), shown)
        return cls(pixels[: len(kept)], torch.from_numpy(labels[kept]), len(bad), torch.tensor(kept))

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels, in units of the full scale."""
        return channel_statistics(self.pixel_values.split(CHUNK))

    def to(self, device: torch.device) -> "DecodedImages":
        """The same split on another device."""
        return DecodedImages(self.pixel_values.to(device), self.labels.to(device), self.skipped, self.rows)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices).to(self.labels.device, non_blocking=True)
        return {"pixel_values": self.pixel_values.index_select(0, rows), "labels": self.labels[rows]}


def whole_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What collates batches that come whole."""
    return batch


def channel_statistics(batches: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over batches (B, C, H, W), uint8, in units of the full scale."""
    counts = 0
    for images in batches:  # small ones: bincount makes int64 of its input
        counts += torch.stack([torch.bincount(pixels.flatten(), minlength=256) for pixels in images.unbind(dim=1)])
    if not isinstance(counts, Tensor):
        raise BadInputError("None of the images can be read.")
    shares = counts.double() / counts.sum(dim=1, keepdim=True)  # (C, 256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (shares * levels).sum(dim=1)
    variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
    return mean.tolist(), variance.sqrt().tolist()


def check_policy(on_bad_image: str) -> None:
    """Raise `BadInputError` unless there is such a way to treat unreadable images."""
    if on_bad_image not in ("error", "skip"):
        raise BadInputError(f"`on_bad_image` must be error or skip, got {on_bad_image}.")


def encoded_column(dataset: datasets.Dataset) -> datasets.Dataset:
    """The data set with `{"bytes": ..., "path": ...}` in column `image`."""
    if not isinstance(dataset.features.get("image"), datasets.Image):
        raise BadInputError(
            f"There must be a column `image` of type Image; the columns are {', '.join(dataset.column_names)}: "
            "`rename_columns` and `cast_column` make one."
        )
    return dataset.cast_column("image", datasets.Image(decode=False))


def decode_rows(encoded: datasets.Dataset, indices: Sequence[int]) -> tuple[list[Image.Image], list[int], list[str]]:
    """The images of the rows `indices`, their rows, and for those that cannot be read: row, file and reason.

    Args:
        encoded: As `encoded_column` returns it.
        indices: Rows of it.
    """
    images, rows, unread = [], [], []
    for row, value in zip(indices, read_images(encoded[indices]), strict=True):
        source, path = ((value or {}).get(key) for key in ("bytes", "path"))
        try:
            if source is None and path is None:
                raise BadInputError("it is missing")
            images.append(decode_image(path if source is None else source))
            rows.append(row)
        except BadInputError as error:
            unread.append(f"the image of row {row}{f' ({path})' if path else ''}: {error}")
    return images, rows, unread


def check_images(dataset: datasets.Dataset) -> None:
    """Raise `BadInputError` for the first image of a data set that cannot be read."""
    encoded = encoded_column(dataset)
    for start in tqdm(range(0, len(dataset), CHUNK), desc="Checking images", unit="batch", leave=False, disable=None):
        _, _, unread = decode_rows(encoded, range(start, min(start + CHUNK, len(dataset))))
        if unread:
            raise BadInputError(f"Cannot read {unread[0]}; mend or remove it.")


def colour_options(image_processor: BaseImageProcessor) -> dict[str, bool]:
    """Options with which an image processor of colour takes grey images too; many of transformers' own see to it on request."""
    return {"do_convert_rgb": True} if np.size(image_processor.image_mean) == 3 else {}


def processed(images: list[Image.Image], image_processor: BaseImageProcessor) -> Tensor:
    """What the image processor makes of the images before it scales and normalises them: (B, C, H, W), uint8."""
    options = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"} | colour_options(image_processor)
    try:
        processed = image_processor(images, **options)["pixel_values"]
    except (ValueError, TypeError) as error:
        raise BadInputError(
            f"`{type(image_processor).__name__}` cannot bring the images to one shape: {str(error).splitlines()[0]}"
        ) from error
    return processed.round().clamp(0, 255).to(torch.uint8)


def _check_shape(chunk: Tensor, pixels: Tensor, image_processor: BaseImageProcessor) -> None:
    if chunk.shape[1:] != pixels.shape[1:]:
        raise BadInputError(
            f"`{type(image_processor).__name__}` cannot bring the images to one shape: "
            f"{tuple(pixels.shape[1:])} and {tuple(chunk.shape[1:])}."
        )
