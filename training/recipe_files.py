"""The recipes that ship with the project: a file for each, and grids, of which each file holds many.

Needs YAML alone, so that `--help` can name them at once.
"""

import itertools
from pathlib import Path

import yaml

RECIPES = Path(__file__).parent / "recipes"
GRIDS = RECIPES / "grids"


def recipe_names() -> list[str]:
    """Names of all recipes that ship with the project."""
    return sorted(
        [path.stem for path in RECIPES.glob("*.yaml")] + [name for grid in _grids() for name in _cells(grid)]
    )


def recipe_patterns() -> list[str]:
    """The same, each grid as one pattern."""
    patterns = [
        "-".join(
            f"({'|'.join(map(str, part))})" if len(part) > 1 else part[0] for part in (grid["methods"], grid["data"])
        )
        + f"-lt-({'|'.join(map(str, grid['imbalance_factors']))})"
        for grid in _grids()
    ]
    return sorted(path.stem for path in RECIPES.glob("*.yaml")) + patterns


def shipped_recipe(name: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> dict | None:
    """The content of a recipe that ships with the project; None if there is none of that name."""
    if (RECIPES / f"{name}.yaml").is_file():
        return yaml.load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), loader)
    for grid in _grids(loader):
        if name in (cells := _cells(grid)):
            method, data, factor = cells[name]
            content = grid["all"] | {"data": {"name": data, "imbalance_factor": factor}}
            for key, value in grid["methods"][method].items():
                content[key] = content[key] | value if isinstance(value, dict) and key in content else value
            return content
    return None


def _grids(loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> list[dict]:
    return [yaml.load(path.read_text(encoding="utf-8"), loader) for path in sorted(GRIDS.glob("*.yaml"))]


def _cells(grid: dict) -> dict[str, tuple[str, str, float]]:
    """Method, data set and imbalance factor by the name of the recipe."""
    cells = itertools.product(grid["methods"], grid["data"], grid["imbalance_factors"])
    return {f"{method}-{data}-lt-{factor}": (method, data, factor) for method, data, factor in cells}
