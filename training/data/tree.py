"""All files below a folder: images, other files, and images that cannot be read."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tailmoe.training.data.formats import look_at

logger = logging.getLogger(__name__)
# what operating systems, file servers, notebooks and version control leave in folders
JUNK_FOLDERS = {
    *("__MACOSX", ".AppleDouble", ".fseventsd", ".Spotlight-V100", ".TemporaryItems", ".Trashes"),
    *("$RECYCLE.BIN", "System Volume Information", "@eaDir", "lost+found", ".thumbnails", ".stfolder", ".stversions"),
    *("__pycache__", ".ipynb_checkpoints", ".venv", "node_modules", ".idea", ".vscode"),
    *(".cache", ".dvc", ".git", ".hg", ".huggingface", ".svn"),
}
JUNK_FILES = {"Thumbs.db", "ehthumbs.db", "desktop.ini", ".DS_Store", "Icon\r"}
JUNK_PREFIXES = ("._", ".Trash-", ".nfs", ".fuse_hidden")
RUN_FILES = {"model.safetensors", "results.json", "splits.json"}  # of models, runs and data sets of ours
OF_A_RUN = "in the folder of a run or a model"
BROKEN_LINK = "that are links to nothing"
NOT_UTF8 = "whose names are not UTF-8"


@dataclass
class Tree:
    """A folder: its images, its other files, and its folders by name; links are followed."""

    path: str
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: dict[str, "Tree"] = field(default_factory=dict)

    def all_images(self) -> Iterator[str]:
        yield from self.images
        for folder in self.folders.values():
            yield from folder.all_images()

    def has_images(self) -> bool:
        return next(self.all_images(), None) is not None

    def has_classes(self) -> bool:
        return any(folder.has_images() for folder in self.folders.values())

    def all_others(self) -> Iterator[str]:
        yield from self.others
        for folder in self.folders.values():
            yield from folder.all_others()


class LeftOut(dict[str, list[str]]):
    """Images that are not used: their paths by reason, which completes `images ...`."""

    def add(self, reason: str, paths: Iterable[str]) -> None:
        """Put paths to those of a reason."""
        if paths := [*paths]:
            self[reason] = [*self.get(reason, []), *paths]

    def counts(self) -> dict[str, int]:
        """Number of images by reason."""
        return {reason: len(paths) for reason, paths in self.items()}

    def tell(self) -> None:
        """Log each reason, with its number and the first paths."""
        for reason, paths in self.items():
            logger.warning("Left out: images %s (%d): %s", reason, len(paths), some(paths))


def some(paths: list[str]) -> str:
    """The first three, in words."""
    return ", ".join(map(printable, paths[:3])) + (", ..." if len(paths) > 3 else "")


def printable(path: str) -> str:
    """A path as it can be written, with what is not UTF-8 as backslashes and numbers."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_tree(folder: Path, left_out: LeftOut) -> Tree:
    """All files of a folder; images that cannot be read are put into `left_out`."""
    return _read_tree(os.path.abspath(folder), left_out, (), None)


def _read_tree(path: str, left_out: LeftOut, above: tuple[tuple[int, int], ...], entered: set | None) -> Tree:
    """A folder, unless links lead back to it: `above` are the folders that it lies in, `entered` those of its class.

    A class is at most two levels below the top; below that, no folder is read twice for it.
    """
    tree = Tree(path)
    above = (*above, _identity(path))
    if len(above) > 3:
        entered.add(above[-1])
    elif len(above) == 3:
        entered = {above[-1]}
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    of_a_run = len(above) > 1 and any(entry.name in RUN_FILES for entry in found)
    for entry in found:
        if entry.name in JUNK_FOLDERS | JUNK_FILES or entry.name.startswith(JUNK_PREFIXES):
            continue
        if entry.is_dir():
            if (identity := _identity(entry.path)) in above or (entered is not None and identity in entered):
                continue
            tree.folders[entry.name] = _read_tree(entry.path, left_out, above, entered)
        elif entry.is_file() or entry.is_symlink():
            _read_file(entry, tree, left_out)
    if of_a_run:
        left_out.add(OF_A_RUN, tree.all_images())
        return Tree(path)
    return tree


def _read_file(entry: os.DirEntry, tree: Tree, left_out: LeftOut) -> None:
    is_image, reason = look_at(entry.path)
    if is_image and not entry.is_file():
        reason = BROKEN_LINK
    elif is_image and printable(entry.path) != entry.path:
        reason = NOT_UTF8
    if reason is not None:
        left_out.add(reason, [entry.path])
    else:
        (tree.images if is_image else tree.others).append(entry.path)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
