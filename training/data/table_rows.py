"""Columns and rows of text, from CSV and TSV files, JSON lines, and lists of lines `path label`."""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from tailmoe.training.data.formats import has_image_suffix
from tailmoe.training.errors import BadInputError

DELIMITED = (".csv", ".tsv", ".tab")
DELIMITERS = ",;\t|"
LOOKED_AT = 20  # rows
SEPARATORS = "commas, semicolons, tabs or |"


def table_rows(table: Path, limit: int | None = None) -> tuple[list[str], list[list[str]]]:
    """The columns of a table and its rows, the first `limit` of them; a list has the columns `image` and `label`.

    Raises:
        BadInputError: If it is not UTF-8, its cells cannot be told apart, or a row has more or fewer of them than there are
            columns.
    """
    with table.open(encoding="utf-8-sig", newline="") as file:
        try:
            if table.suffix.lower() in DELIMITED:
                return _delimited_rows(table, file, limit)
            if table.suffix.lower() == ".jsonl":
                return _json_rows(table, file, limit)
            return _list_rows(table, file, limit)
        except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
            raise BadInputError(f"{table} cannot be read: {error}; save it as UTF-8, separated by commas.") from None


def _delimited_rows(table: Path, file: TextIO, limit: int | None) -> tuple[list[str], list[list[str]]]:
    head = list(itertools.islice(file, LOOKED_AT))
    told = re.fullmatch(r"sep=(.)", head[0].strip("\r\n"), re.IGNORECASE) if head else None  # as Excel writes it
    delimiter = told[1] if told else _delimiter(table, head)
    lines = csv.reader(itertools.chain(head[1:] if told else head, file), delimiter=delimiter, strict=True)
    columns, rows = next(lines, []), []
    _check_header(table, columns)
    for row in lines:
        if len(rows) == limit:
            break
        if not row:
            continue
        if len(row) != len(columns):
            mark = {",": "comma", ";": "semicolon", "\t": "tab"}.get(delimiter, delimiter)
            raise BadInputError(
                f"Row {len(rows)} of {table} has {len(row)} cells, and there are {len(columns)} columns: cells with a "
                f"{mark} must stand in quotation marks."
            )
        rows.append(row)
    return columns, rows


def _delimiter(table: Path, head: list[str]) -> str:
    """The mark that parts the first lines into most cells, as many in each; if none does, the first line alone counts."""
    sizes = {mark: [len(row) for row in _lenient(head, mark) if row] for mark in DELIMITERS}
    even = {mark: counts[0] for mark, counts in sizes.items() if counts and len({*counts}) == 1}
    cells = (
        even if max(even.values(), default=1) > 1 else {mark: counts[0] for mark, counts in sizes.items() if counts}
    )
    best = max(cells, key=cells.get, default=",")
    if cells.get(best) == 1 and len(head) > 1:
        _check_one_column(table, head[0].strip(), head[1])
    return best


def _lenient(lines: list[str], mark: str) -> Iterable[list[str]]:
    return csv.reader(io.StringIO("".join(lines)), delimiter=mark)


def _check_one_column(table: Path, header: str, row: str) -> None:
    """Raise where a table of one column has a mark in its header and in its first row that may part them."""
    shared = [mark for mark in re.findall(r"[^\w./\\\"'()-]", header) if mark in row]
    if shared:
        raise BadInputError(
            f"{table} begins with {header!r}, whose cells cannot be told apart: save it separated by {SEPARATORS}."
        )


def _check_header(table: Path, columns: list[str]) -> None:
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise BadInputError(f"{table} has two columns `{twice}`: rename one of them.")
    if path := next((name for name in columns if has_image_suffix(name)), None):
        raise BadInputError(
            f"{table} begins with the path {path}: its first line must name the columns, such as path{DELIMITERS[0]}label."
        )


def _json_rows(table: Path, lines: Iterable[str], limit: int | None) -> tuple[list[str], list[list[str]]]:
    values = [json.loads(line) for line in lines if line.strip()][:limit]
    if not all(isinstance(value, dict) for value in values):
        raise BadInputError(f'{table} must have one object on each line, such as {{"file_name": "a.png"}}.')
    columns = [*dict.fromkeys(name for value in values for name in value)]
    return columns, [[_text(value.get(name)) for name in columns] for value in values]


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell)


def _list_rows(table: Path, lines: Iterable[str], limit: int | None) -> tuple[list[str], list[list[str]]]:
    rows = []
    for line in lines:
        if len(rows) == limit:
            break
        if not line.strip():
            continue
        path, space, label = line.strip().replace("\t", " ").rpartition(" ")
        if not space and limit is None:
            raise BadInputError(f"Row {len(rows)} of {table} is `{line.strip()}`: each must have a path and a label.")
        rows.append([path.strip(), label])
    return ["image", "label"], rows
