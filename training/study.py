"""Studies: recipes, many seeds each, one summary of each recipe."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tailmoe.hub_cards.model_card import STUDY_NAME, write_card
from tailmoe.training.checkpoints import share_done
from tailmoe.training.data.encoded_images import available_cores
from tailmoe.training.environment import current_commit
from tailmoe.training.errors import BadInputError, FailedTrainingsError, InterruptedTraining, TimeLimitReached
from tailmoe.training.recipe import Recipe
from tailmoe.training.results import RESULTS_NAME
from tailmoe.training.side_by_side import Failure, Training, train_side_by_side
from tailmoe.training.study_plan import plan_trainings

# the same in every run of a study
SHARED = ("name", "title", "description", "model_type", "num_parameters", "config", "dataset", "recipe")
OF_EACH_RUN = ("seed", "train_seconds", "precision", "peak_memory_gb")
ENVIRONMENT = ("commit", "versions", "hardware", "date")


def run_studies(
    studies: dict[Path, Recipe],
    seeds: list[int],
    command: str,
    jobs: int = 1,
    time_limit: float | None = None,
    draw: bool = True,
    on_finished: Callable[[Path, dict], None] = lambda folder, study: None,
) -> dict[Path, dict]:
    """Train each recipe once per seed under `FOLDER/seed-<n>`, and write `FOLDER/study.json` and each run's card anew.

    Finished trainings are read, not trained again; interrupted ones are resumed.

    Args:
        studies: What to train, by the folder of each study.
        seeds: Different seeds, each at least 0.
        command: The command line, for the record.
        jobs: Trainings at a time, each by a process of its own with its share of the cores; a GPU has room for several small
            networks.
        time_limit: Seconds after which what runs is saved and stopped.
        draw: Draw the figures of each run.
        on_finished: Called with the folder and the summary of each study as soon as it is whole.

    Returns:
        The summary of each study, see `summarise`.

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
    whole: dict[Path, dict] = {}

    def look(_: Training | None = None) -> None:
        for folder in studies:
            runs = [folder / f"seed-{seed}" / RESULTS_NAME for seed in seeds]
            if folder not in whole and all(path.exists() for path in runs):
                whole[folder] = _write_study(folder, seeds, [json.loads(path.read_text()) for path in runs], command)
                on_finished(folder, whole[folder])

    look()
    failures, received = train_side_by_side(trainings, jobs, deadline, on_finished=look)
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
            before = str(json.loads(path.read_text())["commit"])
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


def _write_study(folder: Path, seeds: list[int], runs: list[dict], command: str) -> dict:
    study = summarise(runs) | {"command": command}
    _write(folder, study)
    for seed in seeds:  # each card tells of the others
        parts = [(folder / f"seed-{seed}", study)]
        if study["baseline"] is not None:
            parts.append((folder / f"seed-{seed}" / "baseline", study["baseline"]))
        for part, its_study in parts:
            _write(part, its_study)
            write_card(part)
    return study


def _write(folder: Path, study: dict) -> None:
    (folder / STUDY_NAME).write_text(json.dumps(study, indent=2) + "\n", encoding="utf-8")


def summarise(runs: list[dict]) -> dict:
    """One study of runs (contents of `results.json`) that differ in their seed alone.

    It has the keys of a run, with `metrics` and `train_seconds` as `{"mean", "std"}` over the seeds (sample standard
    deviation, None for one seed), the `baseline` likewise, and in `runs` every run's own metrics but its confusion matrix.

    Raises:
        BadInputError: If the runs were made at different commits.
    """
    commits = sorted({str(run["commit"]) for run in runs})
    if len(commits) > 1:
        raise BadInputError(f"The seeds were trained at different commits ({', '.join(commits)}): train them again.")
    study = _summary_of(runs)
    if runs[0]["baseline"] is not None:
        study["baseline"] = _summary_of([run["baseline"] for run in runs])
    return study | {key: runs[-1][key] for key in ENVIRONMENT}


def _summary_of(runs: list[dict]) -> dict:
    scalars = [name for name, value in runs[0]["metrics"].items() if isinstance(value, float)]
    return {
        **{key: runs[0][key] for key in SHARED},
        "seeds": [run["seed"] for run in runs],
        "metrics": {name: _spread([run["metrics"][name] for run in runs]) for name in scalars},
        "train_seconds": _spread([run["train_seconds"] for run in runs]),
        "baseline": None,
        "runs": [{key: run[key] for key in OF_EACH_RUN} | {"metrics": _without_matrix(run)} for run in runs],
    }


def _without_matrix(run: dict) -> dict:
    # the confusions of 100 classes make a study of ten seeds a hundred times as long, and are with each run
    return {name: value for name, value in run["metrics"].items() if name != "confusion_matrix"}


def _spread(values: list[float | None]) -> dict[str, float | None]:
    measured = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(measured)) if measured else None,
        "std": float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
    }
