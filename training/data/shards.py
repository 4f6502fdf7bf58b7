"""Parquet files and WebDataset archives of a folder by split, as the Hub lays them out."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tailmoe.training.data.folders import SPLIT_OF
from tailmoe.training.errors import BadInputError

# train.parquet, train-0.parquet, train-00000-of-00002.parquet, with or without a hash behind it
NAME = r"([a-z]+)(?:[-_.]?(\d+)(?:-of-(\d+))?(?:-[0-9a-f]{8,})?)?\."
NUMBERED = r"\d+\."  # in a folder that has the name of the split


def files_of_splits(folder: Path, files: Iterable[str], suffix: str = "parquet") -> dict[str, list[Path]]:
    """The files of a suffix of each split, found by their whole names; others are none of a split.

    Args:
        folder: Named in errors.
        files: Paths below it.
        suffix: `"parquet"` or `"tar"`.

    Raises:
        BadInputError: If the files of a split lie in several folders, are shards beside a whole file, or shards are missing.
    """
    found: dict[str, dict[Path, re.Match | None]] = defaultdict(dict)
    for path in sorted(map(Path, files)):
        name, home = path.name.lower(), path.parent.name.lower()
        match = re.fullmatch(NAME + suffix, name)
        if match and match[1] in SPLIT_OF:
            found[SPLIT_OF[match[1]]][path] = match
        elif re.fullmatch(NUMBERED + suffix, name) and home in SPLIT_OF:
            found[SPLIT_OF[home]][path] = None
    for split, paths in found.items():
        _check_shards(folder, split, paths)
    return {split: [*found[split]] for split in ("train", "validation", "test") if split in found}


def _check_shards(folder: Path, split: str, paths: dict[Path, re.Match | None]) -> None:
    homes = sorted({path.parent for path in paths})
    if len(homes) > 1:
        said = "training" if split == "train" else split
        raise BadInputError(f"`{folder}` holds several {said} splits: give one of its folders, such as {homes[0]}.")
    matches = [match for match in paths.values() if match]
    totals = {match[3] for match in matches}
    if len(paths) > 1 and (len(totals) > 1 or any(match[2] is None for match in matches)):
        first, second, *_ = (path.name for path in paths)
        raise BadInputError(
            f"`{folder}` holds {first} and {second}, which are not shards of one split: keep one of them."
        )
    total = next(iter(totals), None)
    if total is not None and len(paths) != int(total):
        raise BadInputError(f"`{folder}` holds {len(paths)} of the {int(total)} shards of {split}: add the others.")
