"""Images on this machine: Parquet files, tables of paths, or class folders."""

import contextlib
import glob
import logging
from collections.abc import Iterator
from pathlib import Path

import datasets

from tailmoe.training.data.archives import is_archive, is_webdataset, read_webdataset, unpacked
from tailmoe.training.data.folders import read_folder, split_folders, top_of
from tailmoe.training.data.found import Found
from tailmoe.training.data.named_files import NamedFiles
from tailmoe.training.data.shards import files_of_splits
from tailmoe.training.data.table_rows import DELIMITED
from tailmoe.training.data.tables import find_tables, metadata_of, names_images, read_table
from tailmoe.training.data.tree import LeftOut, Tree, read_tree, some
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
Columns = tuple[str | None, str | None]  # of the images and the labels, where they are given
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def read_local_file(name: str, path: Path, columns: Columns, class_depth: int | None) -> Found:
    """The images of a Parquet file, a table or a WebDataset archive, which know no splits, or of an archive of folders."""
    if is_archive(path):
        with telling(name, "give a whole archive, or a folder of what it holds"):
            if is_webdataset(path):
                return Found(read_webdataset({"train": [path]}), has_splits=False)
            return read_local_folder(name, unpacked(path), columns, class_depth)
    if path.suffix.lower() in (*DELIMITED, ".txt"):
        return _tables(name, {"train": path}, columns, Found({}, has_splits=False), NamedFiles())
    if path.suffix.lower() != ".parquet":
        raise BadInputError(
            f"`{name}` is no Parquet, CSV, TSV, ZIP or TAR file: give one, a folder of images, or a Hub id."
        )
    return Found(read_parquet(name, {"train": [path]}), has_splits=False)


def read_local_folder(name: str, folder: Path, columns: Columns, class_depth: int | None) -> Found:
    """The images of a folder: Parquet files with the names of splits, at any depth; else tables of paths; else class folders.

    Raises:
        BadInputError: If there are none, or Parquet files and class folders, or as their readers.
    """
    left_out, files = LeftOut(), NamedFiles()
    with telling(name, "give a folder with train/<class>/<image>"):
        tree = read_tree(folder, left_out)
        found = Found({}, left_out=left_out, num_others=sum(1 for _ in tree.all_others()))
        parquet = files_of_splits(folder, tree.all_others())
        splits = split_folders(top_of(tree), LeftOut())
        if parquet:
            _check_no_classes(tree, splits, parquet)
            return Found(read_parquet(name, parquet))
        parts = splits or {"train": tree}
        has_classes = any(part.has_classes() for part in parts.values())
        if tables := find_tables(folder, has_classes, bool(splits) and has_classes, files):
            return _tables(name, tables, columns, found, files)
        if (shards := files_of_splits(folder, tree.all_others(), "tar")) and not tree.has_images():
            return Found(read_webdataset(shards))
        if not tree.has_images():
            raise BadInputError(_without_images(name, folder, tree, left_out))
        tables = {split: table for split, part in parts.items() if (table := metadata_of(part.path)) is not None}
        if tables and not has_classes:
            found.has_splits = bool(splits)
            return _tables(name, tables, columns, found, files)
        _warn_of_tables(folder, files)
        found.form = "folders"
        found.splits, found.has_splits = read_folder(tree, 1 if class_depth is None else class_depth, left_out)
        return found


def _check_no_classes(tree: Tree, splits: dict[str, Tree], parquet: dict[str, list[Path]]) -> None:
    classes = [part for part in tree.folders.values() if part.has_images()]
    if splits or len(classes) > 1:
        file = next(iter(parquet.values()))[0]
        folder = next(iter(splits.values()), classes[0]).path
        raise BadInputError(
            f"`{tree.path}` holds both {file} and images in folders, such as {folder}: move one of them elsewhere."
        )


def _without_images(name: str, folder: Path, tree: Tree, left_out: LeftOut) -> str:
    others = [*tree.all_others()]
    if left_out:
        reason, paths = next(iter(left_out.items()))
        return f"`{name}` holds no images that can be used, but images {reason} ({len(paths)}): {some(paths)}."
    if any(path.endswith(".parquet") for path in others):
        return f"There is no {folder / 'train.parquet'}: Parquet files are found by the names of splits."
    if archives := [path for path in others if path.lower().endswith(ARCHIVES)]:
        return f"`{name}` holds no images, but {some(archives)}: {_remedy_of(archives)}."
    return f"`{name}` holds no images: give a folder with train/<class>/<image>."


def _remedy_of(archives: list[str]) -> str:
    return "give it itself" if len(archives) == 1 and is_archive(Path(archives[0])) else "unpack them first"


def read_parquet(name: str, files: dict[str, list[Path]]) -> dict[str, datasets.Dataset]:
    """Each split by itself: read together, the first file's class names would be given to the labels of the others."""
    splits = {}
    for split, paths in files.items():
        with telling(name, f"give whole Parquet files with images, look at {paths[0]}"):
            literal = [glob.escape(str(path)) for path in paths]
            splits[split] = datasets.load_dataset("parquet", data_files={split: literal}, split=split)
    return splits


def _warn_of_tables(folder: Path, files: NamedFiles) -> None:
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in DELIMITED and names_images(file, files):
            logger.warning(
                "%s names images, but the classes are taken from the folders: give the file itself to take its labels.",
                file,
            )


def _tables(name: str, tables: dict[str, Path], columns: Columns, found: Found, files: NamedFiles) -> Found:
    with telling(name, "give a CSV file with a header, a column of paths and one of labels"):
        found.splits = {split: read_table(table, *columns, found.left_out, files) for split, table in tables.items()}
    found.form = "tables"
    return found


@contextlib.contextmanager
def telling(name: str, remedy: str) -> Iterator[None]:
    """What goes wrong in reading, as an error that names the data and the remedy."""
    try:
        yield
    except BadInputError:
        raise
    except Exception as error:  # Parquet, the file system, the Hub's client and its HTTP library have no common error
        reason = " ".join(str(error.__cause__ or error).split())[:300].rstrip(".!") or type(error).__name__
        raise BadInputError(f"`{name}` cannot be loaded: {reason}; {remedy}.") from error
