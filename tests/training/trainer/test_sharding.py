"""FSDP: refused where it could not be, and where it can, the weights and files of a run that is not sharded."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageClassification, ViTConfig

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification, SNNLMoEConfig, SNNLMoEForImageClassification
from tailmoe.training import ICLObjective
from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.checkpoints import fault_of
from tailmoe.training.trainer.sharding import check_sharding

VIT = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 28, "patch_size": 7,
}  # fmt: skip
COMMON = {"num_labels": 10, "image_size": 28}
# accelerate shards on accelerators alone; torch's FSDP2 itself runs on a CPU, once accelerate believes that it is one
PROGRAM = """
import os, sys
from accelerate import DistributedType
from tailmoe.training import LongTailTrainer, LongTailTrainingArguments, cli

check = LongTailTrainingArguments.__post_init__

def as_on_accelerators(self):
    check(self)
    assert self.device.type == "cpu"
    self.distributed_state.distributed_type = DistributedType.MULTI_GPU if self.fsdp else DistributedType.MULTI_CPU

LongTailTrainingArguments.__post_init__ = as_on_accelerators
step = LongTailTrainer.training_step

def stopping(self, *args, **kwargs):
    if self.state.global_step == int(os.environ["STOP_AT"]):
        raise KeyboardInterrupt
    return step(self, *args, **kwargs)

LongTailTrainer.training_step = stopping
sys.exit(cli.main())
"""


def test_what_fsdp_keeps_whole_is_the_backbones_and_there():
    for config_class, model_class in (
        (ICLMoEConfig, ICLMoEForImageClassification),
        (SNNLMoEConfig, SNNLMoEForImageClassification),
    ):
        model = model_class(config_class(backbone_config={"model_type": "vit", **VIT}, num_experts=2, **COMMON))
        assert model._no_split_modules == {"ViTEmbeddings", "ViTLayer"}
        assert model.get_input_embeddings() is None
    assert ICLMoEForImageClassification(ICLMoEConfig(**COMMON))._no_split_modules == {"ResidualBlock"}


def test_fsdp_without_several_accelerators_is_refused(make_trainer, icl, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(BadInputError, match="`fsdp` spreads weights over several accelerators, there is 1 cpu"):
        make_trainer(*icl)
    with pytest.raises(ValueError, match="Using fsdp only works in distributed training"):
        make_trainer(*icl, fsdp=True)


class ShardingTrainer:
    """As far as `check_sharding` looks at one."""

    is_fsdp_enabled = True

    def __init__(self, args, version=2, kind="FULL_STATE_DICT"):
        self.args, self.accelerator = args, self
        self.state = self
        self.fsdp_plugin = type("Plugin", (), {"fsdp_version": version, "state_dict_type": f"StateDictType.{kind}"})


def test_what_does_not_go_with_fsdp_is_refused(make_trainer, icl, snnl):
    def check(objective=None, version=2, kind="FULL_STATE_DICT", **changes):
        args = make_trainer(*icl, **changes).args
        args.fsdp = True
        check_sharding(ShardingTrainer(args, version, kind), objective)

    check(ICLObjective(icl[0].config))
    with pytest.raises(
        BadInputError, match=r"`fsdp` does not go with an objective's decoupled stage \(`balanced_heads: decoupled`\)"
    ):
        check(icl[1])
    with pytest.raises(BadInputError, match=r"`fsdp` must be of version 2 .* got version 1"):
        check(version=1)
    with pytest.raises(BadInputError, match="got version 2 with SHARDED_STATE_DICT"):
        check(kind="SHARDED_STATE_DICT")
    with pytest.raises(BadInputError, match="`fsdp` does not go with `lora_rank`"):
        check(lora_rank=2)
    with pytest.raises(BadInputError, match="`fsdp` does not go with parameters of the objective"):
        check(snnl[1])


RECIPE = """
title: ICL-MoE
description: A run of seconds.
model: {model_type: icl_moe, backbone: BACKBONE, image_size: 28, num_experts: 2}
data: {name: DATA}
training:
  {max_steps: 6, learning_rate: 0.01, max_grad_norm: 1.0, per_device_train_batch_size: 16, auto_augment: false,
   save_strategy: steps, save_steps: 4}
objective: {type: icl, contrast_from: 0.5}
"""


@pytest.mark.slow
def test_a_sharded_run_resumes_and_ends_with_the_weights_and_files_of_one_that_is_not(tmp_path, fashion):
    backbone, data, recipe = tmp_path / "vit", tmp_path / "data", tmp_path / "tiny.yaml"
    torch.manual_seed(0)
    AutoModel.from_config(ViTConfig(**VIT)).save_pretrained(backbone)
    data.mkdir()
    for split in ("train", "test"):
        fashion[split].to_parquet(data / f"{split}.parquet")
    recipe.write_text(RECIPE.replace("DATA", str(data)).replace("BACKBONE", str(backbone)))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def train(name, *arguments, stop_at=-1):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
        command = [*launch, "train", str(recipe), "--output-dir", str(tmp_path / name), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "STOP_AT": str(stop_at)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode == 0) == (stop_at < 0), done.stdout + done.stderr

    train("plain")
    sharded = ("--set", "training.fsdp=true")
    train("sharded", *sharded, stop_at=5)
    assert (tmp_path / "sharded" / "checkpoint-4" / "pytorch_model_fsdp.bin").exists()
    assert fault_of(tmp_path / "sharded" / "checkpoint-4") is None
    train("sharded", *sharded, "--resume")
    plain, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "sharded"))
    assert plain.keys() == whole.keys()
    for name, value in plain.items():
        torch.testing.assert_close(whole[name], value, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    assert (tmp_path / "sharded" / "modeling_icl_moe.py").exists()
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "sharded")
    assert loaded.config.architectures == ["ICLMoEForImageClassification"]
