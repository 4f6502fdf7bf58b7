"""Ablations: a recipe with one thing changed at a time, measured on validation images, in one table."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from tailmoe.training.errors import BadInputError
from tailmoe.training.figures.sweeps import sweeps_figure
from tailmoe.training.recipe import Recipe, load_recipe
from tailmoe.training.recipes.shipped import RECIPES
from tailmoe.training.results.ablation import Ablation, ArmResults, Change
from tailmoe.training.results.environment import describe_environment
from tailmoe.training.results.results import StudyResults
from tailmoe.training.studies.study import run_studies

AS_IT_IS = "as it is"


def run_ablation(
    source: str,
    overrides: Sequence[str],
    seeds: list[int],
    output_dir: Path,
    validation_per_class: int,
    groups: Sequence[str] = (),
    jobs: int = 1,
    time_limit: float | None = None,
    on_finished: Callable[[Path, StudyResults | None], None] = lambda folder, study: None,
) -> Ablation:
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
        jobs, time_limit, on_finished: As in `run_studies`.

    Returns:
        The content of `ablation.json`.

    Raises:
        BadInputError: If there are no changes for the recipe's objective, or a group does not exist.
    """
    common = [*overrides, f"data.validation_per_class={validation_per_class}"]
    recipe = load_recipe(source, common)
    changes = _changes(recipe, groups)
    rows = [(None, AS_IT_IS, [])]
    rows += [(group, str(name), changed) for group, of_group in changes.items() for name, changed in of_group.items()]
    environment = describe_environment()
    studies, arms_of = _plan(source, common, rows, output_dir)
    done = run_studies(studies, seeds, environment["command"], jobs, time_limit, draw=False, on_finished=on_finished)
    results = {folder: ArmResults.of(study) for folder, study in done.items()}
    record = Ablation(
        recipe=recipe.name,
        dataset=next(iter(done.values())).dataset,
        seeds=seeds,
        changes=[
            Change(group, name, changed, results[arms["study"]], results.get(arms.get("baseline")))
            for (group, name, changed), arms in zip(rows, arms_of, strict=True)
        ],
        **environment,
    )
    record.save(output_dir / "ablation.json")
    sweeps_figure(record, output_dir / "ablation.png")
    return record


def _plan(
    source: str, common: list[str], rows: list[tuple[str | None, str, list[str]]], output_dir: Path
) -> tuple[dict[Path, Recipe], list[dict[str, Path]]]:
    """What to train by the folder of its study, and for each change the folders of its arms."""
    folders: dict[str, Path] = {}  # by what is trained: a change that leaves an arm as it is costs no run of its own
    studies: dict[Path, Recipe] = {}
    arms_of: list[dict[str, Path]] = []
    for group, name, changed in rows:
        slug, arms = re.sub(r"[^\w.]+", "-", name if group is None else f"{group} {name}"), {}
        for arm, variant in _arms(load_recipe(source, [*common, *changed])).items():
            path = output_dir / f"{slug}{'-baseline' if arm == 'baseline' else ''}"
            arms[arm] = folders.setdefault(variant.training_key(), path)
            studies.setdefault(arms[arm], variant)
        arms_of.append(arms)
    return studies, arms_of


def _arms(variant: Recipe) -> dict[str, Recipe]:
    baseline = variant.baseline_recipe()
    alone = {"study": dataclasses.replace(variant, baseline=None)}
    return alone if baseline is None else alone | {"baseline": baseline}


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
