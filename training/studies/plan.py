"""What the trainings of several studies are: which are the same, and how long each is."""

import functools
import json
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from tailmoe.training.build import check
from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.recipe import Recipe
from tailmoe.training.recipes.shipped import DEFAULT_EPOCHS
from tailmoe.training.results.results import RESULTS_NAME
from tailmoe.training.run import check_folder, write_recipe
from tailmoe.training.studies.side_by_side import Training


def plan_trainings(studies: dict[Path, Recipe], seeds: list[int], draw: bool) -> list[Training]:
    """The trainings of all seeds of all studies, baselines among them, and their folders with the recipe in each.

    A baseline is trained once: where another study of the call trains it, or has the same one, it is copied.

    Args:
        studies: Recipes by the folders of their studies.
        seeds: The same for all.
        draw: Whether the figures of runs are drawn.

    Raises:
        BadInputError: If a recipe is wrong or a folder holds another run, before anything is written.
    """
    alone_first = sorted(
        studies, key=lambda folder: studies[folder].baseline is not None
    )  # some may be baselines of others
    trainings: list[Training] = []
    by_key: dict[tuple[int, str], Training] = {}
    for folder in alone_first:
        recipe = studies[folder]
        if not all((folder / f"seed-{seed}" / RESULTS_NAME).exists() for seed in seeds):
            check_sections(recipe)
        operations = count_operations(recipe) if len(studies) > 1 else 0.0  # else their order does not matter
        for seed in seeds:
            log, run, baseline = folder / f"seed-{seed}.log", folder / f"seed-{seed}", None
            if (of_baseline := recipe.baseline_recipe()) is not None:
                same = by_key.get((seed, of_baseline.training_key()))
                baseline = Training(of_baseline, seed, run / "baseline", log, draw=draw, same_as=same)
                by_key.setdefault((seed, of_baseline.training_key()), baseline)
                trainings.append(baseline)
            trainings.append(Training(recipe, seed, run, log, operations, draw, baseline))
            by_key.setdefault((seed, recipe.training_key()), trainings[-1])
    own = [each for each in trainings if each.same_as is None]  # a copy has the recipe of another
    for training in own:
        check_folder(training.folder, training.recipe, training.seed, resume=True)
    for training in own:
        write_recipe(training.folder, training.recipe, training.seed)
    return trainings


def check_sections(recipe: Recipe) -> PreTrainedModel:
    """The model of a recipe without weights; raises `BadInputError` if the recipe or its baseline says something wrong."""
    names, counts = _classes(json.dumps(recipe.data))
    if (baseline := recipe.baseline_recipe()) is not None:
        check(baseline, names, counts)
    return check(recipe, names, counts)


def count_operations(recipe: Recipe) -> float:
    """Floating-point operations of the forward passes over all training images of a run: a measure of its time."""
    model, (_, counts) = check_sections(recipe).eval(), _classes(json.dumps(recipe.data))
    size = model.config.image_size
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, model.config.num_channels, size, size, device="meta"))
    epochs = recipe.training.get("num_train_epochs", DEFAULT_EPOCHS)
    return float(counter.get_total_flops() * sum(counts) * epochs)


@functools.cache
def _classes(data: str) -> tuple[list[str], list[int]]:
    """The names of the classes of the data that a recipe's section, as JSON, names, and their training images."""
    train = load_long_tailed(**json.loads(data))["train"]
    return train.features["label"].names, class_counts(train)
