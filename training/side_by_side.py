"""Seeds of a recipe trained at the same time, each by a process of its own."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tailmoe.training.data.encoded_images import available_cores
from tailmoe.training.errors import BadInputError, InterruptedTraining
from tailmoe.training.recipe import Recipe
from tailmoe.training.results import RESULTS_NAME

logger = logging.getLogger(__name__)
COMMAND = Path(sys.executable).with_name("tailmoe")
LOOK_EVERY = 0.2  # seconds


def train_side_by_side(recipe: Recipe, seeds: list[int], output_dir: Path, jobs: int) -> None:
    """Train the seeds into `output_dir/seed-<n>`, at most `jobs` at a time; what each says goes to `seed-<n>.log`.

    A signal is passed on, so that every process saves a checkpoint; a seed that fails stops the others likewise.

    Raises:
        BadInputError: With the last line of a seed that failed.
        InterruptedTraining: On SIGINT or SIGTERM.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": recipe.name, **recipe.to_dict()}, sort_keys=False), encoding="utf-8")
    waiting = [seed for seed in seeds if not (output_dir / f"seed-{seed}" / RESULTS_NAME).exists()]
    running: dict[int, subprocess.Popen] = {}
    with _received_signals() as received:
        while waiting or running:
            while waiting and len(running) < jobs and not received:
                seed = waiting.pop(0)
                logger.info("Seed %d of %s, beside others", seed, recipe.name)
                running[seed] = _start(path, seed, output_dir, max(available_cores() // jobs, 1))
            time.sleep(LOOK_EVERY)
            ended = {seed: process for seed, process in running.items() if process.poll() is not None}
            running = {seed: process for seed, process in running.items() if seed not in ended}
            failed = [seed for seed, process in ended.items() if process.returncode != 0]
            if failed or received:
                for process in running.values():
                    process.send_signal(received[0] if received else signal.SIGTERM)
                for process in running.values():
                    process.wait()
                if received:
                    raise InterruptedTraining(received[0], output_dir)
                raise BadInputError(f"Seed {failed[0]} failed: {_last_line(output_dir / f'seed-{failed[0]}.log')}")


def _start(recipe: Path, seed: int, output_dir: Path, threads: int) -> subprocess.Popen:
    command = [COMMAND, "train", recipe, "--seed", seed, "--output-dir", output_dir / f"seed-{seed}", "--resume"]
    with (output_dir / f"seed-{seed}.log").open("w") as log:
        return subprocess.Popen(
            [str(word) for word in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads)} | os.environ,  # more threads than cores wait for one another
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("tailmoe: ") if lines else "it said nothing."


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
