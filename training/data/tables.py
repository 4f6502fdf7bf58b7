"""Tables of paths: CSV files, and the lists of lines `path label` that ImageNet-LT and iNaturalist 2018 come with."""

from pathlib import Path

import datasets
from PIL import Image

from tailmoe.training.errors import BadInputError

SUFFIXES_OF_SPLITS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
LIST = {"sep": " ", "header": None, "names": ["image", "label"]}
CHECKED_AT_ONCE = 10_000


def find_tables(folder: Path) -> dict[str, Path]:
    """The tables of a folder by split: `train.csv`, `test.csv`; else lists such as `ImageNet_LT_train.txt`.

    Raises:
        BadInputError: If several files could be meant.
    """
    for pattern in ("{}.csv", "*_{}.txt"):
        found = {}
        for split, words in SUFFIXES_OF_SPLITS.items():
            files = sorted(file for word in words for file in folder.glob(pattern.format(word)))
            if len(files) > 1:
                raise BadInputError(f"`{folder}` holds {files[0].name} and {files[1].name}: keep one of them there.")
            if files:
                found[split] = files[0]
        if "train" in found:
            return found
    return {}


def read_table(table: Path, image_column: str | None) -> datasets.Dataset:
    """The rows of a table, with the images that it names as a column of type Image.

    Args:
        table: A CSV file with a header, or a list; its paths are relative to its folder.
        image_column: Holds the paths; the only column of names of image files if None.

    Raises:
        BadInputError: If several columns could be meant, or a file is not there; it is named with its row.
    """
    options = {} if table.suffix == ".csv" else LIST
    rows = datasets.load_dataset(
        "csv", data_files=str(table), split="train", keep_default_na=False, na_values=[""], **options
    )
    column = image_column or _column_of_paths(rows)
    if column not in rows.column_names or not _is_text(rows, column):
        return rows  # what is wrong with it is told where columns are found
    _check_files(rows, column, table)
    folder = str(table.parent.resolve())
    return rows.map(
        lambda batch: {column: [path and str(Path(folder, path)) for path in batch[column]]},
        batched=True,
        features=datasets.Features(rows.features | {column: datasets.Image()}),
    )


def _column_of_paths(rows: datasets.Dataset) -> str | None:
    suffixes = Image.registered_extensions()
    first = rows[0]
    columns = [
        name
        for name in rows.column_names
        if _is_text(rows, name) and Path(first[name] or "").suffix.lower() in suffixes
    ]
    if len(columns) > 1:
        raise BadInputError(
            f"The paths of the images could be {' or '.join(columns)}: name the column with "
            "`--set data.image_column=...`."
        )
    return columns[0] if columns else None


def _is_text(rows: datasets.Dataset, column: str) -> bool:
    return getattr(rows.features[column], "dtype", None) in ("string", "large_string")


def _check_files(rows: datasets.Dataset, column: str, table: Path) -> None:
    row = 0
    for batch in rows.select_columns(column).iter(CHECKED_AT_ONCE):
        for path in batch[column]:
            if path is None or not (table.parent / path).is_file():
                named = "no image" if path is None else f"`{path}`, which is not there"
                raise BadInputError(f"Row {row} of {table} names {named}: paths are relative to {table.parent}.")
            row += 1
