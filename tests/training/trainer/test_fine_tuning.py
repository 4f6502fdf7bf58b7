"""Fine-tuning on a backbone: its weights and colours, what stays frozen, LoRA without a trace, resumed runs."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, ConvNextImageProcessorPil, ConvNextV2Config

from tailmoe.modeling import ICLMoEForImageClassification, SNNLMoEForImageClassification
from tailmoe.training import cli
from tailmoe.training.data import load_long_tailed
from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.fine_tuning import (
    add_lora,
    backbone_processor,
    load_features,
    merge_lora,
    published_network,
)

COLOURS = [0.4, 0.5, 0.6]
SHARED = "backbone.model.encoder.stages.0."


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A folder with a small ConvNeXt V2 and its image processor."""
    folder = tmp_path_factory.mktemp("backbones") / "tiny-convnext"
    config = ConvNextV2Config(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], image_size=32)
    AutoModel.from_config(config).save_pretrained(folder)
    ConvNextImageProcessorPil(image_mean=COLOURS, image_std=COLOURS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with four images of each class as Parquet."""
    folder = tmp_path_factory.mktemp("images")
    for split, rows in load_long_tailed().items():
        labels = np.asarray(rows["label"])
        kept = np.concatenate([np.flatnonzero(labels == c)[:4] for c in range(10)])
        rows.select(kept).to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.fixture
def fine_tune(backbone, images, tmp_path):
    def run(*overrides, output="run", extra=()):
        values = [f"model.backbone={backbone}", f"data.name={images}", "training.num_train_epochs=2", *overrides]
        values += ["training.crop_padding=2", "training.learning_rate=0.01"]
        folder = tmp_path / output
        command = ["train", "finetune", "--output-dir", str(folder), *extra]
        code = cli.main([*command, *(word for value in values for word in ("--set", value))])
        return code, folder

    return run


def test_a_run_on_a_backbone_has_its_colours_and_a_card_that_names_it_but_not_its_folder(fine_tune, backbone):
    code, folder = fine_tune()
    assert code == 0
    processor = AutoImageProcessor.from_pretrained(folder)
    assert list(processor.image_mean) == COLOURS
    assert processor.size == {"height": 32, "width": 32}
    assert processor.num_channels == 3, "the grey images become what the backbone reads"
    model = ICLMoEForImageClassification.from_pretrained(folder)
    assert model.config.backbone == backbone.name
    assert str(backbone) not in (folder / "config.json").read_text()
    card = (folder / "README.md").read_text()
    assert "The experts have copies of the last layers of `tiny-convnext`, and share the others." in card
    assert json.loads((folder / "results.json").read_text())["baseline"]["config"]["num_experts"] == 1
    assert (folder / "figures" / "grad_cam.png").exists()


def test_a_frozen_shared_part_ends_as_the_backbone_has_it(fine_tune, backbone):
    _, folder = fine_tune("training.freeze_shared=true")
    trained = ICLMoEForImageClassification.from_pretrained(folder).state_dict()
    before = AutoModel.from_pretrained(backbone).state_dict()
    shared = [name for name in trained if name.startswith(SHARED)]
    assert shared
    assert all(torch.equal(trained[name], before[name.removeprefix("backbone.model.")]) for name in shared)
    own = "backbone.model.encoder.stages.3.experts.0.layers.0.pwconv1.weight"
    assert not torch.equal(trained[own], before["encoder.stages.3.layers.0.pwconv1.weight"])


def test_lora_changes_the_shared_part_and_leaves_no_trace_in_the_files(fine_tune, backbone):
    _, folder = fine_tune("training.lora_rank=2")
    trained = ICLMoEForImageClassification.from_pretrained(folder).state_dict()
    assert not [name for name in trained if "lora" in name or "base_layer" in name]
    before = AutoModel.from_pretrained(backbone).state_dict()
    changed = {name for name in trained if name.startswith(SHARED)}
    changed = {
        name for name in changed if not torch.equal(trained[name], before[name.removeprefix("backbone.model.")])
    }
    assert changed == {f"{SHARED}layers.0.{name}.weight" for name in ("pwconv1", "pwconv2")}, (
        "not depthwise, not norms"
    )
    update = trained[f"{SHARED}layers.0.pwconv1.weight"] - before["encoder.stages.0.layers.0.pwconv1.weight"]
    assert torch.linalg.matrix_rank(update, rtol=1e-3) <= 2


def test_merged_changes_give_the_logits_of_the_unmerged(backbone):
    model = SNNLMoEForImageClassification.from_backbone(str(backbone), num_labels=10).eval()
    images = torch.randn(2, 3, 32, 32)
    plain = model(images).logits
    add_lora(model, 2)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all("lora" in name for name in trained if name.startswith("backbone."))
    assert {"gate.weight", "expert_hidden.weight"} <= trained
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # starts at 0
                weight.normal_()
    changed = model(images).logits
    assert not torch.allclose(changed, plain)
    merge_lora(model)
    torch.testing.assert_close(model(images).logits, changed, rtol=1e-4, atol=1e-4)
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_stopped_run_with_lora_resumes_and_ends_as_it_would_have(fine_tune, monkeypatch):
    _, whole = fine_tune("training.lora_rank=2", output="whole")
    from tailmoe.training.trainer.trainer import LongTailTrainer

    take = LongTailTrainer.training_step

    def stop(self, *args, **kwargs):
        if self.state.global_step == 3 and type(self.model).__name__.startswith("ICL") and self.objective is not None:
            raise KeyboardInterrupt
        return take(self, *args, **kwargs)

    monkeypatch.setattr(LongTailTrainer, "training_step", stop)
    assert fine_tune("training.lora_rank=2", output="stopped")[0] != 0
    monkeypatch.undo()
    code, stopped = fine_tune("training.lora_rank=2", output="stopped", extra=["--resume"])
    assert code == 0
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_backbone_without_an_image_processor_gets_imagenets_colours(tmp_path, caplog):
    with caplog.at_level("INFO"):
        processor = backbone_processor(str(tmp_path), 64)
    assert list(processor.image_mean) == [0.485, 0.456, 0.406]
    assert "has no image processor: images are normalised by ImageNet's mean and deviation" in caplog.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.backbone=nowhere/to-be-found", "`model` of the recipe: nowhere/to-be-found is not a local folder"),
        ("training.lora_rank=-1", "`lora_rank` must be at least 0, got -1"),
        ("training.gradient_checkpointing=true", "`gradient_checkpointing` is not offered by transformers' convnext"),
        (
            "model.expert_depth=4",
            "`expert_depth` must be below 4, the stages or blocks of a convnextv2 backbone, got 4",
        ),
    ],
)
def test_wrong_settings_are_told_before_training(fine_tune, override, message, capsys):
    code, folder = fine_tune(override)
    assert code != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()


def test_lora_and_a_frozen_shared_part_exclude_each_other(fine_tune, capsys):
    code, _ = fine_tune("training.lora_rank=2", "training.freeze_shared=true")
    assert code != 0
    assert "`freeze_shared` leaves no shared part to `lora_rank`" in capsys.readouterr().err


def test_a_network_without_layers_for_lora_is_refused(monkeypatch):
    model = SNNLMoEForImageClassification(SNNLMoEForImageClassification.config_class(num_labels=3))
    monkeypatch.setattr(model, "is_shared", lambda name: False)
    with pytest.raises(BadInputError, match="`lora_rank` 2: the shared part has no layer that LoRA can change"):
        add_lora(model, 2)


def test_a_model_of_ours_gives_its_features_and_of_its_experts_the_first(icl, tmp_path):
    model, _ = icl
    model.save_pretrained(tmp_path)
    fields = published_network(str(tmp_path), "icl_moe")
    assert "class_counts" not in fields
    one = ICLMoEForImageClassification(type(model.config)(**fields | {"num_experts": 1}, num_labels=3))
    load_features(one, str(tmp_path))
    weights = model.state_dict()
    features = [name for name in one.state_dict() if "classifier" not in name]
    assert all(torch.equal(one.state_dict()[name], weights[name]) for name in features)
    four = ICLMoEForImageClassification(type(model.config)(**fields | {"num_experts": 4}, num_labels=3))
    with pytest.raises(ValueError, match=r"has no weight `experts\.2"):
        load_features(four, str(tmp_path))
    with pytest.raises(ValueError, match="is of type icl_moe: make `model_type` icl_moe, got snnl_moe"):
        published_network(str(tmp_path), "snnl_moe")
