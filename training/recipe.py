"""Recipes: YAML files that say what is trained on what, and how. Every key is checked."""

import copy
import inspect
import json
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from tailmoe.training.data import load_long_tailed
from tailmoe.training.errors import BadInputError, nearest
from tailmoe.training.families import FAMILIES, objectives
from tailmoe.training.recipes.shipped import KEYS, Loader, read_recipe
from tailmoe.training.trainer.arguments import LongTailTrainingArguments
from tailmoe.training.trainer.supported_arguments import NOT_OF_A_RECIPE

KINDS = {int | None: 0, float | None: 0.0, bool | None: False}  # of arguments that may be None
# the run sets these itself: from the data, the command line and the recipe's name
SET_BY_THE_RUN = {"class_counts", "training_logit_adjustment", "output_dir", "seed", "config", "self"}


@dataclass(frozen=True)
class Recipe:
    """One training run: a network, its data, its training arguments and its objective.

    Args:
        name: Name of the recipe, from its file.
        title: What tables and figures call the model.
        description: One sentence.
        model: `model_type` and fields of its configuration.
        data: Arguments of `load_long_tailed`.
        training: Arguments of `LongTailTrainingArguments`.
        objective: `type` and arguments of the objective; None for the model's own loss.
        baseline: The keys that differ in the run to compare with, its `title` among them; None for no comparison.
    """

    name: str
    title: str
    description: str
    model: dict
    data: dict
    training: dict
    objective: dict | None = None
    baseline: dict | None = None

    def to_dict(self) -> dict:
        """All keys but the name, as in the file."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}

    def training_key(self) -> str:
        """The same for recipes of the same network and training, however they are written: 1 or 1.0, with defaults or without."""
        objective = self.objective
        if objective is not None:
            parameters = inspect.signature(objectives()[objective["type"]]).parameters.values()
            objective = {each.name: each.default for each in parameters if each.default is not each.empty} | objective
            if objective["type"] == "snnl" and objective["snnl_weight"] == 0:
                objective = {key: objective[key] for key in ("type", "snnl_weight", "logit_adjustment")}
        return json.dumps(_as_floats([self.model, self.data, self.training, objective]), sort_keys=True)

    def baseline_recipe(self) -> "Recipe | None":
        """The recipe of the baseline: this one with the baseline's keys in place of its own."""
        if self.baseline is None:
            return None
        changes = copy.deepcopy(self.baseline)
        merged = self.to_dict() | {key: changes.pop(key) for key in ("title", "description")} | {"baseline": None}
        for section, values in changes.items():
            keeps = values is not None and merged[section] is not None and "type" not in values
            merged[section] = merged[section] | values if keeps else values
        return Recipe(name=f"{self.name}-baseline", **merged)


def _as_floats(value: object) -> object:
    if isinstance(value, dict):
        return {key: _as_floats(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_floats(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def load_recipe(source: str, overrides: list[str] | tuple[str, ...] = (), with_baseline: bool = True) -> Recipe:
    """Read and check a recipe.

    Args:
        source: Name of a recipe that ships with the project, or path of a YAML file; the `recipe.yaml` of a run too.
        overrides: `section.key=value` strings, such as `model.num_experts=2`; values are YAML.
        with_baseline: False leaves out the baseline that the recipe names.

    Raises:
        BadInputError: For an unknown recipe, a file that is not YAML, or a key that does not exist.
    """
    content = read_recipe(source)
    name = content.pop("name", Path(source).stem)
    content.pop("seed", None)  # with the name in the file of a run, whose seed the command line repeats or changes
    for override in overrides:
        _apply(content, override)
    _check_recipe(content)
    if not isinstance(name, str) or Path(name).name != name:  # it becomes a folder's
        raise BadInputError(f"`name` of the recipe must be a word, got {name}.")
    recipe = Recipe(name=name, **content | ({} if with_baseline else {"baseline": None}))
    baseline = recipe.baseline_recipe()
    if baseline is not None:
        _check_recipe(baseline.to_dict())
    return recipe


def _apply(content: dict, override: str) -> None:
    key, equals, value = override.partition("=")
    *sections, last = key.split(".")
    if not equals or not sections:
        raise BadInputError(f"`--set {override}` must have the form section.key=value, such as model.num_experts=2.")
    _check_keys(sections[:1], KEYS, "a recipe")
    target = content
    for section in sections:
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise BadInputError(f"`--set {override}`: `{section}` is a value, not a section.")
    target[last] = yaml.load(value, Loader)


def _check_recipe(content: dict) -> None:
    _check_keys(content, KEYS, "a recipe")
    missing = [key for key in ("title", "description", "model", "data", "training") if content.get(key) is None]
    if missing:
        raise BadInputError(f"The recipe lacks `{missing[0]}`.")
    for section in ("model", "data", "training", "objective", "baseline"):
        if not isinstance(content.get(section), dict | None):
            raise BadInputError(f"`{section}` of the recipe must be a mapping of keys to values.")
    fields_of = {name: family.config_fields for name, family in FAMILIES.items()}
    _check_typed_section("model", "model_type", content["model"], fields_of)
    _check_keys(content["data"], _signature_keys(load_long_tailed), "`data`")
    _check_training(content["training"], content["data"])
    if content.get("objective") is not None:
        options_of = {name: _signature_keys(objective) for name, objective in objectives().items()}
        _check_typed_section("objective", "type", content["objective"], options_of)
    if content.get("baseline") is not None:
        _check_keys(content["baseline"], [key for key in KEYS if key != "baseline"], "`baseline`")
        for key in ("title", "description"):
            if key not in content["baseline"]:
                raise BadInputError(f"`baseline` of the recipe lacks `{key}`.")


def _check_training(training: dict, data: dict) -> None:
    _check_keys(training, [field.name for field in fields(LongTailTrainingArguments)], "`training`")
    for name in training:
        if name in NOT_OF_A_RECIPE:
            raise BadInputError(
                f"`training.{name}` is of a Trainer in a script: leave it out; --resume continues a run, "
                "and `tailmoe push RUN REPO` pushes a finished run."
            )
    if training.get("load_best_model_at_end") and not data.get("validation_per_class"):
        raise BadInputError(
            "`training.load_best_model_at_end` would choose the epoch on test images: set `data.validation_per_class`, so "
            "many training images of each class to choose it on."
        )
    for field in fields(LongTailTrainingArguments):
        if field.name in training and (field.name, training[field.name]) != ("bf16", "auto"):
            value, default = training[field.name], field.default
            if default is None and value is not None:
                default = KINDS.get(field.type)
            _check_kind(f"training.{field.name}", value, default)


def _check_typed_section(section: str, type_key: str, values: dict, keys_of_type: dict[str, list[str]]) -> None:
    kind = values.get(type_key)
    if kind not in keys_of_type:
        raise BadInputError(f"`{section}.{type_key}` must be one of {', '.join(keys_of_type)}, got {kind}.")
    _check_keys(values, [type_key, *keys_of_type[kind]], f"`{section}` of type {kind}")


def _check_keys(given: dict | list[str], known: list[str], where: str) -> None:
    known = [key for key in known if key not in SET_BY_THE_RUN]
    for key in given:
        if key not in known:
            raise BadInputError(f"`{key}` is not a key of {where}{nearest(key, known)}")


def _check_kind(key: str, value: object, default: object) -> None:
    """Raise unless `value` is a switch where the default is one, and a number where it is one."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise BadInputError(f"`{key}` must be true or false, got {value}.")
    elif isinstance(default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise BadInputError(f"`{key}` must be a number, got {value}.")


def _signature_keys(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)
