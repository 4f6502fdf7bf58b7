import copy

import pytest
import torch
from transformers import TrainerCallback

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
    TailMoEImageProcessor,
)
from tailmoe.training import LongTailTrainer, LongTailTrainingArguments
from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.objectives import ICLObjective, SNNLObjective

TINY = """
title: ICL-MoE
description: A run of seconds.
model: {model_type: icl_moe, num_channels: 1, image_size: 28, hidden_sizes: [4, 4, 8], depths: [1, 1, 1], num_experts: 2}
data: {name: DATA}
training: {num_train_epochs: 4, learning_rate: 0.05, per_device_train_batch_size: 32, auto_augment: false}
objective: {type: icl, balanced_heads: decoupled}
baseline:
  title: cross-entropy
  description: One network, plain cross-entropy.
  model: {num_experts: 1, shallow_fusion: false, classifier: linear, balanced_heads: false}
  objective: null
"""


@pytest.fixture(scope="session")
def fashion():
    """A small piece of the embedded data: every 30th training image and every 40th test image."""
    splits = load_long_tailed("fashion_mnist_lt")
    rows = {split: [*range(0, len(splits[split]), step)] for split, step in (("train", 30), ("test", 40))}
    rows["train"] += [len(splits["train"]) - 1]
    small = {split: splits[split].select(rows[split]) for split in rows}
    labels = splits["train"]["label"]
    missing = sorted(set(range(10)) - set(small["train"]["label"]))
    small["train"] = splits["train"].select(rows["train"] + [labels.index(label) for label in missing])
    return small


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory, fashion):
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        fashion[split].to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, data_dir):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY.replace("DATA", str(data_dir)))
    return str(path)


@pytest.fixture
def processor():
    return TailMoEImageProcessor(num_channels=1, size={"height": 28, "width": 28}, image_mean=[0.3], image_std=[0.35])


@pytest.fixture
def icl(fashion):
    """A tiny ICL-MoE and its objective, with a decoupled stage."""
    torch.manual_seed(0)
    config = ICLMoEConfig(
        num_channels=1,
        image_size=28,
        hidden_sizes=[4, 4, 8],
        depths=[1, 1, 1],
        num_experts=2,
        num_labels=10,
        class_counts=class_counts(fashion["train"], 10),
    )
    return ICLMoEForImageClassification(config), ICLObjective(config, balanced_heads="decoupled")


@pytest.fixture
def snnl(fashion):
    """A tiny SNNL-MoE and its objective, with a learned temperature."""
    torch.manual_seed(0)
    config = SNNLMoEConfig(
        num_channels=1, image_size=28, hidden_sizes=[4, 8], depths=[1, 1], num_experts=2, num_labels=10
    )
    return SNNLMoEForImageClassification(config), SNNLObjective(config, temperature_mode="learned")


class StopAt(TrainerCallback):
    """Saves a checkpoint and stops training after a step, as a signal does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


@pytest.fixture
def stop_at():
    return StopAt


@pytest.fixture
def make_trainer(tmp_path, fashion, processor):
    def make(model, objective=None, callbacks=None, train=fashion["train"], **changes):
        arguments = {
            "num_train_epochs": 4,
            "per_device_train_batch_size": 32,
            "learning_rate": 0.05,
            "auto_augment": False,
            "cutout_size": 4,
            "report_to": "none",
            "disable_tqdm": True,
            "output_dir": str(tmp_path / "run"),
        }
        args = LongTailTrainingArguments(**(arguments | changes))
        return LongTailTrainer(
            copy.deepcopy(model),
            args,
            train_dataset=train,
            eval_dataset=fashion["test"],
            processing_class=processor,
            objective=copy.deepcopy(objective),
            callbacks=callbacks,
        )

    return make
