"""What fails of a machine while a model trains or predicts, told in one line."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from tailmoe.training.errors import FaultError

MEMORY = (
    "If the memory was full, smaller batches or fewer processes that read images (`dataloader_num_workers`) need less."
)


@contextlib.contextmanager
def naming_faults(folder: Path | None = None) -> Iterator[None]:
    """Turn what libraries raise when memory, a process or the disk fails into a `FaultError`.

    Args:
        folder: Of the run that is trained; None if it writes nothing.
    """
    try:
        yield
    except FaultError:
        raise
    except (RuntimeError, SafetensorError, ConnectionError, EOFError) as error:
        kept = "" if folder is None else f"{room_in(folder)} The last whole checkpoint is kept: --resume continues."
        raise FaultError(f"{in_one_line(error)}. {MEMORY}{kept}") from error


def in_one_line(error: Exception) -> str:
    """What an error says, without its last full stop; its name where it says nothing."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def room_in(folder: Path) -> str:
    """A sentence on how much room there is beside `folder`; empty if that is not known."""
    try:
        free = shutil.disk_usage(folder.resolve()).free
    except OSError:
        return ""
    return f" {free / 1e6:,.0f} MB are free in {folder}."
