"""Studies: one recipe, many seeds, one summary."""

import json
import logging
from pathlib import Path

import numpy as np

from tailmoe.hub_cards.model_card import STUDY_NAME, write_card
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipe import Recipe
from tailmoe.training.run import train_recipe
from tailmoe.training.side_by_side import train_side_by_side

logger = logging.getLogger(__name__)
# the same in every run of a study
SHARED = ("name", "title", "description", "model_type", "num_parameters", "config", "dataset", "recipe")
OF_EACH_RUN = ("seed", "train_seconds", "peak_memory_gb")
ENVIRONMENT = ("commit", "versions", "hardware", "date")


def run_study(recipe: Recipe, seeds: list[int], output_dir: Path, command: str, jobs: int = 1) -> dict:
    """Train `recipe` once per seed under `output_dir/seed-<n>` and write `output_dir/study.json`, and each run's card anew.

    Finished seeds are read, not trained again; an interrupted one is resumed.

    Args:
        recipe: What to train.
        seeds: Different seeds, each at least 0.
        output_dir: Folder of the study.
        command: The command line, for the record.
        jobs: Seeds that are trained side by side, each by a process of its own with its share of the cores; a GPU has room for
            several small networks.

    Returns:
        The study, see `summarise`.

    Raises:
        BadInputError: As `train_recipe`, or if a process of its own fails or `jobs` is below 1.
        InterruptedTraining: On SIGINT or SIGTERM, after checkpoints were saved.
    """
    if jobs < 1:
        raise BadInputError(f"`--jobs` must be at least 1, got {jobs}.")
    if jobs > 1:
        train_side_by_side(recipe, seeds, output_dir, jobs)
    runs = []
    for seed in seeds:
        logger.info("Seed %d of %s", seed, recipe.name)
        runs.append(train_recipe(recipe, output_dir / f"seed-{seed}", seed, resume=True))
    study = summarise(runs) | {"command": command}
    _write(output_dir, study)
    for seed in seeds:  # each card tells of the others
        folder = output_dir / f"seed-{seed}"
        parts = [(folder, study)]
        if study["baseline"] is not None:
            parts.append((folder / "baseline", study["baseline"]))
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
