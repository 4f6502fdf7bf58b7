"""Fetch transformers' own tests: the source distribution of the installed version, unpacked into `.cache/common`.

Run before `pytest tests/common`; `make test-common` does both. Nothing of it is committed.
"""

import logging
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "common"


def folder() -> Path:
    """Where the tests of the installed version lie once fetched."""
    return CACHE / f"transformers-{version('transformers')}"


def fetch() -> None:
    """Download and unpack, unless that is done."""
    if folder().is_dir():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    requirement = f"transformers=={version('transformers')}"
    options = ["--quiet", "--no-deps", "--no-binary", "transformers", "--no-build-isolation"]
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", scratch, requirement], check=True)
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            members = [member for member in tar if "/tests/" in member.name or member.name.endswith("conftest.py")]
            tar.extractall(scratch, members, filter="data")
        (unpacked,) = (path for path in Path(scratch).iterdir() if path.is_dir())
        (unpacked / "tests" / "__init__.py").touch()  # pytest looks for it
        unpacked.rename(folder())
    logging.info("The tests of %s are in %s.", requirement, folder())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fetch()
