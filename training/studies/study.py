"""Studies: recipes, many seeds each, one summary of each recipe."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from tailmoe.training.data.lazy_images import available_cores
from tailmoe.training.errors import BadInputError, FailedTrainingsError, InterruptedTraining, TimeLimitReached
from tailmoe.training.recipe import Recipe
from tailmoe.training.results.environment import current_commit
from tailmoe.training.results.results import RESULTS_NAME, STUDY_NAME, RunResults, StudyResults
from tailmoe.training.studies.plan import plan_trainings
from tailmoe.training.studies.side_by_side import Failure, Training, train_side_by_side
from tailmoe.training.trainer.checkpoints import share_done


def run_studies(
    studies: dict[Path, Recipe],
    seeds: list[int],
    command: str,
    jobs: int = 1,
    time_limit: float | None = None,
    draw: bool = True,
    on_finished: Callable[[Path, StudyResults | None], None] = lambda folder, study: None,
) -> dict[Path, StudyResults]:
    """Train each recipe once per seed under `FOLDER/seed-<n>`, and write `FOLDER/study.json`.

    Finished trainings are read, not trained again; interrupted ones are resumed.

    Args:
        studies: What to train, by the folder of each study.
        seeds: Different seeds, each at least 0.
        command: The command line, for the record.
        jobs: Trainings at a time, each by a process of its own with its share of the cores; a GPU has room for several small
            networks.
        time_limit: Seconds after which what runs is saved and stopped.
        draw: Draw the figures of each run.
        on_finished: Called with the folder of each run and None as soon as it is finished, and with the folder and the
            results of each study as soon as it is whole.

    Returns:
        The results of each study.

    Raises:
        BadInputError: If a recipe or folder is wrong, or `jobs` is below 1 or above the number of cores.
        FailedTrainingsError: If a training failed; the others are finished.
        TimeLimitReached: After checkpoints were saved.
        InterruptedTraining: On SIGINT or SIGTERM, after checkpoints were saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInputError("`tailmoe study` starts processes itself: start it once, or several with `tailmoe train`.")
    deadline = None if time_limit is None else time.monotonic() + time_limit
    if not 1 <= jobs <= available_cores():
        raise BadInputError(f"`--jobs` must be at least 1 and at most the {available_cores()} cores, got {jobs}.")
    _check_commits(studies, seeds)
    trainings = plan_trainings(studies, seeds, draw)
    whole: dict[Path, StudyResults] = {}

    def look() -> None:
        for folder in studies:
            runs = [folder / f"seed-{seed}" / RESULTS_NAME for seed in seeds]
            if folder not in whole and all(path.exists() for path in runs):
                whole[folder] = StudyResults.of([RunResults.load(path) for path in runs], command)
                whole[folder].save(folder / STUDY_NAME)
                on_finished(folder, whole[folder])

    def told(training: Training) -> None:
        on_finished(training.folder, None)
        look()

    look()
    failures, received = train_side_by_side(trainings, jobs, deadline, on_finished=told)
    left = [each for each in trainings if not each.finished]
    if received is not None:
        raise InterruptedTraining(received, ", ".join(map(str, studies)), "repeat the command to go on")
    if failures:
        raise _failed(failures)
    if left:
        raise TimeLimitReached(
            f"Time limit reached: {len(trainings) - len(left)} of {len(trainings)} trainings are finished; left are "
            f"{'; '.join(_what_is_left(each) for each in left)}. Repeat the command to go on."
        )
    return whole


def _check_commits(studies: dict[Path, Recipe], seeds: list[int]) -> None:
    """Raise `BadInputError` if seeds would be trained by another code than those that are finished."""
    now = str(current_commit())
    for folder in studies:
        finished = [path for seed in seeds if (path := folder / f"seed-{seed}" / RESULTS_NAME).exists()]
        for path in finished if len(finished) < len(seeds) else []:
            before = str(RunResults.load(path).commit)
            if before != now:
                raise BadInputError(
                    f"{path.parent} was trained at commit {before}, and this is {now}: go on at that commit, or train into "
                    "another --output-dir."
                )


def _what_is_left(training: Training) -> str:
    share = share_done(training.folder)
    return f"{training} ({f'{share:.0%} done' if share else 'not begun'})"


def _failed(failures: dict[Training, Failure]) -> Exception:
    """An error of the status that the processes ended with."""
    told = " ".join(f"{training} failed: {failure.reason}" for training, failure in failures.items())
    bad_input = all(failure.status == 2 for failure in failures.values())
    return BadInputError(told) if bad_input else FailedTrainingsError(told)
