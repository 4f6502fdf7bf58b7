"""Parquet files whose images stay where they are, on disk or on the Hub, and are read when a batch needs them.

Labels are read first, without images. From then on the split is a `datasets.Dataset` like any other, with a column `place` that
tells where the image of a row is; a row group is read whole, and kept while the images around it are asked for.
"""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import datasets
import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet

PLACE = "place"
PLACE_FEATURES = {
    "file": datasets.Value("string"),
    "column": datasets.Value("string"),
    "row_group": datasets.Value("int32"),
    "row": datasets.Value("int32"),
}
KEPT = 32  # row groups, by each process
FILES_AT_ONCE = 8


def parquet_features(file: str) -> datasets.Features:
    """The features of a Parquet file, from its schema."""
    with fsspec.open(file) as source:
        return datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(source))


def index_rows(
    files: list[str], image_column: str, label_column: str, features: datasets.Features
) -> datasets.Dataset:
    """The labels of Parquet files, and where their images are; no image is read.

    The index is kept in the cache of `datasets`, for as long as the files stay the same.

    Args:
        files: Paths, or addresses that fsspec knows, such as `hf://...`.
        image_column: Holds images as `datasets` stores them.
        label_column: Left out if the files have none.
        features: Of the files.
    """
    columns = [column for column in (label_column,) if column in features]
    kept = datasets.Features(
        {image_column: datasets.Image(), PLACE: PLACE_FEATURES} | {c: features[c] for c in columns}
    )
    versions = tuple(fs.ukey(path) for fs, path in map(fsspec.core.url_to_fs, files))  # another index for other files
    arguments = {"files": tuple(files), "versions": versions, "image_column": image_column, "columns": tuple(columns)}
    return datasets.Dataset.from_generator(_index, features=kept, gen_kwargs=arguments)


def _index(
    files: tuple[str, ...], versions: tuple[str, ...], image_column: str, columns: tuple[str, ...]
) -> Iterator[dict]:
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        for file, (sizes, labels) in zip(files, pool.map(lambda file: _labels(file, columns), files), strict=True):
            places = ((group, row) for group, size in enumerate(sizes) for row in range(size))
            for number, (group, row) in enumerate(places):
                place = {"file": file, "column": image_column, "row_group": group, "row": row}
                image = {"bytes": None, "path": file}
                yield {image_column: image, PLACE: place} | {c: labels[c][number] for c in columns}


def _labels(file: str, columns: tuple[str, ...]) -> tuple[list[int], dict[str, list]]:
    """Rows of each row group of a file, and its labels."""
    with fsspec.open(file) as source:
        parquet = pyarrow.parquet.ParquetFile(source)
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        return sizes, parquet.read(columns=[*columns]).to_pydict() if columns else {}


def has_places(dataset: datasets.Dataset) -> bool:
    """Whether the images of a data set are rows of Parquet files."""
    return dataset.features.get(PLACE) == PLACE_FEATURES


def read_images(rows: dict[str, list]) -> list[dict | None]:
    """Images as `datasets` stores them, of the column `image` of some rows; those that are elsewhere are read."""
    if PLACE not in rows:
        return rows["image"]
    return [_read_image(**place) for place in rows[PLACE]]


def _read_image(file: str, column: str, row_group: int, row: int) -> dict:
    stored = _row_group(file, column, row_group)[row].as_py()
    return {"bytes": (stored or {}).get("bytes"), "path": f"row {row} of row group {row_group} of {file}"}


@functools.lru_cache(KEPT)
def _row_group(file: str, column: str, group: int) -> pyarrow.ChunkedArray:
    with fsspec.open(file) as source:
        return pyarrow.parquet.ParquetFile(source).read_row_group(group, columns=[column])[column]


def block_numbers(encoded: datasets.Dataset) -> np.ndarray | None:
    """The number of each image's row group, (N,), int32; None unless the images are rows of Parquet files."""
    if not has_places(encoded):
        return None
    numbers: dict[tuple[str, int], int] = {}
    places = (place for batch in encoded.select_columns(PLACE).iter(10_000) for place in batch[PLACE])
    found = (numbers.setdefault((place["file"], place["row_group"]), len(numbers)) for place in places)
    return np.fromiter(found, dtype=np.int32, count=len(encoded))
