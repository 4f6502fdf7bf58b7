"""Trainings at the same time, each by a process of its own with its share of the cores."""

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from tailmoe.training.data.lazy_images import available_cores
from tailmoe.training.errors import EXPECTED, exit_status
from tailmoe.training.logs import set_up_logging
from tailmoe.training.recipe import Recipe
from tailmoe.training.results.results import RESULTS_NAME
from tailmoe.training.run import RECIPE_NAME, train_recipe, write_recipe
from tailmoe.training.studies.status_lines import status_lines
from tailmoe.training.trainer.memory import keep_freed_memory

logger = logging.getLogger(__name__)
LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, eq=False)
class Training:
    """One network to train.

    Args:
        recipe: What `folder` holds or will hold a run of.
        seed: Of weights, order and augmentation.
        folder: Of the run.
        log: File that gets what the run says.
        operations: Of the whole run, a measure of its time.
        draw: Whether the figures of the run are drawn.
        baseline: The training that must be finished before.
        same_as: The training, of the same network, whose finished folder is copied in place of training again.
    """

    recipe: Recipe
    seed: int
    folder: Path
    log: Path
    operations: float = 0.0
    draw: bool = True
    baseline: "Training | None" = None
    same_as: "Training | None" = None

    @property
    def finished(self) -> bool:
        return (self.folder / RESULTS_NAME).exists()

    def __str__(self) -> str:
        return (Path(self.log.parent.name) / self.folder.relative_to(self.log.parent)).as_posix()


@dataclass(frozen=True)
class Failure:
    """How a training ended: the exit status of its process and what it said."""

    status: int
    reason: str


def train_side_by_side(
    trainings: list[Training], jobs: int, deadline: float | None, on_finished: Callable[[Training], None]
) -> tuple[dict[Training, Failure], signal.Signals | None]:
    """Run all trainings that are not finished, at most `jobs` at a time, the longest first.

    Each process appends what it says to its training's log, whose last line is shown. A training that fails leaves the
    others running. At the deadline, or on SIGINT or SIGTERM, every process saves a checkpoint and ends; a second signal
    ends them at once.

    Args:
        trainings: Those to run, with their baselines and those they are the same as.
        jobs: Processes at a time, at least 1.
        deadline: On the clock of `time.monotonic`; None for none.
        on_finished: Called with each training as it is finished.

    Returns:
        How trainings failed, and the signal that was received, if any.
    """
    failures: dict[Training, Failure] = {}
    running: dict[Training, BaseProcess] = {}
    context, asked_to_stop = _context(), False
    with _received_signals() as received, status_lines(jobs) as lines, _none_left_behind(running):
        while True:
            stopping = bool(received) or (deadline is not None and time.monotonic() >= deadline)
            if not stopping:
                _take_over(trainings, on_finished)
                for training in _ready(trainings, running, failures)[: jobs - len(running)]:
                    logger.info("Training %s", training)
                    running[training] = _start(context, training, max(available_cores() // jobs, 1))
            elif not asked_to_stop or len(received) > 1:
                for process in running.values():
                    process.kill() if len(received) > 1 else process.terminate()
                asked_to_stop = True
            if not running:
                return failures, received[0] if received else None
            wait([process.sentinel for process in running.values()], LOOK_EVERY)
            for training, process in list(running.items()):
                lines.show(str(training), _last_line(training.log))
                if process.exitcode is not None:
                    del running[training]
                    lines.forget(str(training))
                    if training.finished:
                        on_finished(training)
                    elif not stopping:
                        failures[training] = _failure(training, process.exitcode)
                        logger.error("%s failed: %s", training, failures[training].reason)


@contextlib.contextmanager
def _none_left_behind(running: dict[Training, BaseProcess]) -> Iterator[None]:
    """Let the processes save and end when an error ends the command."""
    try:
        yield
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _take_over(trainings: list[Training], on_finished: Callable[[Training], None]) -> None:
    """Copy what another training has made, whose checkpoints may be in the midst of being deleted."""
    for training in trainings:
        if training.same_as is not None and training.same_as.finished and not training.finished:
            part = training.folder.with_name(f"{training.folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(
                training.same_as.folder, part, ignore=shutil.ignore_patterns("baseline", RECIPE_NAME, "checkpoint-*")
            )
            write_recipe(part, training.recipe, training.seed)
            shutil.rmtree(training.folder, ignore_errors=True)
            part.rename(training.folder)
            on_finished(training)


def _ready(trainings: list[Training], running: dict, failures: dict) -> list[Training]:
    """Those that could start now, the longest first: a baseline is as long as all that waits for it."""

    def length(training: Training) -> float:
        waiting = [each for each in trainings if training in (each.baseline, each.same_as) and not each.finished]
        return training.operations + max((length(each) for each in waiting), default=0.0)

    ready = [
        each
        for each in trainings
        if not (each.finished or each in running or each in failures or each.same_as is not None)
        and (each.baseline is None or each.baseline.finished)
    ]
    return sorted(ready, key=length, reverse=True)


def _context() -> BaseContext:
    """Processes that start from a server which has imported torch once, where the system has such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start(context: BaseContext, training: Training, threads: int) -> BaseProcess:
    with training.log.open("a") as log:
        log.write("starting\n")  # instead of the last line of what ran before
    process = context.Process(target=_train, args=(training, threads, dict(os.environ)))
    process.start()
    return process


def _train(training: Training, threads: int, environment: dict[str, str]) -> None:
    """What the process of a training does."""
    os.setsid()  # Ctrl-C on the terminal reaches the command alone, which passes it on
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # while it does not train
    os.environ.update(environment)
    with training.log.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_up_logging()
    keep_freed_memory()
    if "OMP_NUM_THREADS" not in environment:  # more threads than cores wait for one another
        torch.set_num_threads(threads)
    try:
        train_recipe(training.recipe, training.folder, training.seed, resume=True, draw=training.draw)
    except EXPECTED as error:
        sys.stderr.write(f"tailmoe: {' '.join(str(error).split())}\n")
        sys.exit(exit_status(error))


def _end_with_parent() -> None:
    """Save a checkpoint and end when the command that started this process was killed."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def _failure(training: Training, status: int) -> Failure:
    reason = _last_line(training.log).removeprefix("tailmoe: ")
    if reason == "starting":
        reason = f"its process ended with status {status}."
    if status < 0:
        reason = f"its process was ended by {signal.Signals(-status).name}; is there memory for so many `--jobs`?"
    return Failure(status, reason)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""


@contextlib.contextmanager
def _received_signals() -> Iterator[list[signal.Signals]]:
    """SIGINT and SIGTERM go into a list instead of ending the process."""
    received: list[signal.Signals] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, frame: received.append(signal.Signals(number))) for n in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
