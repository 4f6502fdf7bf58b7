"""Models made ready to predict: fused and exported ones answer as the plain model does."""

import copy
import os
import shutil
import sys
import time
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification, TailMoEImageProcessor
from tailmoe.training.data import load_images, load_long_tailed
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.evaluate import load_model, load_runner, predict_split
from tailmoe.training.evaluation.inference import OUTPUTS, fuse_for_inference, onnx_runner, with_fast_layout

MODELS = Path(__file__).parents[3] / "hub_cards" / "models"
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=["icl", "snnl"])
def model(request):
    """A small model whose batch normalisations have statistics and weights of their own."""
    model, _ = request.getfixturevalue(request.param)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(32, 1, 28, 28))
    return model.eval()


@torch.no_grad()
def assert_same_answers(run, model, images):
    ours, plain = run(pixel_values=images), model(pixel_values=images)
    assert torch.equal(ours["logits"].argmax(-1), plain["logits"].argmax(-1))
    for name in OUTPUTS:
        assert (ours.get(name) is None) == (plain.get(name) is None)
        if plain.get(name) is not None:
            torch.testing.assert_close(ours[name], plain[name], **CLOSE)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_fused_model_answers_the_same_without_batch_normalisation(model, batch_size):
    plain, images = copy.deepcopy(model), torch.randn(batch_size, 1, 28, 28)
    fused = fuse_for_inference(model.train())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert not fused.training
    assert_same_answers(fused, plain, images)
    assert_same_answers(fused, plain, images)


def test_a_model_of_transformers_keeps_its_answers(processor):
    config = ResNetConfig(num_channels=1, embedding_size=16, hidden_sizes=[16], depths=[1], layer_type="basic")
    model = ResNetForImageClassification(config).eval()
    images = torch.randn(3, 1, 28, 28)
    assert_same_answers(fuse_for_inference(copy.deepcopy(model)), model, images)


def test_only_wide_networks_are_laid_out_channels_last(icl):
    wide = ICLMoEForImageClassification(ICLMoEConfig(depths=[1, 1, 1]))
    layouts = [
        {w.is_contiguous(memory_format=torch.channels_last) for w in with_fast_layout(m).parameters() if w.dim() == 4}
        for m in (wide, icl[0])
    ]
    assert layouts[0] == {True}
    assert False in layouts[1]


def test_onnx_runtime_answers_the_same_for_any_number_of_images_and_keeps_its_export(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    fused = fuse_for_inference(copy.deepcopy(model))
    run = onnx_runner(fused, processor, str(tmp_path))
    for batch_size in (1, 2, 9):
        assert_same_answers(run, model, torch.randn(batch_size, 1, 28, 28))
    export = tmp_path / "onnx" / "model.onnx"
    written = export.stat().st_mtime_ns
    onnx_runner(fused, processor, str(tmp_path))
    assert export.stat().st_mtime_ns == written
    (tmp_path / "model.safetensors").touch()
    onnx_runner(fused, processor, str(tmp_path))
    assert export.stat().st_mtime_ns > written, "weights that are newer were not exported"
    assert [path.name for path in export.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("name", ["icl-moe", "cross-entropy", "snnl-moe"])
def test_exported_models_label_the_test_images_as_torch_does(name, tmp_path):
    folder = shutil.copytree(MODELS / f"{name}-fashion-mnist-lt", tmp_path / name)
    model, processor = load_model(str(folder))
    images = load_images(load_long_tailed("fashion_mnist_lt")["test"], processor)
    labels = predict_split(model, images, processor)["logits"].argmax(-1)
    assert len(labels) == 2000
    run, *_ = load_runner(str(folder), "onnx")
    same = (predict_split(run, images, processor)["logits"].argmax(-1) == labels).float().mean()
    assert same >= 0.999, f"{same:.4f}"


def test_an_export_is_made_anew_for_another_label_prior_and_asks_every_expert(processor, tmp_path):
    config = ICLMoEConfig(num_channels=1, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, class_counts=[9, 5, 1])
    model = ICLMoEForImageClassification(config).eval()
    model.set_label_prior([1, 1, 8])
    model.config.early_exit_threshold = 0.01
    model.save_pretrained(tmp_path)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"made before the prior was set")
    for age, name in ((3, "model.safetensors"), (2, "onnx/model.onnx"), (1, "config.json")):
        os.utime(tmp_path / name, times=(time.time() - age, time.time() - age))
    images = torch.randn(2, 1, 28, 28)
    expected = model(images).logits  # with gradients: of every expert
    output = onnx_runner(copy.deepcopy(model), processor, str(tmp_path))(pixel_values=images)
    torch.testing.assert_close(output["logits"], expected, **CLOSE)
    assert output["expert_logits"].shape == (2, 3, 3)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"]


def test_a_model_of_the_hub_is_exported_to_no_folder(icl, processor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = onnx_runner(fuse_for_inference(icl[0]), processor, "someone/some-model")
    assert run(pixel_values=torch.randn(2, 1, 28, 28))["logits"].shape == (2, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_a_missing_onnx_runtime_is_named_with_the_remedy(icl, processor, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInputError, match=rf"needs {package}: python -m pip install 'tailmoe\[onnx\]'"):
        onnx_runner(icl[0], processor, "model")


def test_the_example_image_of_the_export_has_the_processors_channels(tmp_path):
    torch.manual_seed(0)
    model = ICLMoEForImageClassification(ICLMoEConfig(hidden_sizes=[4, 8], depths=[1, 1], num_labels=3)).eval()
    onnx_runner(model, TailMoEImageProcessor(num_channels=3, size={"height": 32, "width": 32}), str(tmp_path))
    (given,) = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx").get_inputs()
    assert given.shape[1:] == [3, 32, 32]
