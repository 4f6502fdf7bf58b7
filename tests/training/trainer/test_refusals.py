"""What a library would refuse with a traceback is one line of the command line, told before anything is trained."""

import re

import pytest
from transformers import trainer_optimizer
from transformers.integrations import integration_utils

from tailmoe.training import cli

RECIPE = """
title: SNNL-MoE
description: A run of seconds.
model: {model_type: snnl_moe, num_channels: 1, image_size: 28, hidden_sizes: [4, 8], depths: [1, 1], num_experts: 2}
data: {name: DATA}
training: {num_train_epochs: 1, learning_rate: 0.05, per_device_train_batch_size: 32, auto_augment: false}
"""
CHOOSE = ("training.load_best_model_at_end=true", "training.eval_strategy=epoch")
CHOOSE += ("data.name=fashion_mnist_lt", "data.validation_per_class=1")


@pytest.fixture
def told(tmp_path, fashion, capsys):
    """The one line that a training ends with, which leaves no folder."""
    for split in ("train", "test"):
        fashion[split].to_parquet(tmp_path / "data" / f"{split}.parquet")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("DATA", str(tmp_path / "data")))

    def run(*overrides):
        command = ["train", str(tmp_path / "recipe.yaml"), "--output-dir", str(tmp_path / "run"), "--set", *overrides]
        assert cli.main(command) == 2
        assert not (tmp_path / "run" / "recipe.yaml").exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["report_to=tensorboard"], "`training.report_to=tensorboard` of the recipe: .*install tensorboard"),
        (["report_to=loudspeaker"], "loudspeaker is not supported"),
        (["optim=adamw_8bit"], "`training.optim=adamw_8bit` of the recipe: .*pip install -U bitsandbytes"),
        (["optim=grokadamw"], "`training.optim=grokadamw` of the recipe: .*pip install grokadamw"),
        (["optim=adagrad", "optim_args=eps"], "`training.optim=adagrad` of the recipe: "),
        (["lr_scheduler_type=warmup_stable_decay"], "`lr_scheduler_kwargs` of the recipe: .*num_decay_steps"),
        (["lr_scheduler_kwargs={cycles: 3}"], "`lr_scheduler_kwargs` of the recipe: .*'cycles'"),
        (["dataloader_drop_last=true", "per_device_train_batch_size=999"], "`dataloader_drop_last` leaves nothing of"),
        (["dataloader_num_workers=1", "dataloader_multiprocessing_context=thread"], "dataloader_.*|multiprocessing_context"),
        (["log_level=loud"], "`log_level` must be one of .*, got loud"),
        (["per_device_train_batch_size=0"], "`per_device_train_batch_size` must be a whole number of at least 1, got 0"),
        (["gradient_accumulation_steps=1.5"], "`gradient_accumulation_steps` must be a whole number"),
        (["max_steps=1.5"], "`max_steps` must be a whole number of at least -1, got 1.5"),
        (["num_train_epochs=0"], "`num_train_epochs` must be above 0"),
        (["learning_rate=0"], "`learning_rate` must be above 0, got 0"),
        (["max_grad_norm=-1"], "`max_grad_norm` must be at least 0, got -1"),
        (["data_seed=x"], "`training.data_seed` must be a number, got x"),
        (["eval_strategy=steps", "eval_steps=x"], "`training.eval_steps` must be a number, got x"),
        (["save_strategy=steps", "save_steps=0"], "`save_steps` must be above 0"),
        (["ddp_backend=gloo"], "`ddp_backend` gloo connects several processes"),
        (["label_smoothing_factor=0.1"], "`label_smoothing_factor` must be 0.0, got 0.1: .*`mixup_alpha`"),
        (["neftune_noise_alpha=5"], "`neftune_noise_alpha` must be left out, got 5"),
        (["do_train=true"], "`training.do_train` is of a Trainer in a script"),
        (["hub_model_id=me/birds"], "`training.hub_model_id` .*`tailmoe push RUN REPO`"),
    ],
)  # fmt: skip
def test_an_argument_that_a_library_refuses_is_one_line_before_training(told, overrides, message, monkeypatch):
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    monkeypatch.setattr(trainer_optimizer, "is_bitsandbytes_available", lambda: False)
    assert re.search(message, told(*(f"training.{each}" for each in overrides)))


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_that_no_generator_takes_is_one_line(seed, tmp_path, capsys):
    assert cli.main(["train", "quickstart", "--seed", seed, "--output-dir", str(tmp_path / "run")]) == 2
    assert f"A seed must be a whole number from 0 to 2^32 - 1, got {seed}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "also"), [("many_accuracy", ("training.many_above=5000",)), ("f1", ()), ("accuracy", ("training.prediction_loss_only=true",))]
)  # fmt: skip
def test_a_metric_that_no_evaluation_gives_cannot_choose_the_model(told, metric, also):
    line = told(*CHOOSE, f"training.metric_for_best_model={metric}", *also)
    assert "`metric_for_best_model` must be one of" in line
    assert f"got {metric}" in line
