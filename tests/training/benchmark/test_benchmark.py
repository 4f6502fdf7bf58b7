"""The benchmark: what it measures is what it says, and its record can be read."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import ResNetConfig

from tailmoe.modeling import ICLMoEConfig
from tailmoe.training import cli
from tailmoe.training.benchmark import backbones, losses, measure, run, setting, training
from tailmoe.training.benchmark.growth import AXES, draw_growth
from tailmoe.training.benchmark.losses import MEMORY_BATCHES
from tailmoe.training.benchmark.measure import Spread, compare, times_in_turn
from tailmoe.training.benchmark.training import convolution_passes, trainer_times
from tailmoe.training.cli.speed import PARTS


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(measure, "PAUSE", 0)
    monkeypatch.setattr(measure, "MATRIX", 64)
    monkeypatch.setattr(measure, "COPY", 1024)


@pytest.fixture
def small():
    """A narrow network of ten classes, and 256 images."""
    config = ICLMoEConfig(hidden_sizes=[4, 8], depths=[1, 1], num_labels=10, class_counts=[9] * 10)
    return config, setting.benchmark_images(count=256, num_classes=10)


def test_a_spread_has_the_median_and_the_quartiles_also_as_a_rate():
    spread = Spread.of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (spread.median, spread.quartiles, spread.repeats) == (3.0, (2.0, 4.0), 5)
    assert spread.per(12) == Spread(4.0, (3.0, 6.0), 5)


def test_the_ratio_is_that_of_the_same_round():
    figure = compare("case", "name", "images/s", 10, {"ours": [1.0, 2.0, 4.0], "reference": [2.0, 4.0, 8.0]})
    assert figure.rate.median == 5.0
    assert figure.ratio == Spread(2.0, (2.0, 2.0), 3)


def test_candidates_take_turns_and_short_ones_are_repeated():
    calls = []
    times = times_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, "cpu", 3, least=1e-3)
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for values in times.values() for value in values)
    rounds = "".join(name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name)
    assert rounds.endswith("ababab")
    assert len(calls) > 100


def test_the_work_of_the_convolutions_is_three_times_what_torch_counts_forward_but_for_the_images_gradient():
    model, _ = setting.make_network(setting.cifar_config(depths=[1, 1, 1]))
    images = torch.randn(2, 3, 32, 32)
    passes, work = convolution_passes(model, images)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    forward = counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 1e9
    stem = 2 * 2 * 16 * 32 * 32 * 27 / 1e9
    assert work == pytest.approx(3 * forward - stem)
    for run_both_ways in passes:
        run_both_ways()


def test_the_trainer_and_the_bare_loop_are_timed_in_turn(small):
    config, images = small
    bare_losses = []
    bare = training.bare_step(training.make_trainer(config, images, "cpu", max_steps=100), "cpu")
    times = trainer_times(config, images, "cpu", 3, 1, {"reference": lambda: bare_losses.append(bare())})
    assert {name: len(values) for name, values in times.items()} == {"ours": 3, "reference": 3}
    assert len(bare_losses) == 5


def test_the_images_are_those_of_files_and_the_same_in_memory(small):
    _, images = small
    one_by_one = training.ImagesOneByOne(images.encoded, images.decoded.labels, images.processor, auto_augment=True)
    assert len(one_by_one) == len(images.decoded) == 256
    assert one_by_one[3]["pixel_values"].shape == images.decoded[3]["pixel_values"].shape
    assert set(images.decoded.labels.tolist()) == set(range(10))


def test_the_memory_of_the_soft_nearest_neighbour_loss_does_not_grow_with_the_square_of_the_batch(monkeypatch):
    monkeypatch.setattr(losses, "MEMORY_BATCHES", (1024, 4096))
    measured = losses.snnl_memory("cpu")
    assert measured["batch_sizes"] == [1024, 4096]
    first, last = measured["megabytes"]
    assert 0 < first < last < 10 * first


def test_growth_is_drawn(tmp_path):
    curves = {
        axis: [{axis: v, "ours": 0.1 * v, "reference": 0.2 * v} for v in values] for axis, values in AXES.items()
    }
    memory = {"batch_sizes": list(MEMORY_BATCHES), "megabytes": [10.0 * n for n in range(1, 6)]}
    draw_growth({"steps": curves, "snnl_memory": memory}, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_experts_on_backbones_are_measured_beside_the_plain_backbone(tmp_path, monkeypatch, capsys):
    small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    monkeypatch.setattr(backbones, "BACKBONES", {"small": small})
    monkeypatch.setattr(backbones, "SIZE", 32)
    monkeypatch.setattr(backbones, "_megabytes", lambda name, count, device: 100.0 * count)
    path = tmp_path / "benchmark.json"
    assert cli.main(["benchmark", "backbones", "--repeats", "2", "--json", str(path)]) == 0
    assert "backbones: small, 3 experts" in capsys.readouterr().out
    record = json.loads(path.read_text())
    (figure,), (line,) = record["figures"], record["backbones"].values()
    assert [point["experts"] for point in line] == [1, 2, 3, 4]
    plain, three = (next(point["seconds"] for point in line if point["experts"] == count) for count in (1, 3))
    ratios = [slow / fast for slow, fast in zip(plain, three, strict=True)]
    assert min(ratios) <= figure["ratio"]["median"] <= max(ratios)
    assert (tmp_path / "benchmark-backbones.png").stat().st_size > 10_000


def test_a_step_on_a_backbone_trains_it_and_is_the_plain_backbone_with_one_expert(monkeypatch):
    small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    monkeypatch.setattr(backbones, "BACKBONES", {"small": small})
    monkeypatch.setattr(backbones, "SIZE", 32)
    step = backbones.training_step("small", 1, "cpu")
    losses = [float(step()) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert backbones._megabytes_of_a_step("small", 3, "cpu") > 50


def test_the_command_measures_a_part_and_writes_its_record(tmp_path, capsys):
    path = tmp_path / "benchmark.json"
    assert cli.main(["benchmark", "data", "--repeats", "2", "--json", str(path)]) == 0
    assert "data: crop, flip, Cutout" in capsys.readouterr().out
    record = json.loads(path.read_text())
    assert {"limits", "figures", "command", "commit", "versions", "hardware", "date"} <= record.keys()
    for figure in record["figures"]:
        assert figure["rate"]["median"] > figure["reference"]["median"] > 0


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
    assert set(PARTS) == {*run.PARTS, *run.CURVES}
