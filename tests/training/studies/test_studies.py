"""Runs of minutes on real images, on request: `pytest -m slow tests/training/test_studies.py`."""

import json
import os

import pytest

from tailmoe.training import cli
from tailmoe.training.recipe import load_recipe
from tailmoe.training.run import train_recipe
from tailmoe.training.studies.study import run_studies

pytestmark = pytest.mark.slow
NEEDS_DATA = pytest.mark.skipif(
    "TAILMOE_DATA_DIR" not in os.environ, reason="TAILMOE_DATA_DIR names no folder of data"
)


def test_icl_moe_beats_cross_entropy_on_the_quickstart_over_three_seeds(tmp_path):
    study = run_studies({tmp_path: load_recipe("quickstart")}, [0, 1, 2], command="test")[tmp_path]
    ours, baseline = study.metrics, study.baseline.metrics
    for metric, points in (("balanced_accuracy", 0.04), ("medium_accuracy", 0.12), ("few_accuracy", 0.12)):
        assert ours[metric].mean >= baseline[metric].mean + points, metric


def test_every_part_of_the_benchmark_runs(tmp_path):
    path = tmp_path / "benchmark.json"
    assert cli.main(["benchmark", "--repeats", "2", "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    assert {figure["case"] for figure in record["figures"]} | {"memory"} == set(cli.BENCHMARK_PARTS)


# 200 epochs' learning rate, batch and augmentation leave five epochs at the prior: short runs take smaller steps
SHORT = ["training.num_train_epochs=5", "training.per_device_train_batch_size=32", "training.learning_rate=0.05"]
SHORT += ["training.auto_augment=false", "training.cutout_size=0"]


@NEEDS_DATA
@pytest.mark.parametrize(
    ("recipe", "overrides", "accuracy"),
    [("icl-cifar100-lt-100", SHORT, 0.05), ("snnl-cifar100", ["training.num_train_epochs=2"], 0.1)],
)
def test_a_few_epochs_on_real_cifar_100_are_clearly_above_chance(tmp_path, recipe, overrides, accuracy):
    results = train_recipe(load_recipe(recipe, overrides), tmp_path, seed=0)
    assert results.metrics.accuracy > accuracy  # chance is 0.01
