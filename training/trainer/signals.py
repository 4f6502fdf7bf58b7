"""Signals that ask a training to stop."""

import signal

import torch
from transformers import TrainerCallback

STEPS_BETWEEN_SIGNALS = 10  # several processes tell each other of signals so often


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
