"""Recipes as YAML: those that ship with the project, a file for each and grids of many, and files of anybody's."""

import copy
import functools
import itertools
import re
from pathlib import Path

import yaml

from tailmoe.training.errors import BadInputError, nearest

KEYS = ("title", "description", "model", "data", "training", "objective", "baseline")  # of a recipe
RECIPES = Path(__file__).parent
GRIDS = RECIPES / "grids"
BALANCED = 1  # imbalance factor
DEFAULT_EPOCHS = 200  # of recipes that name none


class Loader(yaml.SafeLoader):
    """YAML that reads 5e-4 as a number, as everybody means it (YAML 1.1 wants 5.0e-4)."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """YAML with lists on one line, as recipes have them."""


_Dumper.add_representer(
    list, lambda dumper, values: dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)
)


def recipe_yaml(content: dict) -> str:
    """A recipe as its file has it."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


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


def read_recipe(source: str) -> dict:
    """The content of a recipe, by its name or by the path of its file.

    Raises:
        BadInputError: If there is no such recipe, or the file is not YAML.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        return shipped_recipe(source)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise BadInputError(f"Recipe `{source}` cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"Recipe `{source}` is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BadInputError(f"Recipe `{source}` must be a mapping with the keys {', '.join(KEYS)}.")
    return content


def shipped_recipe(name: str) -> dict:
    """The content of a recipe that ships with the project; raises `BadInputError` if there is none of that name."""
    if (RECIPES / f"{name}.yaml").is_file():
        return yaml.load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), Loader)
    for grid in _grids():
        if name in (cells := _cells(grid)):
            method, data, factor = cells[name]
            content = grid["all"] | {"data": {"name": data}}
            if factor != BALANCED:
                content["data"]["imbalance_factor"] = factor
            for part in (grid["data"][data], grid["imbalance_factors"][factor], grid["methods"][method]):
                for key, value in (part or {}).items():
                    content[key] = content[key] | value if isinstance(value, dict) and key in content else value
            return copy.deepcopy({key: content[key] for key in KEYS if key in content})
    raise BadInputError(
        f"There is no recipe `{name}`{nearest(name, recipe_names())} "
        f"Give one of {', '.join(recipe_patterns())}, or a .yaml file."
    )


def recipe_text(source: str) -> str:
    """A recipe as a file: the one that ships, or what a grid has of it; raises `BadInputError` as `read_recipe`."""
    path = RECIPES / f"{source}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else recipe_yaml(read_recipe(source))


def _choice(words: list) -> str:
    return f"({'|'.join(map(str, words))})" if len(words) > 1 else str(words[0])


@functools.cache
def _grids() -> list[dict]:
    return [yaml.load(path.read_text(encoding="utf-8"), Loader) for path in sorted(GRIDS.glob("*.yaml"))]


def _cells(grid: dict) -> dict[str, tuple[str, str, float]]:
    """Method, data set and imbalance factor by the name of the recipe."""
    cells = itertools.product(grid["methods"], grid["data"], grid["imbalance_factors"])
    return {
        f"{method}-{data.replace('_', '-')}{'' if factor == BALANCED else f'-lt-{factor}'}": (method, data, factor)
        for method, data, factor in cells
    }
