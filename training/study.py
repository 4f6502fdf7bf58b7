"""Studies: one recipe, many seeds, one summary."""

import json
import logging
from pathlib import Path

import numpy as np

from tailmoe.training.errors import BadInputError
from tailmoe.training.recipe import Recipe
from tailmoe.training.run import train_recipe

logger = logging.getLogger(__name__)
SHARED_KEYS = (
    "name",
    "description",
    "model_type",
    "num_parameters",
    "config",
    "dataset",
    "recipe",
    "commit",
    "versions",
    "hardware",
    "date",
)


def run_study(recipe: Recipe, seeds: list[int], output_dir: Path, command: str) -> dict:
    """Train `recipe` once per seed under `output_dir/seed-<n>` and write `output_dir/study.json`.

    Finished seeds are read, not trained again; an interrupted one is resumed.

    Args:
        recipe: What to train.
        seeds: Different seeds, each at least 0.
        output_dir: Folder of the study.
        command: The command line, for the record.

    Returns:
        The summary: mean and sample standard deviation (None for one seed) of every scalar metric.
    """
    runs = []
    for seed in seeds:
        logger.info("Seed %d (%s)", seed, recipe.name)
        runs.append(train_recipe(recipe, output_dir / f"seed-{seed}", seed, resume=True))
    study = summarise(runs) | {"command": command}
    (output_dir / "study.json").write_text(json.dumps(study, indent=2) + "\n")
    return study


def summarise(runs: list[dict]) -> dict:
    """The summary of runs that differ in their seed alone; each run is the content of a `results.json`.

    Raises:
        BadInputError: If the runs were made at different commits.
    """
    commits = {run["commit"] for run in runs}
    if len(commits) > 1:
        raise BadInputError(f"The seeds were trained at different commits ({', '.join(map(str, commits))}).")
    first, last = runs[0], runs[-1]
    baselines = [run["baseline"] for run in runs if run["baseline"] is not None]
    return {
        **{key: last[key] for key in SHARED_KEYS},
        "seeds": [run["seed"] for run in runs],
        "runs": [_run_of(run) | {"baseline": _run_of(run["baseline"])} for run in runs],
        "summary": _summary(runs),
        "baseline_summary": _summary(baselines) if baselines else None,
        "baseline_name": first["baseline"]["name"] if baselines else None,
        "baseline_num_parameters": first["baseline"]["num_parameters"] if baselines else None,
    }


def _run_of(results: dict | None) -> dict | None:
    if results is None:
        return None
    return {key: results[key] for key in ("seed", "metrics", "train_seconds", "peak_memory_gb")}


def _summary(runs: list[dict]) -> dict[str, dict[str, float | None]]:
    scalars = {name for name, value in runs[0]["metrics"].items() if isinstance(value, float)}
    columns = {name: [run["metrics"][name] for run in runs] for name in sorted(scalars)}
    columns["train_seconds"] = [run["train_seconds"] for run in runs if run["train_seconds"] is not None]
    return {
        name: {
            "mean": float(np.mean(values)) if values else None,
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
        for name, values in columns.items()
    }
