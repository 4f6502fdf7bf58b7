"""Ablations: a recipe with one thing changed at a time, measured on validation images, in one table."""

import dataclasses
import inspect
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from tailmoe.training.environment import describe_environment
from tailmoe.training.errors import BadInputError
from tailmoe.training.figures.sweeps import sweeps_figure
from tailmoe.training.objectives import OBJECTIVES
from tailmoe.training.recipe import Recipe, load_recipe
from tailmoe.training.recipe_files import RECIPES
from tailmoe.training.study import run_study

logger = logging.getLogger(__name__)
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
        jobs: As in `run_study`.

    Returns:
        The content of `ablation.json`: `changes`, a list of dicts with `group`, `name`, `overrides`, `study` (the scalars
        of `run_study`) and `baseline`, the study of the recipe's baseline with the same change or None, the recipe as it
        is first; `dataset`; and how it was measured.

    Raises:
        BadInputError: If there are no changes for the recipe's objective, or a group does not exist.
    """
    common = [*overrides, f"data.validation_per_class={validation_per_class}"]
    recipe = load_recipe(source, common)
    changes = _changes(recipe, groups)
    environment = describe_environment()
    studies: list[tuple[list, dict]] = []  # with what is trained, compared as values: 1 is 1.0

    def study_of(variant: Recipe, folder: str) -> dict:
        trained = _what_is_trained(variant)
        for known, study in studies:
            if known == trained:
                return _scalars(study)
        study = run_study(variant, seeds, output_dir / folder, environment["command"], jobs)
        studies.append((trained, study))
        return _scalars(study)

    def entry(group: str | None, name: str, changed: list[str]) -> dict:
        logger.info("%s", _full_name(group, name))
        variant, folder = load_recipe(source, [*common, *changed]), _slug(_full_name(group, name))
        baseline = variant.baseline_recipe()
        return {
            "group": group,
            "name": name,
            "overrides": changed,
            "study": study_of(dataclasses.replace(variant, baseline=None), folder),
            "baseline": None if baseline is None else study_of(baseline, f"{folder}-baseline"),
        }

    entries = [entry(None, AS_IT_IS, [])]
    entries += [entry(group, str(name), changed) for group, rows in changes.items() for name, changed in rows.items()]
    dataset = studies[0][1]["dataset"]
    record = {"recipe": recipe.name, "dataset": dataset, "seeds": seeds, "changes": entries, **environment}
    (output_dir / "ablation.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sweeps_figure(record, output_dir / "ablation.png")
    return record


def _scalars(study: dict) -> dict:
    runs = [
        {"seed": run["seed"], "metrics": {name: run["metrics"][name] for name in study["metrics"]}}
        for run in study["runs"]
    ]
    return {key: study[key] for key in RECORDED} | {"runs": runs}


def _what_is_trained(recipe: Recipe) -> list:
    """Equal for recipes of the same run: every option of the objective is written out, and none that has no effect."""
    objective = recipe.objective
    if objective is not None:
        parameters = inspect.signature(OBJECTIVES[objective["type"]]).parameters.values()
        objective = {each.name: each.default for each in parameters if each.default is not each.empty} | objective
        if objective["type"] == "snnl" and objective["snnl_weight"] == 0:
            objective = {key: objective[key] for key in ("type", "snnl_weight", "logit_adjustment")}
    return [recipe.model, recipe.data, recipe.training, objective]


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


def _full_name(group: str | None, name: str) -> str:
    return name if group is None else f"{group} {name}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)
