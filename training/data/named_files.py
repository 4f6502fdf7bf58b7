"""Image files that tables name otherwise than by their paths: with backslashes, without suffix, in a folder they do not tell."""

import filecmp
import os
from collections import defaultdict

from tailmoe.training.data.formats import has_image_suffix
from tailmoe.training.data.tree import JUNK_FOLDERS
from tailmoe.training.errors import BadInputError


class NamedFiles:
    """Finds the images that the tables of some folders name; a folder is looked through once, when a path is none of a file."""

    def __init__(self):
        self._by_stem: dict[str, dict[str, list[str]]] = {}

    def find(self, folder: str, name: str) -> str | None:
        """The absolute path of the image that a table in `folder` calls `name`; None if there is none.

        It is the file of that path, or that path with slashes for backslashes, else the only image below the folder whose path
        ends so, with or without its suffix, in capitals or not; copies with the same bytes count as one.

        Raises:
            BadInputError: If several images could be meant.
        """
        folder = os.path.abspath(folder)
        for path in (name, name.replace("\\", "/")):
            if name and os.path.isfile(os.path.join(folder, path)):
                return os.path.normpath(os.path.join(folder, path))
        wanted = os.path.normpath(name.strip().replace("\\", "/")).lower() if name.strip() else ""
        found = [path for path in self._candidates(folder, wanted) if _ends_with(path.lower(), wanted)]
        exact = [path for path in found if _ends_with(path, os.path.normpath(name.strip().replace("\\", "/")))]
        found = exact or found
        if any(not filecmp.cmp(found[0], path, shallow=False) for path in found[1:]):
            raise BadInputError(
                f"`{name}` may be {found[0]} or {found[1]}: give paths relative to {folder}, or move one of them elsewhere."
            )
        return found[0] if found else None

    def _candidates(self, folder: str, wanted: str) -> list[str]:
        """Images below the folder whose name begins as `wanted` does: up to its suffix."""
        if folder not in self._by_stem:
            self._by_stem[folder] = _images_by_stem(folder)
        stems = {os.path.basename(wanted), os.path.splitext(os.path.basename(wanted))[0]}
        return sorted({path for stem in stems for path in self._by_stem[folder].get(stem, [])})


def _images_by_stem(folder: str) -> dict[str, list[str]]:
    found = defaultdict(list)
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in JUNK_FOLDERS)
        for name in files:
            if has_image_suffix(name) and not name.startswith("._"):
                found[os.path.splitext(name)[0].lower()].append(os.path.join(place, name))
    return found


def _ends_with(path: str, end: str) -> bool:
    """Whether a path ends with these folders and this name, which may lack its suffix."""
    return any(f"/{each}".endswith(f"/{end}") for each in (path, os.path.splitext(path)[0]))
