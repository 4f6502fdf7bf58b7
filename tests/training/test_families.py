"""The model families: a model is one entry, and all else is derived from it."""

import json

import pytest
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel

from tailmoe import modeling
from tailmoe.hub_cards.model_card import write_card
from tailmoe.modeling import SNNLMoEConfig, SNNLMoEForImageClassification
from tailmoe.training import cli
from tailmoe.training.errors import BadInputError
from tailmoe.training.families import FAMILIES, ModelFamily, objectives
from tailmoe.training.objectives import Objective
from tailmoe.training.recipe import load_recipe
from tailmoe.training.run import train_recipe

RECIPE = """
title: Third
description: A model that is one entry.
model: {model_type: third_moe, num_channels: 1, image_size: 28, hidden_sizes: [4, 8], depths: [1, 1], num_experts: 2}
data: {name: DATA}
training: {num_train_epochs: 1, per_device_train_batch_size: 32, auto_augment: false}
objective: {type: third}
"""


class ThirdConfig(SNNLMoEConfig):
    model_type = "third_moe"
    _auto_class = None  # its code is this file, which needs not lie beside its weights


class ThirdForImageClassification(SNNLMoEForImageClassification):
    config_class = ThirdConfig
    _auto_class = None


class ThirdObjective(Objective):
    """Cross-entropy of the ensemble."""

    def __init__(self, config, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def active_terms(self, progress):
        return ("third",)

    def forward(self, outputs, labels, progress, active_terms=None):
        return {"third": self.weight * F.cross_entropy(outputs.logits, labels)}


@pytest.fixture
def third(monkeypatch, tmp_path, data_dir):
    """The file of a recipe of a third family."""
    family = ModelFamily(
        "Third-MoE",
        ThirdConfig,
        ThirdForImageClassification,
        {"third": ThirdObjective},
        paper_tags=("arxiv:2101.00003",),
    )
    monkeypatch.setitem(FAMILIES, "third_moe", family)
    AutoConfig.register("third_moe", ThirdConfig, exist_ok=True)
    AutoModelForImageClassification.register(ThirdConfig, ThirdForImageClassification, exist_ok=True)
    (tmp_path / "third.yaml").write_text(RECIPE.replace("DATA", str(data_dir)))
    return str(tmp_path / "third.yaml")


def test_every_model_that_is_published_is_a_family():
    published = [getattr(modeling, name) for name in modeling.__all__]
    models = {each for each in published if issubclass(each, PreTrainedModel)}
    assert {family.model for family in FAMILIES.values()} == models
    for model_type, family in FAMILIES.items():
        assert family.config.model_type == model_type
        assert family.model.config_class is family.config


def test_a_third_family_is_one_entry(third, tmp_path, capsys):
    run = tmp_path / "run"
    train_recipe(load_recipe(third), run, seed=0, draw=False)
    results = json.loads((run / "results.json").read_text())
    assert results["model_type"] == "third_moe"
    assert results["config"]["num_experts"] == 2
    assert cli.main(["evaluate", str(run)]) == 0
    assert "expert" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run), "--early-exit-threshold", "0.5"]) == 2
    assert "is for models of type icl_moe" in capsys.readouterr().err
    card = write_card(run).read_text()
    for told in (
        "\n- third_moe\n",
        "\n- mixture-of-experts\n",
        "\n- arxiv:2101.00003\n",
        "This Third puts images into 10 classes with 2 experts.",
        "ThirdForImageClassification.from_pretrained(",
        "objective=ThirdObjective(model.config)",
    ):
        assert told in card, told


def test_the_keys_of_a_third_family_are_checked_as_any_others(third):
    with pytest.raises(BadInputError, match=r"`num_expert` is not a key of `model` of type third_moe"):
        load_recipe(third, ["model.num_expert=2"])
    with pytest.raises(BadInputError, match=r"must be one of icl_moe, snnl_moe, third_moe, got fourth"):
        load_recipe(third, ["model.model_type=fourth"])
    with pytest.raises(
        BadInputError, match=r"`wait` is not a key of `objective` of type third; did you mean `weight`"
    ):
        load_recipe(third, ["objective.wait=2"])
    assert objectives()["third"] is ThirdObjective
