"""Several processes of a Trainer, as `accelerate launch` starts them: they end, and evaluate, as one process does."""

import json
import os
import runpy
import subprocess
import sys

import pytest
import torch

from tailmoe.training.trainer.arguments import LongTailTrainingArguments

# run by two processes, and alone: 64 images in batches of 16, whoever shares them
PROGRAM = """
import sys
import torch
from torch import nn
from tailmoe.modeling import *
from tailmoe.training import ICLObjective, LongTailTrainer, LongTailTrainingArguments, SNNLObjective
from tailmoe.training.data import load_long_tailed
from tailmoe.training.objectives import Objective

processes, folder = int(sys.argv[1]), sys.argv[2]
splits = load_long_tailed("fashion_mnist_lt")
labels = torch.tensor(splits["train"]["label"])
rows = torch.cat([torch.nonzero(labels == label)[: 7 if label < 4 else 6, 0] for label in range(10)]).tolist()
train, test = splits["train"].select(rows), splits["test"].select(range(0, 2000, 54))
COUNTS = torch.bincount(labels[rows]).tolist()
BACKBONE = {  # without batch normalisation
    "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 28, "patch_size": 7, "num_channels": 1,
}  # fmt: skip


class Scaled(Objective):
    "A parameter of the objective's own, in a loss of each process's images."

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def active_terms(self, progress):
        return ("nll",)

    def forward(self, outputs, labels, progress, active_terms=None):
        nll = nn.functional.cross_entropy(outputs.logits, labels)
        return {"nll": (-self.log_scale).exp() * nll + self.log_scale}


def trained(name, model, objective, **changes):
    processor = TailMoEImageProcessor(num_channels=1, size={"height": 28, "width": 28}, image_mean=[0.3], image_std=[0.35])
    arguments = {
        "output_dir": f"{folder}/{name}-{processes}", "per_device_train_batch_size": 16 // processes, "learning_rate": 0.01,
        "per_device_eval_batch_size": 16 // processes, "num_train_epochs": 2, "report_to": "none", "disable_tqdm": True,
        "save_strategy": "no", "cutout_size": 4, "seed": 3,
    }  # fmt: skip
    args = LongTailTrainingArguments(**arguments | changes)
    trainer = LongTailTrainer(model, args, train, test, processing_class=processor, objective=objective)
    assert trainer.args.world_size == processes
    trainer.train()
    sizes, measure = [], trainer.compute_metrics
    trainer.compute_metrics = lambda prediction: sizes.append(len(prediction.label_ids)) or measure(prediction)
    passes = []
    watch = trainer.model.register_forward_hook(lambda *_: passes.append(1))
    metrics = trainer.evaluate()
    watch.remove()
    assert sizes == [len(test)] == [38]
    assert len(passes) == 3, "one pass for each of the batches"
    trainer.args.prediction_loss_only = True
    assert abs(trainer.evaluate()["eval_loss"] - metrics["eval_loss"]) < 1e-5 * metrics["eval_loss"]
    state = {f"model {key}": value for key, value in trainer.model.state_dict().items()}
    state |= {f"objective {key}": value for key, value in objective.state_dict().items()}
    numbers = {key: torch.tensor(value) for key, value in metrics.items() if "second" not in key and "time" not in key}
    return {f"{name}: {key}": value.clone() for key, value in (state | numbers).items()}, args.process_index


torch.manual_seed(0)
common = {"num_labels": 10, "num_channels": 1, "image_size": 28, "class_counts": COUNTS}
config = ICLMoEConfig(backbone_config=BACKBONE, num_experts=2, **common)
found, index = trained("icl", ICLMoEForImageClassification(config), ICLObjective(config, contrast_from=0.5))
config = SNNLMoEConfig(backbone_config=BACKBONE, num_experts=2, **common)
learned = SNNLObjective(config, temperature_mode="learned")
found |= trained("snnl", SNNLMoEForImageClassification(config), learned, max_steps=2)[0]
found |= trained("scaled", SNNLMoEForImageClassification(config), Scaled(), max_steps=2)[0]
config = ICLMoEConfig(hidden_sizes=[4, 4, 8], depths=[1, 1, 1], num_experts=2, **common)
with_batch_norm = ICLMoEForImageClassification(config), ICLObjective(config)
found |= trained("batch norm", *with_batch_norm, max_steps=2, mixup_alpha=0.2)[0]
torch.save(found, f"{folder}/{processes}-{index}.pt")
"""
# without a graphics card; elsewhere `--num_processes 2` says all
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def accelerate_launch(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*ACCELERATE, *map(str, arguments)], env=environment, capture_output=True, text=True)


def test_processes_end_with_the_weights_and_metrics_of_one_process_with_the_same_batches(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = accelerate_launch(program, 2, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.setattr(sys, "argv", ["program.py", "1", str(tmp_path)])
    runpy.run_path(str(program))
    alone, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert alone.keys() == first.keys() == second.keys()
    assert {"icl: objective prototypes", "snnl: objective log_temperature", "scaled: objective log_scale"} <= set(
        alone
    )
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} differs between the processes"
        if not name.startswith("batch norm"):  # whose statistics are of each process's images
            torch.testing.assert_close(
                value, alone[name], rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_a_launcher_that_starts_one_process_where_several_were_asked_for_is_told(monkeypatch, tmp_path):
    for name, value in {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"`accelerate launch --cpu` started one process alone.*use torchrun"):
        LongTailTrainingArguments(output_dir=str(tmp_path))


@pytest.mark.slow
def test_accelerate_launches_the_command_line(tmp_path):
    values = ["training.num_train_epochs=2", "model.hidden_sizes=[4,4,8]", "training.per_device_train_batch_size=256"]
    overrides = [word for value in values for word in ("--set", value)]
    run = tmp_path / "run"
    done = accelerate_launch("-m", "tailmoe.training.cli", "train", "quickstart", "--output-dir", run, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("The run is in") == 1
    assert json.loads((run / "results.json").read_text())["dataset"]["num_test"] == 2000
