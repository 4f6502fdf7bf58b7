"""Images in one file: archives of folders, which are unpacked once, and WebDataset archives, whose members make rows."""

import hashlib
import logging
import os
import shutil
import tarfile
import tempfile
from collections import defaultdict
from itertools import islice
from pathlib import Path

import datasets

from tailmoe.training.data.folders import SPLIT_OF
from tailmoe.training.data.formats import has_image_suffix
from tailmoe.training.data.tree import JUNK_FILES, JUNK_FOLDERS
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
READ_ARCHIVES = (".zip", *TARS)
LOOKED_AT = 1000  # members
LABELS_OF_ROWS = ("cls", "json.label", "json.cls", "json.class")


def is_archive(path: Path) -> bool:
    """Whether a file has the name of an archive that is read."""
    return path.name.lower().endswith(READ_ARCHIVES)


def is_webdataset(path: Path) -> bool:
    """Whether members of an archive belong together by their names: `a.jpg` and `a.cls`, or, not in a folder, `a.json`.

    Raises:
        tarfile.TarError: If a TAR archive is damaged.
    """
    if not path.name.lower().endswith(TARS):
        return False
    suffixes = defaultdict(set)
    with tarfile.open(path) as archive:
        for member in islice(archive, LOOKED_AT):
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            key, _, suffix = name.partition(".")
            suffixes[folder, key].add("image" if has_image_suffix(name) else suffix.lower())
    return any(
        "image" in found and ("cls" in found or ("json" in found and not folder))
        for (folder, _), found in suffixes.items()
    )


def read_webdataset(files: dict[str, list[Path]]) -> dict[str, datasets.Dataset]:
    """The rows of WebDataset archives by split; the class, from `.cls` or from `label` of `.json`, is column `label`."""
    splits = {}
    for split, paths in files.items():
        rows = datasets.load_dataset("webdataset", data_files={split: [*map(str, paths)]}, split=split).flatten()
        name = next((each for each in LABELS_OF_ROWS if each in rows.column_names), None)
        splits[split] = rows if name is None else rows.rename_column(name, "label")
    return splits


def unpacked(path: Path) -> Path:
    """The folder of what an archive holds, in the cache of `datasets`; unpacked anew when the file has changed.

    Where all lies in one folder, which is no split and holds no image itself, it is that folder.

    Raises:
        BadInputError: If it is damaged, or needs a password.
    """
    status = path.stat()
    version = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    target = Path(datasets.config.HF_DATASETS_CACHE) / "unpacked" / hashlib.sha256(version.encode()).hexdigest()[:32]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        logger.info("Unpacking %s (%.1f MB) into %s", path, status.st_size / 1e6, target)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:  # an interrupted one is none
            _unpack(path, Path(temporary) / "content")
            os.replace(Path(temporary) / "content", target)
    return _innermost(target)


def _unpack(path: Path, target: Path) -> None:
    try:
        if path.name.lower().endswith(TARS):
            with tarfile.open(path) as archive:
                archive.extractall(target, filter="data")
        else:
            shutil.unpack_archive(path, target, "zip")
    except (tarfile.TarError, shutil.ReadError, EOFError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"{path} cannot be unpacked: {str(error).rstrip('.')}; give a whole archive, or a folder."
        ) from None


def _innermost(folder: Path) -> Path:
    while True:
        inside = [entry for entry in folder.iterdir() if entry.name not in JUNK_FOLDERS | JUNK_FILES]
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name.lower() in SPLIT_OF:
            return folder
        if any(has_image_suffix(entry.name) for entry in inside[0].iterdir()):
            return folder
        folder = inside[0]
