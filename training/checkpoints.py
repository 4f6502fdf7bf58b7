"""Checkpoints that survive being killed at any moment."""

import hashlib
import json
import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import sort_checkpoints
from transformers.utils import SAFE_WEIGHTS_NAME

from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
MANIFEST_NAME = "manifest.json"
UNFINISHED = "it was not written to its end"
STEPS_BETWEEN_SIGNALS = 10  # several processes tell each other of signals so often


def write_manifest(checkpoint: str | os.PathLike, data: dict | None, precision: str, seconds: float | None) -> None:
    """Tell in a checkpoint what it consists of, before the Trainer writes its state there, which comes last.

    Args:
        checkpoint: Folder with all else.
        data: What is to be the same on resume, see `check_same_data`; None if that is not known.
        precision: That the network has computed in so far.
        seconds: That training has taken so far; None if that is not known.
    """
    folder = Path(checkpoint)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    digests = {name: _digest(path) for name, path in files.items() if name not in (MANIFEST_NAME, TRAINER_STATE_NAME)}
    manifest = {"files": digests, "data": data, "precision": precision, "seconds": seconds}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(checkpoint: Path) -> dict:
    """Empty for a checkpoint of a version that wrote none."""
    path = checkpoint / MANIFEST_NAME
    return json.loads(path.read_text()) if path.exists() else {"files": {}, "data": None}


def fault_of(checkpoint: str | os.PathLike) -> str | None:
    """What keeps training from continuing at a checkpoint; None if it is as it was written."""
    folder = Path(checkpoint)
    if not (folder / TRAINER_STATE_NAME).exists():
        return UNFINISHED
    name = TRAINER_STATE_NAME
    try:
        json.loads((folder / name).read_text())
        name = MANIFEST_NAME
        files = _read_manifest(folder)["files"]
        for name, digest in files.items():
            if _digest(folder / name) != digest:
                return f"{name} is damaged"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError, KeyError):
        return f"{name} is damaged"
    return None if any(folder.glob("optimizer*")) else "the state of the optimizer is missing (`save_only_model`?)"


def last_complete_checkpoint(run: str | os.PathLike) -> str | None:
    """The newest checkpoint of the folder `run` that is as it was written; None if none was written to its end.

    Raises:
        BadInputError: If all that were written to their end are damaged.
    """
    damaged = []
    for checkpoint in reversed(sort_checkpoints(str(run))):
        fault = fault_of(checkpoint)
        if fault is None:
            return checkpoint
        logger.warning("Skipping %s: %s.", checkpoint, fault)
        damaged += [(checkpoint, fault)] if fault != UNFINISHED else []
    for checkpoint, fault in damaged:
        raise BadInputError(
            f"{checkpoint} cannot be resumed: {fault}, and no whole checkpoint lies beside it. Delete it to start anew."
        )
    return None


def share_done(run: str | os.PathLike) -> float:
    """The share of a run that its newest whole checkpoint holds; 0 without one."""
    for checkpoint in reversed(sort_checkpoints(str(run))):
        if (state := Path(checkpoint) / TRAINER_STATE_NAME).exists():
            content = json.loads(state.read_text())
            return content["global_step"] / content["max_steps"]
    return 0.0


def check_whole(checkpoint: str | os.PathLike) -> None:
    """Raise `BadInputError` unless the checkpoint is as it was written."""
    fault = fault_of(checkpoint)
    if fault is not None:
        raise BadInputError(f"{checkpoint} cannot be resumed: {fault}. Give another checkpoint.")


def check_weights(where: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raise `BadInputError` unless saved weights are those of the network; libraries would draw the others at random.

    Args:
        where: What holds the weights.
        missing: Names of the network's weights that are not there.
        unexpected: Names of weights there that the network does not have.
    """
    if differing := [*sorted(missing), *sorted(unexpected)]:
        raise BadInputError(
            f"{where} holds the weights of another network, such as one of an earlier version ({differing[0]} differs): train anew "
            "in another folder."
        )


def check_network(checkpoint: str | os.PathLike, model: nn.Module) -> None:
    """Raise `BadInputError` if the checkpoint's weights, where they are in one file, are not those of the model."""
    path = Path(checkpoint) / SAFE_WEIGHTS_NAME
    if path.is_file():
        with safe_open(path, framework="pt") as weights:
            saved, own = set(weights.keys()), set(model.state_dict())
        check_weights(str(checkpoint), own - saved, saved - own)


def check_processes(checkpoint: str | os.PathLike, world_size: int) -> None:
    """Raise `BadInputError` unless as many processes wrote the checkpoint: the Trainer keeps random states of each."""
    written = len(list(Path(checkpoint).glob("rng_state*.pth")))
    if written and written != world_size:
        raise BadInputError(
            f"{checkpoint} was written by {written} {'process' if written == 1 else 'processes'}, now there "
            f"{'is 1' if world_size == 1 else f'are {world_size}'}: batches and steps would differ. Resume with {written}."
        )


def precision_so_far(checkpoint: str | os.PathLike, now: str) -> str:
    """The precision of a run that is resumed in the precision `now`, such as `float32, bfloat16` if it has changed."""
    before = _read_manifest(Path(checkpoint)).get("precision", now)
    if before.split(", ")[-1] == now:
        return before
    logger.warning(
        "%s was written in %s, training goes on in %s: it ends otherwise than without a break.",
        checkpoint,
        before,
        now,
    )
    return f"{before}, {now}"


def seconds_so_far(checkpoint: str | os.PathLike) -> float | None:
    """What training had taken when the checkpoint was written; None if it does not tell."""
    return _read_manifest(Path(checkpoint)).get("seconds")


def check_data(checkpoint: str | os.PathLike, data: dict | None) -> None:
    """Raise `BadInputError` if the checkpoint tells of other data."""
    before = _read_manifest(Path(checkpoint))["data"]
    if before is not None and data is not None:
        check_same_data(before, data, str(checkpoint))


def check_same_data(before: dict, now: dict, where: str) -> None:
    """Raise `BadInputError` unless the descriptions of data are the same.

    Args:
        before: Numbers, words and lists of them by name, as they were written.
        now: Likewise; names that only one of the two has are not compared.
        where: What was made of the data before.
    """
    for name, value in before.items():
        if name in now and now[name] != value:
            raise BadInputError(
                f"The images have changed since {where} was written: {_difference(name, value, now[name])}. "
                "Resume with the images as they were, or train anew in another folder."
            )


def _difference(name: str, before: object, now: object) -> str:
    """In words; of lists the first element that differs."""
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"`{name}` had length {len(before)}, now {len(now)}"
        index = next(i for i, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
        return f"`{name}[{index}]` was {before[index]}, now it is {now[index]}"
    return f"`{name}` was {before}, now it is {now}"


class StopOnSignal(TrainerCallback):
    """Finishes the step, saves a checkpoint and ends training on SIGINT or SIGTERM.

    `received` then holds the signal. A second one ends the process at once.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def _receive(self, number: int, frame: object) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def on_train_begin(self, args, state, control, **kwargs):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)

    def on_step_end(self, args, state, control, **kwargs):
        if args.world_size > 1 and state.global_step % STEPS_BETWEEN_SIGNALS == 0:
            self._agree(args.device)
        elif args.world_size > 1:
            return
        if self.received is not None:
            control.should_save = control.should_training_stop = True

    def _agree(self, device: torch.device) -> None:
        """One process may have received a signal before another: all stop after the same step."""
        number = torch.tensor(self.received or 0, device=device)
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
        self.received = signal.Signals(number.item()) if number else None

    def on_train_end(self, args, state, control, **kwargs):
        self._restore()
