"""The benchmark: what it measures is what it says, and its record can be read."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig

from tailmoe.modeling import ICLMoEConfig
from tailmoe.training import cli
from tailmoe.training.benchmark import backbones, measure, run, setting
from tailmoe.training.benchmark.data import whole_batches
from tailmoe.training.benchmark.measure import figure, spread, times_in_turn
from tailmoe.training.benchmark.training import plain_loop, trainer_times
from tailmoe.training.cli.speed import PARTS


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(measure, "PAUSE", 0)
    monkeypatch.setattr(measure, "MATRIX", 64)


@pytest.fixture
def small():
    """A narrow network of ten classes, and 256 images."""
    config = ICLMoEConfig(hidden_sizes=[4, 8], depths=[1, 1], num_labels=10, class_counts=[9] * 10)
    return config, setting.benchmark_images(count=256, num_classes=10)


@pytest.fixture
def _small_backbone(monkeypatch):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    monkeypatch.setattr(backbones, "BACKBONES", {"small": config})
    monkeypatch.setattr(backbones, "SIZE", 32)


def test_a_spread_has_the_median_and_the_quartiles():
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == {"median": 3.0, "quartiles": [2.0, 4.0], "repeats": 5}


def test_the_ratio_is_that_of_the_same_round_and_without_a_naive_baseline_there_is_none():
    times = {"ours": [1.0, 2.0, 4.0], "naive": [2.0, 4.0, 8.0]}
    both, alone = figure("name", "images/s", 10, times), figure("name", "images/s", 10, {"ours": times["ours"]})
    assert both["rate"]["median"] == alone["rate"]["median"] == 5.0
    assert both["naive_baseline"]["median"] == 2.5
    assert both["ratio"] == {"median": 2.0, "quartiles": [2.0, 2.0], "repeats": 3}
    assert alone["naive_baseline"] is alone["ratio"] is None


def test_candidates_take_turns_and_short_ones_are_repeated():
    calls = []
    times = times_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, "cpu", 3, least=1e-3)
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for values in times.values() for value in values)
    rounds = "".join(name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name)
    assert rounds.endswith("ababab")
    assert len(calls) > 100


def test_the_operations_of_a_training_step_are_three_times_those_of_prediction_but_for_the_images_gradient():
    model, _ = setting.make_network(setting.cifar_config(depths=[1, 1, 1]))
    forward, step = (setting.operations(model, training, "cpu") for training in (False, True))
    stem = 2 * 16 * 32 * 32 * 27 / 1e9
    assert step == pytest.approx(3 * forward - stem, rel=0.01)


def test_the_trainer_and_a_plain_loop_are_timed_in_turn_and_the_loop_trains_on_epoch_after_epoch(small):
    config, images = small
    model, objective = setting.make_network(config)
    before = model.classifier.weight.clone()
    loop = plain_loop(model, objective, whole_batches(images, "cpu"), "cpu")
    times = trainer_times(config, images, "cpu", 3, loop)  # five steps, of two batches an epoch
    assert {name: len(values) for name, values in times.items()} == {"ours": 3, "naive": 3}
    assert not torch.equal(model.classifier.weight, before)
    assert objective.observed.all()


def test_the_images_of_the_naive_baseline_are_those_of_the_trainer_shifted_flipped_and_cut_out(small, monkeypatch):
    _, images = small
    naive = setting.NaiveImages(images)
    assert len(naive) == len(images.decoded) == 256
    assert set(images.decoded.labels.tolist()) == set(range(10))
    (batch, *_) = whole_batches(images, "cpu")()
    assert naive[3]["pixel_values"].shape == batch["pixel_values"][0].shape
    assert naive[3]["pixel_values"].dtype == batch["pixel_values"].dtype
    assert naive[3]["labels"] == images.decoded.labels[3]
    monkeypatch.setattr(setting, "PADDING", 0)
    monkeypatch.setattr(setting, "CUTOUT", 0)
    monkeypatch.setattr(setting.random, "random", lambda: 1.0)  # no flip
    plain = images.processor(Image.fromarray(images.decoded.pixel_values[3].permute(1, 2, 0).numpy()))
    np.testing.assert_allclose(naive[3]["pixel_values"], plain["pixel_values"][0], atol=1e-5)


@pytest.mark.usefixtures("_small_backbone")
def test_experts_on_backbones_are_measured_beside_the_plain_backbone(tmp_path, capsys):
    path = tmp_path / "benchmark.json"
    assert cli.main(["benchmark", "backbones", "--repeats", "2", "--json", str(path)]) == 0
    assert "backbones: small, 3 experts" in capsys.readouterr().out
    (line,) = json.loads(path.read_text())["figures"]
    assert min(line[name]["median"] for name in ("rate", "naive_baseline", "ratio")) > 0
    assert [file.name for file in tmp_path.iterdir()] == ["benchmark.json"]


@pytest.mark.usefixtures("_small_backbone")
def test_a_step_on_a_backbone_trains_it():
    step = backbones.training_step("small", 1, "cpu")
    losses = [float(step()) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_the_command_measures_parts_and_writes_its_record(tmp_path, capsys, monkeypatch):
    small = setting.cifar_config(hidden_sizes=[4, 8], depths=[1, 1])
    monkeypatch.setattr("tailmoe.training.benchmark.prediction.cifar_config", lambda: small)
    path = tmp_path / "benchmark.json"
    assert cli.main(["benchmark", "data", "inference", "--repeats", "2", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "data: crop, flip, Cutout" in out
    assert "inference: ONNX Runtime, 256 at a time" in out
    record = json.loads(path.read_text())
    assert {"limits", "figures", "command", "commit", "versions", "hardware", "date"} <= record.keys()
    crop, auto_augment, *inference = record["figures"]
    assert min(crop[name]["median"] for name in ("rate", "naive_baseline", "ratio")) > 0
    assert auto_augment["naive_baseline"] is None
    for line in inference:
        details = line["details"]
        limit = record["limits"]["float32 matrix product"]["median"]
        assert details["share_of_limit"] == pytest.approx(line["rate"]["median"] * details["gflop"] / limit)


def test_the_command_names_what_is_wrong(capsys):
    for arguments, message in (
        (["tran"], "`tran` is not a part of the benchmark"),
        (["data", "--repeats", "1"], "`--repeats` must be at least 2"),
        (["data", "--device", "cuda"], "torch finds no CUDA device"),
    ):
        if "cuda" in arguments and torch.cuda.is_available():
            continue
        assert cli.main(["benchmark", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_command_knows_every_part():
    assert set(PARTS) == {*run.PARTS, run.MEMORY}
