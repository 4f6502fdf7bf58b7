"""The recipes that ship with the project: a file for each, and grids, of which each file holds many.

Needs YAML alone, so that `--help` can name them at once.
"""

import copy
import itertools
from pathlib import Path

import yaml

RECIPES = Path(__file__).parent / "recipes"
GRIDS = RECIPES / "grids"
BALANCED = 1  # imbalance factor
DEFAULT_EPOCHS = 200  # of recipes that name none


def recipe_names() -> list[str]:
    """Names of all recipes that ship with the project."""
    return sorted(
        [path.stem for path in RECIPES.glob("*.yaml")] + [name for grid in _grids() for name in _cells(grid)]
    )


def grid_names(grid: str) -> list[str]:
    """Names of the recipes of one grid, such as `snnl`, in its order."""
    return list(_cells(yaml.safe_load((GRIDS / f"{grid}.yaml").read_text(encoding="utf-8"))))


def recipe_patterns() -> list[str]:
    """The same, each grid as one pattern."""
    patterns = []
    for grid in _grids():
        methods, data = (_choice([key.replace("_", "-") for key in grid[part]]) for part in ("methods", "data"))
        tail = f"-lt-{_choice([factor for factor in grid['imbalance_factors'] if factor != BALANCED])}"
        patterns.append(f"{methods}-{data}{f'[{tail}]' if BALANCED in grid['imbalance_factors'] else tail}")
    return sorted([path.stem for path in RECIPES.glob("*.yaml")] + patterns)


def shipped_recipe(name: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> dict | None:
    """The content of a recipe that ships with the project; None if there is none of that name."""
    if (RECIPES / f"{name}.yaml").is_file():
        return yaml.load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), loader)
    for grid in _grids(loader):
        if name in (cells := _cells(grid)):
            method, data, factor = cells[name]
            content = copy.deepcopy(grid["all"]) | {"data": {"name": data}}
            if factor != BALANCED:
                content["data"]["imbalance_factor"] = factor
            for part in (grid["data"][data], grid["imbalance_factors"][factor], grid["methods"][method]):
                for key, value in (part or {}).items():
                    content[key] = content[key] | value if isinstance(value, dict) and key in content else value
            return content
    return None


def _choice(words: list) -> str:
    return f"({'|'.join(map(str, words))})" if len(words) > 1 else str(words[0])


def _grids(loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> list[dict]:
    return [yaml.load(path.read_text(encoding="utf-8"), loader) for path in sorted(GRIDS.glob("*.yaml"))]


def _cells(grid: dict) -> dict[str, tuple[str, str, float]]:
    """Method, data set and imbalance factor by the name of the recipe."""
    cells = itertools.product(grid["methods"], grid["data"], grid["imbalance_factors"])
    return {
        f"{method}-{data.replace('_', '-')}{'' if factor == BALANCED else f'-lt-{factor}'}": (method, data, factor)
        for method, data, factor in cells
    }
