"""What `evaluate` tells of early exit, and the record and figure of several thresholds."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from tailmoe.training import cli
from tailmoe.training.evaluation.early_exit import early_exit_metrics, operations
from tailmoe.training.evaluation.evaluate import load_model

MODELS = Path(__file__).parents[3] / "hub_cards" / "models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(MODELS / "icl-moe-fashion-mnist-lt", tmp_path_factory.mktemp("early-exit") / "icl")


def test_operations_are_those_of_the_convolutions_and_heads_that_run(icl, processor):
    model = icl[0].eval()
    asked, without = operations(model, processor)
    image = torch.randn(1, 1, 28, 28)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = model._shared_maps(image)[1:]
        features = [expert(maps).mean(dim=(-2, -1)) for expert in model.experts]
        model.balanced_classifier(torch.stack(features, dim=1))
    assert asked[-1] == counter.get_total_flops()
    assert asked[0] < asked[1] <= without
    for threshold, expected in ((1e-6, asked[0]), (1.0, asked[1])):
        model.config.early_exit_threshold = threshold
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image)
        assert counter.get_total_flops() == expected


def test_what_is_saved_is_a_mean_over_the_images(icl, processor):
    model = icl[0].eval()
    model.config.early_exit_threshold = 0.5
    metrics = early_exit_metrics(model, processor, torch.tensor([1.0, 1.0, 1.0, 2.0]))
    assert metrics["image_shares"] == [0.75, 0.25]
    assert metrics["mean_experts"] == 1.25
    spent = 0.75 * metrics["gflops"][0] + 0.25 * metrics["gflops"][1]
    assert metrics["flops_saved"] == pytest.approx(1 - spent / metrics["gflops_without"])


def test_evaluate_tells_the_experts_asked_and_the_operations_saved(folder, tmp_path, capsys):
    file = tmp_path / "metrics.json"
    assert cli.main(["evaluate", str(folder), "--early-exit-threshold", "0.8", "--json", str(file)]) == 0
    shown, metrics = capsys.readouterr().out, json.loads(file.read_text())
    assert "asked 1 expert " in shown
    assert "operations (FLOPs) saved" in shown
    saved = metrics["early_exit"]
    assert saved["threshold"] == 0.8
    assert sum(saved["image_shares"]) == pytest.approx(1)
    assert 0 < saved["flops_saved"] < 1
    assert metrics["accuracy"] > 0.7


def test_several_thresholds_are_recorded_with_their_environment_and_drawn(folder, tmp_path, capsys):
    file = tmp_path / "curve" / "icl.json"
    assert cli.main(["evaluate", str(folder), "--early-exit-threshold", "1", "0.5", "--json", str(file)]) == 0
    assert "none" in capsys.readouterr().out
    curve = json.loads(file.read_text())
    assert [point["early_exit"]["threshold"] for point in curve["points"]] == [0.5, 1.0]
    assert curve["points"][1]["accuracy"] == pytest.approx(curve["without"]["accuracy"], abs=1e-3)
    assert curve["points"][0]["early_exit"]["flops_saved"] > curve["points"][1]["early_exit"]["flops_saved"]
    assert {"commit", "versions", "hardware", "command", "date"} <= curve.keys()
    assert Image.open(file.with_suffix(".png")).width > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["icl-moe", "1.5"], "`early_exit_threshold` must be above 0 and at most 1"),
        (["icl-moe", "0.5", "0"], "`early_exit_threshold` must be above 0 and at most 1"),
        (["icl-moe", "0.5", "--backend", "onnx"], "is for `--backend torch`, got onnx"),
        (["icl-moe", "0.5", "0.6", "--backend", "onnx"], "is for `--backend torch`, got onnx"),
        (["snnl-moe", "0.5"], "is for models of type icl_moe, which ask their experts in order"),
    ],
)
def test_early_exit_that_cannot_be_is_one_line_with_the_reason(arguments, message, capsys):
    model, *rest = arguments
    folder = MODELS / f"{model}-fashion-mnist-lt"
    assert cli.main(["evaluate", str(folder), "--early-exit-threshold", *rest]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_a_saved_threshold_acts_without_being_asked_for(folder, tmp_path):
    model, _ = load_model(str(folder))
    model.config.early_exit_threshold = 0.5
    copied = shutil.copytree(folder, tmp_path / "saved")
    model.config.save_pretrained(copied)
    loaded, _ = load_model(str(copied))
    with torch.inference_mode():
        assert loaded(torch.randn(2, 1, 28, 28)).num_experts_used is not None
