"""What goes wrong with a machine: the run ends with one line, keeps its last whole checkpoint, and resumes from it."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess

import pytest
import torch
from safetensors import SafetensorError
from transformers import TrainerCallback

from tailmoe.training import cli
from tailmoe.training.errors import BadInputError, FaultError
from tailmoe.training.faults import naming_faults
from tailmoe.training.trainer.checkpoints import MANIFEST_NAME, fault_of, last_complete_checkpoint


class At(TrainerCallback):
    """Does something after a step, once."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


@pytest.fixture
def tiny(make_trainer, icl):
    """Trainers of a run of ten steps, with a checkpoint after every fifth."""
    return functools.partial(make_trainer, *icl, num_train_epochs=2)


class FirstStep(TrainerCallback):
    """Knows the step that training began at."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.step = state.global_step


@pytest.fixture
def assert_resumes(tiny, tmp_path):
    """Resume the run in a folder, which must then end as one that was not interrupted."""

    def check(folder=tmp_path / "run", **changes):
        resumed = tiny(output_dir=str(folder), **changes)
        resumed.add_callback(first := FirstStep())
        resumed.train(resume_from_checkpoint=True)
        assert first.step > 0, "it began anew"
        whole = tiny(output_dir=str(tmp_path / "whole"))
        whole.train()
        expected = whole.model.state_dict()
        for name, value in resumed.model.state_dict().items():
            assert torch.equal(value, expected[name]), name

    return check


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def assert_one_line(error, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_process_that_is_killed_while_it_reads_images_is_told_and_the_run_resumes(
    tiny, tmp_path, monkeypatch, assert_resumes
):
    options = {"image_memory_share": 0.0, "dataloader_num_workers": 1, "save_strategy": "steps", "save_steps": 3}
    monkeypatch.setattr("tailmoe.training.trainer.batches.AUGMENTED_AT_ONCE", 1)  # no batch ahead of its step
    trainer = tiny(**options)
    read, read_before = trainer.train_dataset.__getitems__, []

    def read_or_die(indices):
        if (
            trainer.state.global_step == 5 and len(read_before) == 4
        ):  # as the process sees it, which starts with an epoch
            os.kill(os.getpid(), signal.SIGKILL)
        read_before.append(indices)
        return read(indices)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.train_dataset, "__getitems__", read_or_die, raising=False)
        with pytest.raises(FaultError) as error, naming_faults(tmp_path / "run"):
            trainer.train()
    # torch tells of the process, or that the connection to it broke, whichever it notices first
    assert_one_line(error, "`dataloader_num_workers`", "MB are free", "--resume continues")
    assert trainer.state.global_step % 5, "in the middle of an epoch"
    assert checkpoints(tmp_path / "run") == ["checkpoint-6"]
    assert_resumes(**options)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed."),
            "DataLoader worker (pid 1) is killed",
        ),
        (RuntimeError("[gloo/pair.cc:553] Connection closed by peer\n[127.0.0.1]:6032."), "by peer [127.0.0.1]:6032."),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer."),
        (EOFError(), "EOFError."),
        (SafetensorError("I/O error: No space left on device"), "No space left on device."),
    ],
)
def test_what_fails_of_a_machine_is_one_line_with_what_remains(error, told, tmp_path):
    with pytest.raises(FaultError) as found, naming_faults(tmp_path):
        raise error
    assert_one_line(
        found, told, "If the memory was full", "MB are free", "The last whole checkpoint is kept: --resume"
    )
    with pytest.raises(FaultError) as found, naming_faults():
        raise error
    assert "--resume" not in str(found.value), "nothing is trained"


@pytest.mark.parametrize("error", [BadInputError("no such class"), FaultError("the disk is full"), KeyError("label")])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as found, naming_faults():
        raise error
    assert found.value is error


@pytest.mark.parametrize("what", ["optimizer", "state"])
def test_a_disk_that_is_full_while_a_checkpoint_is_written_leaves_the_one_before(tiny, tmp_path, monkeypatch, what):
    trainer = tiny()
    owner = {"optimizer": (trainer, "_save_optimizer_and_scheduler"), "state": (type(trainer.state), "save_to_json")}
    write = getattr(*owner[what])

    def fill(*args, **kwargs):
        if trainer.state.global_step == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*args, **kwargs)

    monkeypatch.setattr(*owner[what], fill)
    with pytest.raises(FaultError) as error:
        trainer.train()
    assert_one_line(error, "checkpoint-10 cannot be written", "No space left on device", "MB are free", "make room")
    assert checkpoints(tmp_path / "run") == ["checkpoint-5"]
    assert fault_of(tmp_path / "run" / "checkpoint-5") is None


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 4 MB, and what leaves so many bytes of it free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder, lambda left: (folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free - left))
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # weights may still be mapped


@pytest.mark.parametrize("left", [0, 80_000])
def test_a_small_disk_fills_and_the_run_resumes_after_room_was_made(tiny, small_disk, assert_resumes, left):
    folder, leave = small_disk
    with pytest.raises(FaultError) as error:
        tiny(callbacks=[At(6, lambda: leave(left))], output_dir=str(folder / "run")).train()
    assert_one_line(error, "checkpoint-10 cannot be written", "make room")
    assert checkpoints(folder / "run") == ["checkpoint-5"]
    assert fault_of(folder / "run" / "checkpoint-5") is None
    (folder / "filler").unlink()
    if left:
        assert_resumes(folder / "run")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    place = content.index(b"momentum_buffer") + 4000 if path.name == "optimizer.pt" else len(content) // 2
    content[place] ^= 1
    path.write_bytes(content)


HARMS = [
    ("model.safetensors", truncate),
    ("model.safetensors", zero),
    ("optimizer.pt", zero),
    ("optimizer.pt", truncate),
    ("optimizer.pt", flip),
    ("scheduler.pt", zero),
    ("objective.safetensors", os.remove),
    ("rng_state.pth", os.remove),
    ("trainer_state.json", truncate),
    (MANIFEST_NAME, truncate),
]


def test_a_damaged_checkpoint_is_named_or_passed_over(tiny, tmp_path, assert_resumes, caplog):
    trainer, run, alone = tiny(save_total_limit=None), tmp_path / "run", tmp_path / "alone" / "checkpoint-10"
    trainer.train()
    for name, harm in HARMS:
        shutil.copytree(run / "checkpoint-10", alone)
        assert last_complete_checkpoint(alone.parent) == str(alone)
        harm(alone / name)
        fault = f"{name} is {'missing' if harm is os.remove else 'damaged'}"
        with pytest.raises(BadInputError) as error:
            last_complete_checkpoint(alone.parent)
        assert_one_line(error, f"{alone} cannot be resumed: {fault}", "no whole checkpoint", "Delete it to start anew")
        with pytest.raises(BadInputError, match=f"checkpoint-10 cannot be resumed: {fault}. Give another"):
            trainer.train(resume_from_checkpoint=str(alone))
        shutil.rmtree(alone)
    truncate(run / "checkpoint-10" / "optimizer.pt")
    assert_resumes()
    assert "checkpoint-10: optimizer.pt is damaged" in caplog.text


@pytest.mark.parametrize("how", ["save_only_model", "another Trainer"])
def test_a_checkpoint_that_tells_nothing_of_itself_is_not_resumed(tiny, tmp_path, how):
    tiny(save_only_model=how == "save_only_model", max_steps=5).train()
    if how == "another Trainer":
        (tmp_path / "run" / "checkpoint-5" / MANIFEST_NAME).unlink()
    with pytest.raises(BadInputError) as error:
        tiny().train(resume_from_checkpoint=True)
    assert_one_line(error, "checkpoint-5 cannot be resumed: manifest.json is missing", how)


def test_images_that_changed_since_the_checkpoint_are_refused_with_what_changed(tiny, fashion, tmp_path):
    tiny(max_steps=5).train()
    train = fashion["train"]
    renamed = tiny()
    renamed.model.config.id2label = {index: f"class {index}" for index in range(10)}
    for trainer, words in [
        (
            tiny(train=train.select([*range(len(train)), 0])),
            f"`num_train` was {len(train)}, now it is {len(train) + 1}",
        ),
        (tiny(train=train.select(range(len(train) - 1, -1, -1))), "`labels` was"),
        (renamed, "`label_names[0]` was T-shirt/top, now it is class 0"),
    ]:
        with pytest.raises(BadInputError) as error:
            trainer.train(resume_from_checkpoint=True)
        assert_one_line(error, "The images have changed since", "checkpoint-5 was written", words, "as they were")


def test_a_checkpoint_of_another_objective_is_refused(tiny, make_trainer, icl):
    tiny(max_steps=5).train()
    with pytest.raises(BadInputError) as error:
        make_trainer(icl[0]).train(resume_from_checkpoint=True)
    assert_one_line(error, "checkpoint-5 was written with another objective: resume with the same")


RECIPE = """
title: ICL-MoE
description: A run of seconds.
model: {model_type: icl_moe, num_channels: 1, image_size: 28, hidden_sizes: [4, 4, 8], depths: [1, 1, 1], num_experts: 2}
data: {name: DATA}
training: {num_train_epochs: 1, learning_rate: 0.05, per_device_train_batch_size: 32, auto_augment: false}
objective: {type: icl}
baseline: {title: cross-entropy, description: Without experts., objective: null}
"""


@pytest.fixture
def train_command(tmp_path, fashion, capsys):
    """`tailmoe train` on files; gives the status and what it said last."""
    data, recipe = tmp_path / "data", tmp_path / "tiny.yaml"
    data.mkdir()
    for split in ("train", "test"):
        fashion[split].to_parquet(data / f"{split}.parquet")
    recipe.write_text(RECIPE.replace("DATA", str(data)))

    def run(*arguments):
        status = cli.main(["train", str(recipe), "--output-dir", str(tmp_path / "run"), *arguments])
        return status, capsys.readouterr().err.strip().rpartition("\n")[2]

    return run


def test_the_command_line_tells_of_a_full_disk_and_of_changed_images_in_one_line(
    train_command, tmp_path, monkeypatch, fashion
):
    def fill(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results.json")

    monkeypatch.setattr("tailmoe.training.run.write_figures", lambda *args: None)  # they take long
    monkeypatch.setattr("tailmoe.training.run.write_model_figures", fill)
    status, said = train_command()
    assert (status, said) == (1, "tailmoe: [Errno 28] No space left on device: 'results.json'")
    assert json.loads((tmp_path / "run/baseline/checkpoint-5/trainer_state.json").read_text())["global_step"] == 5
    monkeypatch.setattr("tailmoe.training.run.write_model_figures", lambda *args: None)
    changed = fashion["train"].select([*range(len(fashion["train"])), 0])
    changed.to_parquet(tmp_path / "data" / "train.parquet")
    status, said = train_command("--resume")
    assert status == 2
    assert said.startswith("tailmoe: The images have changed since")
    fashion["train"].to_parquet(tmp_path / "data" / "train.parquet")
    truncate(tmp_path / "run" / "baseline" / "checkpoint-5" / "model.safetensors")
    status, said = train_command("--resume")
    assert status == 2
    assert "model.safetensors is damaged" in said
    shutil.rmtree(tmp_path / "run" / "baseline" / "checkpoint-5")
    assert train_command("--resume")[0] == 0
    (tmp_path / "run" / "results.json").unlink()
    fashion["test"].select(range(40)).to_parquet(tmp_path / "data" / "test.parquet")
    status, said = train_command("--resume")
    assert status == 2
    assert f"baseline was written: `num_test` was {len(fashion['test'])}, now it is 40" in said
