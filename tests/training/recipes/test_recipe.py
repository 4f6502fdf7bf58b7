"""Recipes: every key is checked, and the baseline is the recipe with its own keys in place."""

import re

import pytest
import yaml

from tailmoe.training.errors import BadInputError
from tailmoe.training.families import FAMILIES, objectives
from tailmoe.training.recipe import load_recipe
from tailmoe.training.recipes.shipped import recipe_names, recipe_patterns
from tailmoe.training.trainer.arguments import LongTailTrainingArguments

RECIPE = """
title: Mine
description: A recipe.
model: {model_type: icl_moe, depths: [1, 1, 1]}
data: {name: fashion_mnist_lt}
training: {learning_rate: 1e-1, weight_decay: 5e-4, num_train_epochs: 2}
objective: {type: icl, temperature: 0.1}
baseline:
  title: plain
  description: Without experts.
  model: {num_experts: 1}
  objective: null
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_the_recipe_in_a_runs_folder_can_be_trained_again(recipe_file, tmp_path):
    recipe = load_recipe(str(recipe_file))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "mine", "seed": 3, **recipe.to_dict()}))
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe
    (tmp_path / "recipe.yaml").write_text("name: ../elsewhere\n" + RECIPE)
    with pytest.raises(BadInputError, match=r"`name` of the recipe must be a word, got \.\./elsewhere"):
        load_recipe(str(tmp_path / "recipe.yaml"))


def test_a_grid_has_a_recipe_for_each_method_data_set_and_imbalance_factor():
    names = recipe_names()
    assert len(names) == len(set(names)) == 6 + 7 * 2 * 3 + 4 * 3
    recipe = load_recipe("icl-2-experts-cifar10-lt-50", ["training.num_train_epochs=3"])
    assert recipe.name == "icl-2-experts-cifar10-lt-50"
    assert recipe.data == {"name": "cifar10", "imbalance_factor": 50}
    assert recipe.model == {"model_type": "icl_moe", "depths": [5, 5, 5], "num_experts": 2}
    assert (recipe.training["num_train_epochs"], recipe.training["learning_rate"]) == (3, 0.15)
    assert load_recipe("icl-cifar10-lt-50").training["num_train_epochs"] == 200
    assert "imbalance_factor" not in load_recipe("snnl-fashion-mnist").data
    recipe = load_recipe("snnl-fashion-mnist-lt-10")
    assert (recipe.model["num_channels"], recipe.model["image_size"]) == (1, 28), "the data's own keys are lost"
    assert recipe.baseline_recipe().objective["snnl_weight"] == 0
    # brackets: what may be left out
    patterns = [re.sub(r"\[(.*)\]", r"(\1)?", pattern) for pattern in recipe_patterns()]
    assert all(any(re.fullmatch(pattern, name) for pattern in patterns) for name in names)


def test_beside_icl_plain_cross_entropy_is_trained_as_by_its_own_recipe():
    alone = load_recipe("cross-entropy-cifar100-lt-100").to_dict()
    assert load_recipe("icl-cifar100-lt-100").baseline_recipe().to_dict() == alone


def test_the_record_recipe_is_icls_but_for_a_longer_schedule():
    best, icl = (load_recipe(f"icl-cifar100-lt-100{suffix}") for suffix in ("-best", ""))
    assert (best.model, best.data, best.objective) == (icl.model, icl.data, icl.objective)
    assert best.training == icl.training | {"num_train_epochs": 300}


@pytest.mark.parametrize("name", recipe_names())
def test_no_epoch_is_chosen_on_the_test_split(name):
    recipe = load_recipe(name)
    for each in filter(None, (recipe, recipe.baseline_recipe())):
        args = LongTailTrainingArguments(output_dir="unused", **each.training)
        assert args.eval_strategy == "no", "the test split is looked at during training"
        assert not args.load_best_model_at_end


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_builds_its_model_and_objective_and_those_of_its_baseline(name):
    recipe = load_recipe(name)
    for each in filter(None, (recipe, recipe.baseline_recipe())):
        fields = dict(each.model)
        is_timm = fields.get("backbone_config", {}).get("model_type") == "timm_wrapper"  # not installed with the tests
        if fields.pop("backbone", None) is not None or is_timm:  # of the Hub
            fields["backbone_config"] = {"model_type": "convnextv2"}
        config = FAMILIES[fields.pop("model_type")].config(**fields, num_labels=10, class_counts=[10] * 10)
        if each.objective is not None:
            options = dict(each.objective)
            objectives()[options.pop("type")](config, **options)


def test_numbers_may_be_written_as_everybody_writes_them(recipe_file):
    training = load_recipe(str(recipe_file)).training
    assert training == {"learning_rate": 0.1, "weight_decay": 0.0005, "num_train_epochs": 2}
    assert isinstance(training["num_train_epochs"], int)


def test_the_baseline_is_the_recipe_with_its_own_keys_in_place(recipe_file):
    recipe = load_recipe(str(recipe_file), ["training.num_train_epochs=7"])
    baseline = recipe.baseline_recipe()
    assert (baseline.name, baseline.title) == ("mine-baseline", "plain")
    assert baseline.model == {"model_type": "icl_moe", "depths": [1, 1, 1], "num_experts": 1}
    assert baseline.training == recipe.training
    assert baseline.data == recipe.data
    assert baseline.objective is None
    assert baseline.baseline_recipe() is None


def test_a_baseline_may_change_single_options_of_the_objective(recipe_file):
    content = yaml.safe_load(RECIPE)
    content["baseline"]["objective"] = {"temperature": 0.5}
    recipe_file.write_text(yaml.safe_dump(content))
    assert load_recipe(str(recipe_file)).baseline_recipe().objective == {"type": "icl", "temperature": 0.5}


def test_overrides_are_yaml_values_and_may_open_a_section(recipe_file):
    recipe = load_recipe(
        str(recipe_file),
        [
            "model.depths=[2, 2, 2]",
            "training.learning_rate=1e-3",
            "training.auto_augment=false",
            "data.selection=shuffled",
        ],
    )
    assert recipe.model["depths"] == [2, 2, 2]
    assert recipe.training["learning_rate"] == 0.001
    assert recipe.training["auto_augment"] is False
    assert recipe.data == {"name": "fashion_mnist_lt", "selection": "shuffled"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_expert=2", "`num_expert` is not a key of `model` of type icl_moe; did you mean `num_experts`"),
        ("training.lerning_rate=1", "`lerning_rate` is not a key of `training`; did you mean `learning_rate`"),
        ("data.imbalance=1", "`imbalance` is not a key of `data`; did you mean `imbalance_factor`"),
        ("objective.temprature=1", "`temprature` is not a key of `objective` of type icl; did you mean `temperature`"),
        ("baseline.modle=1", "`modle` is not a key of `baseline`; did you mean `model`"),
        ("modle.depths=1", "`modle` is not a key of a recipe; did you mean `model`"),
        ("training.learning_rate=fast", "`training.learning_rate` must be a number, got fast"),
        ("training.num_train_epochs=true", "`training.num_train_epochs` must be a number, got True"),
        ("training.auto_augment=1", "`training.auto_augment` must be true or false, got 1"),
        ("training.seed=1", "`seed` is not a key of `training`"),
        ("model.class_counts=1", "`class_counts` is not a key of `model`"),
        ("model.model_type=resnet", "`model.model_type` must be one of icl_moe, snnl_moe, got resnet"),
        ("objective.type=focal", "`objective.type` must be one of icl, balanced_softmax, shike, snnl, got focal"),
        ("learning_rate=1", "`--set learning_rate=1` must have the form section.key=value"),
        ("training", "must have the form section.key=value"),
        ("baseline.model.widths=1", "`widths` is not a key of `model`"),
    ],
)
def test_a_wrong_key_is_an_error_that_names_the_nearest_right_one(recipe_file, override, message):
    with pytest.raises(BadInputError, match=message) as error:
        load_recipe(str(recipe_file), [override])
    assert "\n" not in str(error.value)


def test_an_unknown_recipe_names_the_nearest_and_all_others():
    with pytest.raises(BadInputError, match="There is no recipe `quikstart`; did you mean `quickstart`"):
        load_recipe("quikstart")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "must be a mapping"),
        ("title: x\ndescription: x", "lacks `model`"),
        (RECIPE.replace("title: plain", "objective: null"), "`baseline` of the recipe lacks `title`"),
        (RECIPE.replace("data: {name: fashion_mnist_lt}", "data: cifar10"), "`data` of the recipe must be a mapping"),
    ],
)
def test_a_file_that_is_no_recipe_says_what_is_wrong(recipe_file, text, message):
    recipe_file.write_text(text)
    with pytest.raises(BadInputError, match=message) as error:
        load_recipe(str(recipe_file))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"none\.yaml` cannot be read"):
        load_recipe(str(tmp_path / "none.yaml"))


def test_the_published_cross_entropy_has_the_papers_schedule_and_the_rest_of_the_grid_is_precise_by_itself():
    training = load_recipe("cross-entropy-published-cifar100-lt-100").training
    assert (training["learning_rate"], training["weight_decay"], training["lr_milestones"]) == (0.1, 2e-4, [0.8, 0.9])
    assert not training["auto_augment"]
    assert not training["cutout_size"]
    assert load_recipe("icl-cifar10-lt-10").training["bf16"] == "auto"


def test_a_baseline_can_be_left_out(recipe_file):
    assert load_recipe(str(recipe_file), with_baseline=False).baseline is None


def test_recipes_of_the_same_training_have_the_same_key_however_they_are_written(recipe_file):
    recipe = load_recipe(str(recipe_file))
    for same in (["objective.contrast_weight=1"], ["objective.competition=batch"], ["training.num_train_epochs=2.0"]):
        assert load_recipe(str(recipe_file), same).training_key() == recipe.training_key()
    assert load_recipe(str(recipe_file), ["objective.contrast_weight=0.5"]).training_key() != recipe.training_key()
    baseline = load_recipe("icl-cifar100-lt-100").baseline_recipe()
    assert baseline.training_key() == load_recipe("cross-entropy-cifar100-lt-100").training_key()


def test_an_epoch_is_chosen_on_validation_images_or_not_at_all(recipe_file):
    best = ["training.load_best_model_at_end=true", "training.eval_strategy=epoch"]
    with pytest.raises(
        BadInputError, match=r"would choose the epoch on test images: set `data\.validation_per_class`"
    ):
        load_recipe(str(recipe_file), best)
    assert load_recipe(str(recipe_file), [*best, "data.validation_per_class=5"])
