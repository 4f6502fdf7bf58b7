"""Checkpoints that survive being killed at any moment."""

import json
import logging
import os
import signal
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import sort_checkpoints

from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
STEPS_BETWEEN_SIGNALS = 10  # several processes tell each other of signals so often


def is_complete(checkpoint: str | os.PathLike) -> bool:
    """Whether `checkpoint` was written to its end: the Trainer writes its state last."""
    try:
        json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text())
    except (OSError, ValueError):
        return False
    return True


def last_complete_checkpoint(run: str | os.PathLike) -> str | None:
    """The newest checkpoint of the folder `run` that was written to its end, or None."""
    for checkpoint in reversed(sort_checkpoints(str(run))):
        if is_complete(checkpoint):
            return checkpoint
        logger.warning("Skipping %s: it was not written to its end.", checkpoint)
    return None


def check_processes(checkpoint: str | os.PathLike, world_size: int) -> None:
    """Raise `BadInputError` unless as many processes wrote the checkpoint: the Trainer keeps random states of each."""
    written = len(list(Path(checkpoint).glob("rng_state*.pth")))
    if written and written != world_size:
        raise BadInputError(
            f"{checkpoint} was written by {written} {'process' if written == 1 else 'processes'}, now there "
            f"{'is 1' if world_size == 1 else f'are {world_size}'}: batches and steps would differ. Resume with {written}."
        )


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
