"""What fails of a machine while a model trains or predicts, told in one line."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch.distributed
from safetensors import SafetensorError

from tailmoe.training.errors import BadInputError, FaultError

RESUME = "The last whole checkpoint is kept: --resume continues."
NOTICED_AFTER = 1  # seconds in which torch notices that a process has ended; it takes milliseconds
CONNECTIONS = ("gloo", "Connection closed", "Connection reset", "Broken pipe")


@contextlib.contextmanager
def naming_faults(folder: Path | str | None = None) -> Iterator[None]:
    """Turn what libraries raise when a process or the disk fails into `FaultError`s; other errors pass.

    Args:
        folder: Where the run writes; None if it writes nothing.
    """
    try:
        with _waiting_for_torch():
            yield
    except FaultError:
        raise
    except SafetensorError as error:
        raise FaultError(f"A file of weights cannot be written or read: {_line(error)}.{room_in(folder)}") from error
    except RuntimeError as error:
        told = _process_fault(str(error), "" if folder is None else f" {RESUME}")
        if told is None:
            raise
        raise FaultError(told) from error


@contextlib.contextmanager
def naming_single_values() -> Iterator[None]:
    """Turn what batch normalisation raises of one image, in a map of 1 x 1, into a `BadInputError`."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadInputError(
            "A batch of one image cannot train a network with batch normalisation whose last map is 1 x 1: make "
            "`per_device_train_batch_size` larger, or the images."
        ) from error


@contextlib.contextmanager
def _waiting_for_torch() -> Iterator[None]:
    """Let torch tell which process has ended, where the connection to it breaks before it has."""
    try:
        yield
    except (ConnectionError, EOFError):
        time.sleep(NOTICED_AFTER)  # the handler of the process's end raises the RuntimeError in here
        raise


def _process_fault(message: str, resume: str) -> str | None:
    """What an error's message tells of another process; None if it tells of something else."""
    if "DataLoader worker" in message:
        return (
            f"A process that reads images has ended: {_line(message)}. Often the memory was full: fewer such processes, "
            f"`dataloader_num_workers`, or smaller batches need less.{resume}"
        )
    if _several_processes() and any(word in message for word in CONNECTIONS):
        return f"Another process of this run has ended, its own message tells why ({_line(message.partition('. ')[0])}).{resume}"
    return None


def _several_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _line(error: Exception | str) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def room_in(folder: Path | str | None) -> str:
    """A sentence on how much room there is beside `folder`; empty if that is not known."""
    try:
        free = shutil.disk_usage(Path(folder or "").resolve()).free
    except OSError:
        return ""
    return f" {free / 1e6:,.0f} MB are free in {folder or 'the working folder'}."
