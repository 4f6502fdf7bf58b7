"""Ablations: a recipe with one thing changed at a time, measured on validation images, in one table."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from tailmoe.training.environment import describe_environment
from tailmoe.training.errors import BadInputError
from tailmoe.training.figures.sweeps import sweeps_figure
from tailmoe.training.recipe import Recipe, load_recipe
from tailmoe.training.recipe_files import RECIPES
from tailmoe.training.study import run_studies

AS_IT_IS = "as it is"
# of each study; the rest is the same for all, or is with the runs: confusion matrices would make the record ten times as long
RECORDED = ("title", "num_parameters", "recipe", "metrics", "train_seconds", "commit")


def run_ablation(
    source: str,
    overrides: Sequence[str],
    seeds: list[int],
    output_dir: Path,
    validation_per_class: int,
    groups: Sequence[str] = (),
    jobs: int = 1,
    time_limit: float | None = None,
) -> dict:
    """Train the recipe as it is and with each change, and write `ablation.json` and `ablation.png`.

    A recipe with a baseline is changed in both arms. Finished runs are read, not trained again; an interrupted one is
    resumed. A change that leaves an arm as it is costs no run of its own.

    Args:
        source: As in `load_recipe`.
        overrides: Of every run.
        seeds: The same for every change.
        output_dir: Folder written to.
        validation_per_class: Training images of each class to measure on; the test split is not looked at.
        groups: Those to run; all if there is none.
        jobs, time_limit: As in `run_studies`.

    Returns:
        The content of `ablation.json`: `changes`, a list of dicts with `group`, `name`, `overrides`, `study` (the scalars
        of `summarise`) and `baseline`, the study of the recipe's baseline with the same change or None, the recipe as it
        is first; `dataset`; and how it was measured.

    Raises:
        BadInputError: If there are no changes for the recipe's objective, or a group does not exist.
    """
    common = [*overrides, f"data.validation_per_class={validation_per_class}"]
    recipe = load_recipe(source, common)
    changes = _changes(recipe, groups)
    entries = [_entry(source, common, None, AS_IT_IS, [])]
    entries += [
        _entry(source, common, group, str(name), changed)
        for group, rows in changes.items()
        for name, changed in rows.items()
    ]
    environment = describe_environment()
    folders: dict[str, Path] = {}  # by what is trained: a change that leaves an arm as it is costs no run of its own
    studies: dict[Path, Recipe] = {}
    for entry in entries:
        for arm, variant in entry["arms"].items():
            path = output_dir / f"{_slug(_full_name(entry))}{'-baseline' if arm == 'baseline' else ''}"
            entry["arms"][arm] = folders.setdefault(variant.training_key(), path)
            studies.setdefault(entry["arms"][arm], variant)
    done = run_studies(studies, seeds, environment["command"], jobs, time_limit, draw=False)
    for entry in entries:
        arms = entry.pop("arms")
        entry |= {arm: _scalars(done[arms[arm]]) if arm in arms else None for arm in ("study", "baseline")}
    dataset = next(iter(done.values()))["dataset"]
    record = {"recipe": recipe.name, "dataset": dataset, "seeds": seeds, "changes": entries, **environment}
    (output_dir / "ablation.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sweeps_figure(record, output_dir / "ablation.png")
    return record


def _entry(source: str, common: list[str], group: str | None, name: str, changed: list[str]) -> dict:
    """A row of the record, with the recipes of its arms in place of what they will be found to reach."""
    variant = load_recipe(source, [*common, *changed])
    baseline = variant.baseline_recipe()
    arms = {"study": dataclasses.replace(variant, baseline=None)} | (
        {} if baseline is None else {"baseline": baseline}
    )
    return {"group": group, "name": name, "overrides": changed, "arms": arms}


def _scalars(study: dict) -> dict:
    runs = [
        {"seed": run["seed"], "metrics": {name: run["metrics"][name] for name in study["metrics"]}}
        for run in study["runs"]
    ]
    return {key: study[key] for key in RECORDED} | {"runs": runs}


def _changes(recipe: Recipe, groups: Sequence[str]) -> dict[str, dict]:
    kind = None if recipe.objective is None else recipe.objective["type"]
    path = RECIPES / "ablations" / f"{kind}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.yaml")))
        raise BadInputError(f"There is no ablation for objectives of type {kind}; there is for {known}.")
    changes = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in groups:
        if group not in changes:
            raise BadInputError(f"`{group}` is no group of the ablation; the groups are {', '.join(changes)}.")
    return {group: rows for group, rows in changes.items() if not groups or group in groups}


def _full_name(entry: dict) -> str:
    return entry["name"] if entry["group"] is None else f"{entry['group']} {entry['name']}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)
