"""What a run measured and how: the content of `results.json`, and the figures and the card that are made of it."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from tailmoe.hub_cards.model_card import render_model_card
from tailmoe.training.data.sources import hub_id
from tailmoe.training.environment import describe_environment, peak_memory_gb
from tailmoe.training.families import FAMILIES
from tailmoe.training.figures.results import write_figures

RESULTS_NAME = "results.json"


def run_results(
    model: PreTrainedModel,
    *,
    name: str,
    title: str,
    description: str | None,
    dataset: dict,
    metrics: dict | None,
    recipe: dict,
    baseline: dict | None,
    seed: int,
    train_seconds: float | None,
    precision: str,
) -> dict:
    """The content of a run's `results.json`.

    Args:
        model: As trained.
        name: Of the recipe, or of the run.
        title: What tables and figures call the model.
        description: One sentence; None for a run that no recipe describes.
        dataset: `name`, `imbalance_factor`, `class_counts`, `shot_bounds`, `label_names`, `num_train` and `num_test`.
        metrics: As `evaluate_images` returns them; None without images to evaluate on.
        recipe: The sections `model`, `data`, `training` and `objective`, and all other keys of a recipe if there is one.
        baseline: The results of the run to compare with.
        seed: Of weights, order and augmentation.
        train_seconds: None if not measured.
        precision: What the network computed in while it trained.
    """
    model_type = model.config.model_type
    fields = FAMILIES[model_type].config_fields if model_type in FAMILIES else []
    config = model.config.to_dict()
    return {
        "name": name,
        "title": title,
        "description": description,
        "model_type": model_type,
        "num_parameters": model.num_parameters(),
        "config": {field: config[field] for field in fields if field != "class_counts"},
        "dataset": dataset,
        "metrics": metrics,
        "recipe": recipe,
        "base_model": None if config.get("backbone") is None else hub_id(config["backbone"]),
        "baseline": baseline,
        "seed": seed,
        "train_seconds": train_seconds,
        "precision": precision,
        "peak_memory_gb": peak_memory_gb(),
        **describe_environment(),
    }


def write_results(folder: Path, results: dict, repo_id: str | None = None, draw: bool = True) -> None:
    """Write a run's figures beside those that are there, its card and at last `results.json`: then the run is finished."""
    if draw and results["metrics"] is not None:
        write_figures(results, folder / "figures")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("figures/*.png"))]
    render_model_card(results, repo_id, names).save(folder / "README.md")
    part = folder / f"{RESULTS_NAME}.part"
    part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / RESULTS_NAME)
