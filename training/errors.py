"""How a run can end other than well; the command line turns each into one line and an exit status."""

import difflib
import signal
from collections.abc import Sequence


class BadInputError(ValueError):
    """Something given by the user is wrong. The message is one line: what it is, its value, and what to do. Status 2."""


class NonFiniteLossError(FloatingPointError):
    """A loss term became NaN or infinite; training stopped before the optimizer's step. Status 1."""


class FaultError(RuntimeError):
    """The machine failed: a full disk, a process that was killed. The message is one line with what remains. Status 1."""


class FailedTrainingsError(RuntimeError):
    """Some trainings of a study failed, the others are finished; the message has the reason of each. Status 1."""


class InterruptedTraining(Exception):  # noqa: N818 (no error: the run was asked to stop)
    """Training was stopped by a signal, after a checkpoint was saved. Status 128 + the signal's number."""

    def __init__(self, received: signal.Signals, output_dir: object, remedy: str = "--resume continues"):
        super().__init__(f"{received.name}: a checkpoint was saved in {output_dir}; {remedy}.")
        self.received = received


class TimeLimitReached(Exception):  # noqa: N818 (no error: the study was given so much time)
    """A study stopped at its time limit, after checkpoints were saved. Status 124, as of the command `timeout`."""


# what ends a command with one line instead of a traceback
EXPECTED = (
    BadInputError,
    NonFiniteLossError,
    FaultError,
    FailedTrainingsError,
    InterruptedTraining,
    TimeLimitReached,
    OSError,
    KeyboardInterrupt,
)


def exit_status(error: BaseException) -> int:
    """The exit status of a command that ended with one of the errors above, or with one of the system's."""
    if isinstance(error, InterruptedTraining):
        return 128 + error.received
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return {BadInputError: 2, TimeLimitReached: 124}.get(type(error), 1)


def nearest(word: str, known: Sequence[str]) -> str:
    """How a message about an unknown word ends: with the nearest that is known, or with all of them."""
    matches = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"; did you mean `{matches[0]}`?" if matches else f"; known are {', '.join(known)}."
