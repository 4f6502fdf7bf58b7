"""Our results on CIFAR-LT beside those that papers state."""

from pathlib import Path

import yaml

from tailmoe.hub_cards.results_table import format_table
from tailmoe.training.recipes.shipped import grid_names, shipped_recipe
from tailmoe.training.results.results import StudyResults
from tailmoe.training.results.scores import NOT_MEASURED, percent

PUBLISHED = Path(__file__).parent / "published.yaml"
SETTINGS = {
    f"{data}-lt-{factor}": f"{title}, {factor}"
    for data, title in (("cifar100", "CIFAR-100"), ("cifar10", "CIFAR-10"))
    for factor in (100, 50, 10)
}
CAPTION = (
    "Top-1 accuracy in % after the last epoch, by imbalance factor: above what papers state, below what `tailmoe study "
    "METHOD-DATA-lt-FACTOR --seeds 0..4` measured with the recipes as they ship, mean ± standard deviation over seeds; a "
    "method of ours has a row once it was. —: not stated, or not measured yet."
)


def papers_table(results_dir: str | Path) -> str:
    """The Markdown table of papers and of studies of recipes as they ship."""
    rows = [
        {"method": f"{entry['method']} ({entry['source']})" if "source" in entry else entry["method"]}
        | {
            title: f"{entry['accuracy'][s]:.1f}" if s in entry["accuracy"] else NOT_MEASURED
            for s, title in SETTINGS.items()
        }
        for entry in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    ]
    first = next(iter(SETTINGS))
    methods = [name.removesuffix(f"-{first}") for name in grid_names("cifar-lt") if name.endswith(f"-{first}")]
    recipes = {method: {setting: f"{method}-{setting}" for setting in SETTINGS} for method in methods}
    for method, of_setting in (recipes | {"icl, best": {first: f"icl-{first}-best"}}).items():
        measured = {setting: _measured(Path(results_dir), recipe) for setting, recipe in of_setting.items()}
        if set(measured.values()) != {NOT_MEASURED}:
            cells = {title: measured.get(setting, NOT_MEASURED) for setting, title in SETTINGS.items()}
            rows.append({"method": f"tailmoe: {method}"} | cells)
    return f"{format_table(rows, markdown=True)}\n\n{CAPTION}"


def _measured(results_dir: Path, recipe: str) -> str:
    path = results_dir / f"{recipe}.json"
    if not path.is_file():
        return NOT_MEASURED
    study, shipped = StudyResults.load(path), shipped_recipe(recipe)
    for content in (study.recipe, shipped):
        content["training"].pop("bf16", None)  # what the machine computes fastest with
    as_shipped = all(study.recipe.get(section) == shipped.get(section) for section in ("model", "data", "training"))
    return percent(study.metrics["accuracy"]) if as_shipped else NOT_MEASURED
