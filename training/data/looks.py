"""How images look: their sizes and modes, and a perceptual hash by which those that were saved anew are found."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from tailmoe.modeling.image_loading import plain_image
from tailmoe.training.data.streaming import read_images

READ_AT_ONCE = 256
THREADS = 8
THUMBNAIL = 16  # pixels a side
DRAFT = (64, 64)  # JPEG is decoded no larger than needed
BANDS = 4  # of 16 bits
MOST_BITS = BANDS - 1  # that differ: then one band at least is the same
MOST_LEVELS = 6.0  # root mean square difference of thumbnails, of 255
LEAST_CONTRAST = 4.0  # standard deviation; below, all images are alike
LARGEST_BAND = 5000  # images that share a band; more of them share what tells nothing


class Look(NamedTuple):
    """An image's width and height, its mode, its hash of 64 bits, and itself as a grey thumbnail (256,), uint8."""

    size: tuple[int, int]
    mode: str
    bits: np.uint64
    thumbnail: np.ndarray


def looks(dataset: datasets.Dataset) -> list[Look | None]:
    """The look of each image of a split with a column `image`; None of one that cannot be read."""
    encoded = dataset.cast_column("image", datasets.Image(decode=False))
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(dataset), desc="Looking at images", unit="image", leave=False, disable=None) as bar,
    ):
        found = []
        for sources in _sources(encoded):
            found += pool.map(_look, sources)
            bar.update(len(sources))
    return found


def _sources(encoded: datasets.Dataset) -> Iterator[list[dict | None]]:
    for start in range(0, len(encoded), READ_AT_ONCE):
        yield read_images(encoded[start : start + READ_AT_ONCE])


def _look(source: dict | None) -> Look | None:
    try:
        content = source["path"] if source["bytes"] is None else io.BytesIO(source["bytes"])
        with Image.open(content) as image:
            size, mode = image.size, image.mode
            image.draft("L", DRAFT)
            grey = (ImageOps.exif_transpose(image) if image.format == "JPEG" else plain_image(image)).convert("L")
    except Exception:  # on broken bytes Pillow's decoders raise errors of any type
        return None
    steps = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(np.diff(steps, axis=1) > 0).view(np.uint64)[0]
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)).ravel()
    return Look(size, mode, bits, thumbnail)


def near_duplicates(found: list[Look]) -> np.ndarray:
    """Pairs of images that look the same, resized or saved anew: (P, 2), int64, the first smaller than the second.

    At most three of the 64 bits of their difference hashes differ (Krawetz, Kind of Like That, 2013), and their thumbnails by
    six grey levels. Images of one colour are near to none.
    """
    thumbnails = np.stack([look.thumbnail for look in found]).astype(np.float32)
    rows = np.flatnonzero(thumbnails.std(axis=1) >= LEAST_CONTRAST)
    bits = np.array([found[row].bits for row in rows], dtype=np.uint64)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for band in range(BANDS):
        part = (bits >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(part, kind="stable")
        for same in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
            if 1 < len(same) <= LARGEST_BAND:
                pairs.append(np.sort(rows[same[_near(bits[same])]], axis=1))
    unique = np.unique(np.concatenate(pairs), axis=0)
    apart = thumbnails[unique[:, 0]] - thumbnails[unique[:, 1]]
    return unique[np.sqrt(np.square(apart).mean(axis=1)) <= MOST_LEVELS]


def _near(bits: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) whose bits differ in few places; row by row, as all at once would not fit in memory."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for row in range(len(bits) - 1):
        other = np.flatnonzero(np.bitwise_count(bits[row + 1 :] ^ bits[row]) <= MOST_BITS) + row + 1
        found.append(np.stack([np.full(len(other), row), other], axis=1))
    return np.concatenate(found)
