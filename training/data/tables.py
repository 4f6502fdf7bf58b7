"""Tables of paths: CSV files, and the lists of lines `path label` that ImageNet-LT and iNaturalist 2018 come with."""

import csv
import json
import os
import re
from pathlib import Path

import datasets
import pyarrow

from tailmoe.training.data.folders import SPLIT_OF, image_paths
from tailmoe.training.data.formats import has_image_suffix, unread_format
from tailmoe.training.data.tree import LeftOut
from tailmoe.training.errors import BadInputError

METADATA = ("metadata.csv", "metadata.jsonl")  # beside the images, as `datasets` has it


def find_tables(folder: Path, has_classes: bool, has_splits: bool) -> dict[str, Path]:
    """The tables of a folder by split: `train.csv`, `test.csv`; else lists such as `ImageNet_LT_train.txt`.

    Args:
        folder: Its own files are looked at.
        has_classes: Whether images lie in class folders; then a file that names no images is no table.
        has_splits: Whether those lie in folders of splits; then a table of test images alone is none.

    Raises:
        BadInputError: If several files could be meant.
    """
    tables = _by_split(folder, r"([a-z]+)\.csv", all_of_them=not has_classes)
    if not tables:
        tables = _by_split(folder, r".*_([a-z]+)\.txt", all_of_them=False)
    return {} if has_splits and "train" not in tables else tables


def _by_split(folder: Path, pattern: str, all_of_them: bool) -> dict[str, Path]:
    """Files by the split in their names; those that name no images too if `all_of_them`."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(pattern, file.name.lower())
        split = SPLIT_OF.get(match[1]) if match else None
        if split is None or not file.is_file() or not (all_of_them or _names_images(file)):
            continue
        if split in found:
            raise BadInputError(f"`{folder}` holds {found[split].name} and {file.name}: keep one of them there.")
        found[split] = file
    return found


def metadata_of(folder: str) -> Path | None:
    """The table that lies beside the images which it names, `metadata.csv` or `metadata.jsonl`."""
    return next((path for name in METADATA if (path := Path(folder, name)).is_file()), None)


def _names_images(table: Path) -> bool:
    """Whether the first row has a path of an image."""
    try:
        columns, rows = _rows(table, limit=1)
    except BadInputError:
        return False
    return bool(rows) and bool(_columns_of_paths(columns, rows, table))


def read_table(table: Path, image_column: str | None, left_out: LeftOut) -> datasets.Dataset:
    """The rows of a table, with the images that it names as a column of type Image; all else is text.

    Args:
        table: A CSV file with a header, or a list; its paths are relative to its folder.
        image_column: Holds the paths; the only column of paths of files if None.
        left_out: Takes the images that Pillow does not read.

    Raises:
        BadInputError: If several columns could be meant, a row has more or fewer cells than there are columns, or a file is
            not there; it is named with its row.
    """
    columns, rows = _rows(table)
    if not rows:
        raise BadInputError(f"{table} has no row: give a CSV file with a header, a column of paths and one of labels.")
    found = [image_column] if image_column else _columns_of_paths(columns, rows, table)
    if len(found) > 1:
        raise BadInputError(
            f"The paths of the images could be {' or '.join(found)}: name the column with `--set data.image_column=...`."
        )
    place = columns.index(found[0]) if found and found[0] in columns else None
    if place is not None:
        rows = _rows_that_are_read(rows, place, table, left_out)
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


def _rows(table: Path, limit: int | None = None) -> tuple[list[str], list[list[str]]]:
    """The columns of a table and its rows, the first `limit` of them."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        try:
            if table.suffix.lower() == ".csv":
                return _csv_rows(table, csv.reader(file, strict=True), limit)
            if table.suffix.lower() == ".jsonl":
                return _json_rows(table, file, limit)
            return _list_rows(table, file, limit)
        except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
            raise BadInputError(f"{table} cannot be read: {error}; save it as UTF-8, separated by commas.") from None


def _csv_rows(table: Path, lines, limit: int | None) -> tuple[list[str], list[list[str]]]:
    columns, rows = next(lines, []), []
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise BadInputError(f"{table} has two columns `{twice}`: rename one of them.")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise BadInputError(f"{table} begins with {columns[0]!r}: save it separated by commas.")
    for row in lines:
        if len(rows) == limit:
            break
        if not row:
            continue
        if len(row) != len(columns):
            raise BadInputError(
                f"Row {len(rows)} of {table} has {len(row)} cells, and there are {len(columns)} columns: cells with a comma "
                "must stand in quotation marks."
            )
        rows.append(row)
    return columns, rows


def _json_rows(table: Path, lines, limit: int | None) -> tuple[list[str], list[list[str]]]:
    values = [json.loads(line) for line in lines if line.strip()][:limit]
    if not all(isinstance(value, dict) for value in values):
        raise BadInputError(f'{table} must have one object on each line, such as {{"file_name": "a.png"}}.')
    columns = [*dict.fromkeys(name for value in values for name in value)]
    return columns, [[_text(value.get(name)) for name in columns] for value in values]


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell)


def _list_rows(table: Path, lines, limit: int | None) -> tuple[list[str], list[list[str]]]:
    rows = []
    for line in lines:
        if len(rows) == limit:
            break
        if not line.strip():
            continue
        path, space, label = line.strip().rpartition(" ")
        if not space and limit is None:
            raise BadInputError(f"Row {len(rows)} of {table} is `{line.strip()}`: each must have a path and a label.")
        rows.append([path.strip(), label])
    return ["image", "label"], rows


def _columns_of_paths(columns: list[str], rows: list[list[str]], table: Path) -> list[str]:
    """Those whose first path has the suffix of an image; else those in which it is the path of a file."""
    first = [next((row[i] for row in rows if row[i]), "") for i in range(len(columns))]
    suffixed = [name for name, path in zip(columns, first, strict=True) if has_image_suffix(path)]
    return suffixed or [
        name for name, path in zip(columns, first, strict=True) if path and (table.parent / path).is_file()
    ]


def _rows_that_are_read(rows: list[list[str]], place: int, table: Path, left_out: LeftOut) -> list[list[str]]:
    """The rows with absolute paths, but those of images that Pillow does not read."""
    folder, kept = os.path.abspath(table.parent), []
    for number, row in enumerate(rows):
        path = os.path.join(folder, row[place])
        if not row[place] or not os.path.isfile(path):
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
