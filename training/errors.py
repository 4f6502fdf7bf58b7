"""How a run can end other than well; the command line turns each into one line and an exit status."""

import signal


class BadInputError(ValueError):
    """Something given by the user is wrong. The message is one line: what it is, its value, and what to do. Status 2."""


class NonFiniteLossError(FloatingPointError):
    """A loss term became NaN or infinite; training stopped before the optimizer's step. Status 1."""


class FaultError(RuntimeError):
    """The machine failed: a full disk, a process that was killed. The message is one line with what remains. Status 1."""


class InterruptedTraining(Exception):  # noqa: N818 (no error: the run was asked to stop)
    """Training was stopped by a signal, after a checkpoint was saved. Status 128 + the signal's number."""

    def __init__(self, received: signal.Signals, output_dir: object):
        super().__init__(f"{received.name}: a checkpoint was saved in {output_dir}; --resume continues.")
        self.received = received
