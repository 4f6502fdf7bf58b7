"""Tables of paths: CSV and TSV files, and the lists of lines `path label` that ImageNet-LT and iNaturalist 2018 come with."""

import os
import re
from pathlib import Path

import datasets
import pyarrow

from tailmoe.training.data.columns import LABELS
from tailmoe.training.data.folders import SPLIT_OF, image_paths
from tailmoe.training.data.formats import has_image_suffix, unread_format
from tailmoe.training.data.named_files import NamedFiles
from tailmoe.training.data.one_hot import label_of_columns
from tailmoe.training.data.table_rows import table_rows
from tailmoe.training.data.tree import LeftOut
from tailmoe.training.errors import BadInputError

LOOKED_AT = 20  # rows
METADATA = ("metadata.csv", "metadata.jsonl")  # beside the images, as `datasets` has it


def find_tables(folder: Path, has_classes: bool, has_splits: bool, files: NamedFiles) -> dict[str, Path]:
    """The tables of a folder by split: `train.csv`, `test.tsv`; else lists such as `ImageNet_LT_train.txt`.

    Args:
        folder: Its own files are looked at.
        has_classes: Whether images lie in class folders; then a file that names no images is no table.
        has_splits: Whether those lie in folders of splits; then a table of test images alone is none.
        files: Finds the images.

    Raises:
        BadInputError: If several files could be meant.
    """
    tables = _by_split(folder, r"([a-z]+)\.(?:csv|tsv|tab)", not has_classes, files)
    if not tables:
        tables = _by_split(folder, r".*_([a-z]+)\.txt", False, files)
    return {} if has_splits and "train" not in tables else tables


def _by_split(folder: Path, pattern: str, all_of_them: bool, files: NamedFiles) -> dict[str, Path]:
    """Files by the split in their names; those that name no images too if `all_of_them`."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(pattern, file.name.lower())
        split = SPLIT_OF.get(match[1]) if match else None
        if split is None or not file.is_file() or not (all_of_them or names_images(file, files)):
            continue
        if split in found:
            raise BadInputError(f"`{folder}` holds {found[split].name} and {file.name}: keep one of them there.")
        found[split] = file
    return found


def metadata_of(folder: str) -> Path | None:
    """The table that lies beside the images which it names, `metadata.csv` or `metadata.jsonl`."""
    return next((path for name in METADATA if (path := Path(folder, name)).is_file()), None)


def names_images(table: Path, files: NamedFiles) -> bool:
    """Whether the first rows have paths or names of images; a number is taken for none, as it numbers rows in most tables."""
    try:
        columns, rows = table_rows(table, limit=LOOKED_AT)
        rows = [
            ["" if cell.isdigit() and not (table.parent / cell).is_file() else cell for cell in row] for row in rows
        ]
        return bool(rows) and bool(_columns_of_paths(columns, rows, table, files))
    except BadInputError:
        return False


def read_table(
    table: Path, image_column: str | None, label_column: str | None, left_out: LeftOut, files: NamedFiles
) -> datasets.Dataset:
    """The rows of a table, with the images that it names as a column of type Image; all else is text.

    Args:
        table: A CSV or TSV file with a header, or a list; its paths are relative to its folder.
        image_column: Holds the paths; the only column of paths of files if None.
        label_column: If None, a column for each class, with a 1 for its images, makes a column `label`.
        left_out: Takes the images that Pillow does not read.
        files: Finds the images.

    Raises:
        BadInputError: As `table_rows` and `label_of_columns`; if several columns could be meant, or a file is not there or
            could be several; it is named with its row.
    """
    columns, rows = table_rows(table)
    if not rows:
        raise BadInputError(f"{table} has no row: give a CSV file with a header, a column of paths and one of labels.")
    found = [image_column] if image_column else _columns_of_paths(columns, rows, table, files)
    if len(found) > 1:
        raise BadInputError(
            f"The paths of the images could be {' or '.join(found)}: name the column with `--set data.image_column=...`."
        )
    if found and found[0] in columns:
        if label_column is None:
            columns, rows = label_of_columns(columns, rows, found[0], table)
        rows = _rows_that_are_read(rows, columns.index(found[0]), table, left_out, files)
    return _dataset(columns, rows, columns.index(found[0]) if found and found[0] in columns else None)


def _dataset(columns: list[str], rows: list[list[str]], place: int | None) -> datasets.Dataset:
    cells = {
        name: image_paths([row[i] for row in rows])
        if i == place
        else pyarrow.array([row[i] or None for row in rows], type=pyarrow.string())
        for i, name in enumerate(columns)
    }
    features = datasets.Features(
        {name: datasets.Image() if i == place else datasets.Value("string") for i, name in enumerate(columns)}
    )
    return datasets.Dataset(pyarrow.table(cells), info=datasets.DatasetInfo(features=features))


def _columns_of_paths(columns: list[str], rows: list[list[str]], table: Path, files: NamedFiles) -> list[str]:
    """Those whose first path has the suffix of an image; else those in which it is the path of a file.

    Else those whose first cells name images otherwise; where several do, the classes may be called as images are, those alone
    in which no cell is there twice.
    """
    cells = {name: [row[i] for row in rows if row[i]] for i, name in enumerate(columns)}
    first = {name: values[0] if values else "" for name, values in cells.items()}
    suffixed = [name for name, path in first.items() if has_image_suffix(path)]
    if found := suffixed or [name for name, path in first.items() if path and (table.parent / path).is_file()]:
        return found
    named = {name: values for name, values in cells.items() if values and name not in LABELS}
    found = [name for name, values in named.items() if _all_are_there(values[:LOOKED_AT], table, files)]
    return found if len(found) < 2 else [name for name in found if len({*cells[name]}) == len(rows)] or found


def _all_are_there(names: list[str], table: Path, files: NamedFiles) -> bool:
    return all(files.find(str(table.parent), name) is not None for name in names)


def _rows_that_are_read(
    rows: list[list[str]], place: int, table: Path, left_out: LeftOut, files: NamedFiles
) -> list[list[str]]:
    """The rows with absolute paths, but those of images that Pillow does not read."""
    kept = []
    for number, row in enumerate(rows):
        try:
            path = files.find(str(table.parent), row[place])
        except BadInputError as error:
            raise BadInputError(f"Row {number} of {table}: {error}") from None
        if path is None:
            named = f"`{row[place]}`, which is not there" if row[place] else "no image"
            raise BadInputError(f"Row {number} of {table} names {named}: paths are relative to {table.parent}.")
        if (reason := unread_format(path)) is not None:
            left_out.add(reason, [path])
        else:
            kept.append([*row[:place], path, *row[place + 1 :]])
    return kept


def check_one_label(splits: dict[str, datasets.Dataset], image_column: str, label_column: str) -> None:
    """Raise `BadInputError` if rows of the same file have different labels; splits without labels are passed over."""
    seen: dict[tuple[int, int], str] = {}
    for dataset in splits.values():
        if not isinstance(dataset.features[image_column], datasets.Image) or label_column not in dataset.features:
            continue
        images = dataset.cast_column(image_column, datasets.Image(decode=False))[image_column][:]
        for image, label in zip(images, dataset[label_column][:], strict=True):
            status = os.stat(image["path"])
            before = seen.setdefault((status.st_dev, status.st_ino), label)
            if label is not None and before != label:
                raise BadInputError(
                    f"{image['path']} has two labels, {before} and {label}: remove the rows that are wrong."
                )
