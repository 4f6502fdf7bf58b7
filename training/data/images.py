"""Images decoded once and served as whole batches."""

import io
import logging
import warnings

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm
from transformers import BaseImageProcessor

from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
CHUNK = 256  # images handed to the processor at once
NAMES_SHOWN = 5


def decode_image(source: bytes | str) -> Image.Image:
    """An image from its bytes or its path: upright, 8 bits a channel.

    Raises:
        BadInputError: If it is missing, not an image, truncated, or too large to decode safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            image.load()
    except FileNotFoundError:
        raise BadInputError("there is no such file") from None
    except Image.UnidentifiedImageError:
        raise BadInputError("it is not an image that Pillow knows") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInputError(str(error).rstrip(".")) from None
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # more than 8 bits: scaled, where Pillow's conversion would clip
        pixels = np.asarray(image, dtype=np.float64)
        white = 65535.0 if image.mode.startswith("I") else max(pixels.max(), 1.0)
        image = Image.fromarray((pixels / white * 255).round().clip(0, 255).astype(np.uint8))
    return image


class DecodedImages(torch.utils.data.Dataset):
    """A split in memory: uint8 pixels as the image processor resizes them, before scaling and normalisation.

    Batches come whole: `__getitems__` returns one dict of `pixel_values` (B, C, H, W), uint8, and `labels` (B,).

    Args:
        pixel_values: (N, C, H, W), uint8.
        labels: (N,), int64.
        skipped: Number of images left out because they could not be read.
    """

    def __init__(self, pixel_values: Tensor, labels: Tensor, skipped: int = 0):
        self.pixel_values, self.labels, self.skipped = pixel_values, labels, skipped

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
        if on_bad_image not in ("error", "skip"):
            raise BadInputError(f"`on_bad_image` must be error or skip, got {on_bad_image}.")
        if len(dataset) == 0:
            raise BadInputError("The split is empty: it has no image.")
        encoded = dataset.cast_column("image", datasets.Image(decode=False))
        chunks, kept, bad = [], [], []
        with tqdm(total=len(dataset), desc=desc, unit="image", leave=False, disable=None) as bar:
            for start in range(0, len(dataset), CHUNK):
                images = []
                for row, value in enumerate(encoded[start : start + CHUNK]["image"], start):
                    try:
                        images.append(_decode_row(row, value))
                        kept.append(row)
                    except BadInputError as error:
                        if on_bad_image == "error":
                            raise
                        bad.append(str(error))
                    bar.update()
                if images:
                    processed = image_processor(images, do_rescale=False, do_normalize=False, return_tensors="pt")
                    chunks.append(processed["pixel_values"].round().clamp(0, 255).to(torch.uint8))
        if bad:
            logger.warning("Skipped %d unreadable images: %s", len(bad), " ".join(bad[:NAMES_SHOWN]))
        if not kept:
            raise BadInputError(f"None of the {len(dataset)} images can be read: {bad[0]}")
        labels = torch.tensor(dataset["label"], dtype=torch.long)[kept]
        return cls(torch.cat(chunks), labels, skipped=len(bad))

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels, in units of the full scale."""
        levels = torch.arange(256, dtype=torch.float64) / 255
        means, stds = [], []
        for channel in self.pixel_values.unbind(dim=1):
            shares = torch.bincount(channel.flatten().int(), minlength=256).double() / channel.numel()
            mean = (shares * levels).sum()
            means.append(mean.item())
            stds.append((shares * (levels - mean).square()).sum().sqrt().item())
        return means, stds

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        return {"pixel_values": self.pixel_values[rows], "labels": self.labels[rows]}


def _decode_row(row: int, value: dict | None) -> Image.Image:
    """The image of a row, `{"bytes": ..., "path": ...}` as `datasets` stores it."""
    value = value or {}
    source, path = value.get("bytes"), value.get("path")
    named = f"row {row}" + (f" ({path})" if path else "")
    if source is None and path is None:
        raise BadInputError(f"The image of {named} is missing; `on_bad_image: skip` leaves such rows out.")
    try:
        return decode_image(path if source is None else source)
    except BadInputError as error:
        raise BadInputError(
            f"The image of {named} cannot be read: {error}; `on_bad_image: skip` leaves such rows out."
        ) from None
