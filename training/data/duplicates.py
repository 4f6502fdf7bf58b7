"""Images with the same bytes: which rows they are, and which of them lie on both sides of a split."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow.compute
from tqdm.auto import tqdm

ROWS_AT_ONCE = 1000
EDGE = 4096  # bytes at either end of an image
FILES_AT_ONCE = 16
OF_A_THREAD = 250  # images that a thread takes at once


def content_numbers(splits: Sequence[datasets.Dataset]) -> list[np.ndarray]:
    """A number for the bytes of each image of each split: (N,), int64; equal for images with the same bytes.

    Files are opened only where another has the same size, and read whole only where both ends are the same as well.
    Images that are missing are like no other.

    Args:
        splits: With the columns `image` and `label`.
    """
    rows, sources = [], {}
    for part, split in enumerate(splits):
        for source, image in _images(split.cast_column("image", datasets.Image(decode=False)), part):
            rows.append(source)
            sources[source] = image
    keys: dict[Hashable, Hashable] = {source: image.size for source, image in sources.items()}
    for digest in (_digest_of_ends, _digest):
        keys = _refined(keys, sources, digest)
    numbers: dict[Hashable, int] = {}
    found = np.array([numbers.setdefault(keys[source], len(numbers)) for source in rows], dtype=np.int64)
    return np.split(found, np.cumsum([len(split) for split in splits])[:-1])


class _Image(NamedTuple):
    """Where the bytes of an image are: a row of an Arrow array, or a file."""

    size: Hashable
    array: pyarrow.Array | None
    place: int | str


def _images(dataset: datasets.Dataset, part: int) -> Iterator[tuple[Hashable, _Image]]:
    """For each row what tells its image from others, equal for the same file, and the image."""
    files: dict[str, tuple[Hashable, _Image]] = {}
    row = 0
    for table in dataset.select_columns("image").with_format("arrow").iter(ROWS_AT_ONCE):
        for chunk in table["image"].chunks:
            array, paths = (pyarrow.compute.struct_field(chunk, name) for name in ("bytes", "path"))
            sizes = pyarrow.compute.binary_length(array).to_pylist()
            for place, (size, path) in enumerate(zip(sizes, paths.to_pylist(), strict=True)):
                if size is not None:
                    yield (part, row), _Image(size, array, place)
                else:
                    if path is None or path not in files:
                        files[path] = _file(path, part, row)
                    yield files[path]
                row += 1


def _file(path: str | None, part: int, row: int) -> tuple[Hashable, _Image]:
    try:
        status = os.stat(path or "")
        return (status.st_dev, status.st_ino, "file"), _Image(status.st_size, None, path)
    except OSError:
        return (part, row), _Image((part, row), None, "")


def _refined(
    keys: dict[Hashable, Hashable], sources: dict[Hashable, _Image], digest: Callable[[_Image], bytes]
) -> dict[Hashable, Hashable]:
    """The keys, made longer where several sources share one."""
    counts = Counter(keys.values())
    shared = [source for source, key in keys.items() if counts[key] > 1]
    chunks = [shared[start : start + OF_A_THREAD] for start in range(0, len(shared), OF_A_THREAD)]
    longer = {}
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        told = pool.map(lambda chunk: [_told(sources[source], digest) for source in chunk], chunks)
        bar = tqdm(chunks, "Comparing images", unit="batch", leave=False, disable=None)
        for chunk, digests in zip(bar, told, strict=True):
            longer |= {source: (keys[source], each) for source, each in zip(chunk, digests, strict=True)}
    return keys | longer


def _told(image: _Image, digest: Callable[[_Image], bytes]) -> Hashable:
    try:
        return digest(image)
    except OSError:  # a file that may not be read is told when it is decoded
        return image.place


def _digest_of_ends(image: _Image) -> bytes:
    if image.array is not None:
        content = image.array[image.place].as_buffer()
        return hashlib.sha256(content[:EDGE]).digest() + hashlib.sha256(content[-EDGE:]).digest()
    with open(image.place, "rb") as file:
        head = file.read(EDGE)
        if image.size > EDGE:
            file.seek(max(image.size - EDGE, 0))
            head += file.read(EDGE)
    return hashlib.sha256(head).digest()


def _digest(image: _Image) -> bytes:
    if image.size <= EDGE:
        return b""  # the ends were the whole
    if image.array is not None:
        return hashlib.sha256(image.array[image.place].as_buffer()).digest()
    with open(image.place, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
