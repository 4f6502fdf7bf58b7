"""Ablations: one change at a time, on validation images, without a run for what changes nothing."""

import json

import numpy as np
import pytest
import yaml

from tailmoe.hub_cards.ablation_table import ablation_table
from tailmoe.training import cli
from tailmoe.training.data import load_long_tailed
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipe import load_recipe
from tailmoe.training.recipes.shipped import RECIPES
from tailmoe.training.studies.ablation import run_ablation

TINY = [
    "model.hidden_sizes=[4,4,8]",
    "training.num_train_epochs=1",
    "training.max_steps=2",
    "data.name=DATA",
]


@pytest.fixture
def tiny(tmp_path):
    """Overrides for runs of two steps on four images a class."""
    for split, images in load_long_tailed().items():
        labels = np.asarray(images["label"])
        rows = np.concatenate([np.flatnonzero(labels == c)[:4] for c in range(10)])
        images.select(rows).to_parquet(tmp_path / f"{split}.parquet")
    return [override.replace("DATA", str(tmp_path)) for override in TINY]


def trainings(folder, name):
    """How often a recipe of this name was trained in the folder of an ablation."""
    return sum(log.read_text().count(f"Training {name} ") for log in folder.rglob("seed-*.log"))


@pytest.mark.parametrize(("kind", "recipe"), [("icl", "icl-cifar100-lt-100"), ("snnl", "snnl-cifar100")])
def test_every_change_is_one_of_the_recipe(kind, recipe):
    for rows in yaml.safe_load((RECIPES / "ablations" / f"{kind}.yaml").read_text()).values():
        for overrides in rows.values():
            assert load_recipe(recipe, overrides)


def test_the_papers_sweeps_are_among_the_changes():
    changes = yaml.safe_load((RECIPES / "ablations" / "icl.yaml").read_text())
    assert {"without", "diversity until", "contrast from", "number of experts"} <= set(changes)
    assert set(changes["number of experts"]) == {1, 2, 3, 4}


def test_an_ablation_is_trained_once_for_each_change_and_continues(tiny, tmp_path):
    arguments = ("quickstart", tiny, [0], tmp_path / "out", 1)
    record = run_ablation(*arguments, groups=["balanced heads trained", "diversity of", "diversity weight"])
    changes = {(change.group, change.name): change for change in record.changes}
    assert next(iter(changes)) == (None, "as it is")
    assert len(changes) == 1 + 2 + 3 + 3
    plain = changes[None, "as it is"].study
    assert plain.recipe["data"]["validation_per_class"] == 1
    assert record.dataset.num_test == 10, "it was not measured on validation images"
    assert [run["seed"] for run in plain.runs] == [0]
    assert changes["balanced heads trained", "joint"].study == plain, "the default was trained again"
    same = changes["diversity weight", "1"].study, changes["diversity of", "deviations"].study
    assert same[0] == same[1], "a weight of 1 was trained again beside the default 1.0"
    assert "cross_entropy" not in json.dumps(plain.recipe)
    trained = trainings(tmp_path / "out", "quickstart")
    assert trained == 1 + 1 + 2 + 2
    assert trainings(tmp_path / "out", "quickstart-baseline") == 1, (
        "plain cross-entropy does not change with the objective"
    )
    assert all(change.baseline.title == "cross-entropy" for change in record.changes)
    same = [change for change in record.changes if change.group in (None, "diversity of")]
    assert run_ablation(*arguments, groups=["diversity of"]).changes == same
    assert trainings(tmp_path / "out", "quickstart") == trained
    table = ablation_table(record)
    assert "diversity of: deviations" in table
    assert "10 validation images" in table
    written = (tmp_path / "out" / "ablation.json").read_text()
    assert json.loads(written)["seeds"] == [0]
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 10_000, "changes without numbers were not drawn"
    assert "confusion_matrix" not in written


def test_the_command_prints_a_table_and_draws_what_is_swept(tiny, tmp_path, capsys):
    command = ["ablation", "quickstart", "contrast from", "--output-dir", str(tmp_path / "out")]
    command += ["--validation-per-class", "1", "--json", str(tmp_path / "record.json")]
    assert cli.main([*command, *(word for override in tiny for word in ("--set", override))]) == 0
    assert "contrast from: 0.45" in capsys.readouterr().out
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "record.json").read_text())["recipe"] == "quickstart"


def test_an_unknown_group_and_an_objective_without_changes_are_told(tmp_path):
    with pytest.raises(BadInputError, match="`without it` is no group of the ablation; the groups are without, div"):
        run_ablation("quickstart", [], [0], tmp_path, 1, groups=["without it"])
    with pytest.raises(
        BadInputError, match="There is no ablation for objectives of type None; there is for icl, snnl"
    ):
        run_ablation("cross-entropy-cifar100-lt-100", [], [0], tmp_path, 1)


def test_both_arms_are_changed_and_an_arm_that_stays_the_same_is_not_trained_again(tiny, tmp_path):
    record = run_ablation("snnl-quickstart", tiny, [0], tmp_path, 1, groups=["distance", "number of experts"])
    assert trainings(tmp_path, "snnl-quickstart") == 1 + 1 + 2, "the recipe's own values were trained again"
    assert trainings(tmp_path, "snnl-quickstart-baseline") == 1 + 2
    changes = {(change.group, change.name): change for change in record.changes}
    assert changes["distance", "Euclidean"].baseline == record.changes[0].baseline
    assert changes["number of experts", "8"].baseline.recipe["model"]["num_experts"] == 8
    assert changes["number of experts", "2"].study.num_parameters < record.changes[0].study.num_parameters
    assert "gain: above the baseline with the same change" in ablation_table(record)
    assert (tmp_path / "ablation.png").stat().st_size > 10_000
