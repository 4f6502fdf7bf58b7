"""Studies: several recipes and seeds, each training a process of its own, stopped and continued."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch
import yaml
from made_up import made_up_run

from tailmoe.training import cli
from tailmoe.training.data.lazy_images import available_cores
from tailmoe.training.recipe import load_recipe
from tailmoe.training.studies.status_lines import status_lines
from tailmoe.training.trainer.epoch_lines import duration

TAILMOE = str(Path(sys.executable).with_name("tailmoe"))


@pytest.fixture
def recipes(recipe, tmp_path):
    """The tiny recipe as `both.yaml`, and its baseline as a recipe of its own, `plain.yaml`."""
    content = yaml.safe_load(Path(recipe).read_text())
    content["training"]["num_train_epochs"] = 1
    plain = content | {key: content["baseline"][key] for key in ("title", "description", "objective")}
    plain["model"] = content["model"] | content["baseline"]["model"]
    del plain["baseline"]
    for name, each in (("both", content), ("plain", plain)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(each))
    return [str(tmp_path / "both.yaml"), str(tmp_path / "plain.yaml")]


def study(*words):
    return cli.main(["study", *map(str, words)])


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_same_weights(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_a_study_of_two_recipes_trains_their_common_baseline_once_and_keeps_what_is_finished(
    recipes, tmp_path, capsys
):
    words = [*recipes, "--seeds", "0,1", "--jobs", 2, "--output-dir", tmp_path / "out", "--json", tmp_path / "json"]
    assert study(*words) == 0
    table = capsys.readouterr().out
    assert re.search(r"ICL-MoE +both .*\ncross-entropy +plain ", table)
    assert table.count("cross-entropy") == 1
    both, plain = (json.loads((tmp_path / "json" / f"{name}.json").read_text()) for name in ("both", "plain"))
    accuracies = [run["metrics"]["accuracy"] for run in both["runs"]]
    assert both["metrics"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert both["metrics"]["accuracy"]["std"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert both["runs"][0]["metrics"]["per_class_accuracy"]
    assert "confusion_matrix" not in both["runs"][0]["metrics"], "the file grows with the square of the classes"
    assert both["baseline"]["metrics"] == plain["metrics"]
    assert "Training plain" in (tmp_path / "out" / "plain-study" / "seed-1.log").read_text()
    assert "baseline" not in (tmp_path / "out" / "both-study" / "seed-1.log").read_text(), "it was trained again"
    run = tmp_path / "out" / "both-study" / "seed-0"
    assert_same_weights(run / "baseline", tmp_path / "out" / "plain-study" / "seed-0")
    written = (run / "results.json").stat().st_mtime_ns
    assert study(*words) == 0
    assert study(*words[:1], *words[2:6], "--output-dir", tmp_path / "out" / "both-study") == 0, "by itself"
    assert (run / "results.json").stat().st_mtime_ns == written


def test_a_training_that_fails_leaves_the_others_and_is_told_with_its_reason(recipes, tmp_path, capsys):
    content = yaml.safe_load(Path(recipes[1]).read_text())
    content["training"]["learning_rate"] = 1e30
    (tmp_path / "wild.yaml").write_text(yaml.safe_dump(content))
    words = [tmp_path / "wild.yaml", recipes[1], "--seeds", 0, "--output-dir", tmp_path, "--json", tmp_path / "json"]
    assert study(*words) == 1
    assert re.match(r"tailmoe: wild-study/seed-0 failed: Loss term `model_loss` is (nan|inf)", last_line(capsys))
    assert [path.name for path in (tmp_path / "json").iterdir()] == ["plain.json"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.temperature=-1", "`objective` of the recipe: `num_hard_negatives`"),
        ("model.num_experts=0", "`model` of the recipe: `num_experts` must be at least 1, got 0"),
        ("training.warmup_steps=-1", "`training` of the recipe: "),
        ("training.crop_padding=-1", "`training` of the recipe: `crop_padding`"),
        ("baseline.model.classifier=round", "`model` of the recipe: "),
    ],
)
def test_a_wrong_value_is_told_before_anything_is_written(recipes, tmp_path, capsys, override, message):
    assert study(recipes[0], "--seeds", "0..1", "--output-dir", tmp_path / "out", "--set", override) == 2
    assert last_line(capsys).startswith(f"tailmoe: {message}")
    assert not (tmp_path / "out").exists()


def test_a_value_that_only_training_finds_wrong_is_bad_input(recipes, tmp_path, capsys):
    words = [recipes[0], "--no-baseline", "--seeds", 0, "--output-dir", tmp_path / "out"]
    assert study(*words, "--set", "training.optim=adagrad", "training.optim_args=eps") == 2
    assert "seed-0 failed: `training.optim=adagrad` of the recipe: " in last_line(capsys)


def test_at_the_time_limit_what_is_left_is_told(recipes, tmp_path, capsys):
    words = [recipes[0], "--seeds", 0, "--output-dir", tmp_path / "out", "--set", "training.num_train_epochs=500"]
    assert study(*words, "--time-limit", "1s") == 124
    message = last_line(capsys)
    assert re.search(r"Time limit reached: 0 of 2 trainings are finished; left are out/seed-0/baseline \(", message)
    assert "out/seed-0 (not begun)" in message
    assert message.endswith("Repeat the command to go on.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], r"`--jobs` must be at least 1 and at most the \d+ cores, got 0"),
        (["--jobs", str(available_cores() + 1)], r"`--jobs` must be at least 1 .* got \d+"),
        (["not-a-recipe"], "There is no recipe `not-a-recipe`"),
        (["--json", "all.json"], "`--json` must be a folder where there are several recipes, got all.json"),
        (["REPEATED"], "Recipe `both` is given twice"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_trained(recipes, tmp_path, capsys, words, message):
    words = [recipes[0] if word == "REPEATED" else word for word in words]
    assert study(*recipes, *words, "--output-dir", tmp_path / "out") == 2
    assert re.search(message, last_line(capsys))
    assert not (tmp_path / "out").exists()


def test_a_study_goes_on_at_its_commit_alone(recipes, tmp_path, capsys):
    (tmp_path / "out" / "seed-0").mkdir(parents=True)
    written = {"name": "plain", "seed": 0, **load_recipe(recipes[1]).to_dict()}
    (tmp_path / "out" / "seed-0" / "recipe.yaml").write_text(yaml.safe_dump(written))
    made_up_run(commit="abc").save(tmp_path / "out" / "seed-0" / "results.json")
    assert study(recipes[1], "--seeds", "0,1", "--output-dir", tmp_path / "out") == 2
    assert "seed-0 was trained at commit abc, and this is" in last_line(capsys)


def test_a_study_that_torchrun_starts_several_times_is_refused(recipes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert study(*recipes, "--output-dir", tmp_path / "out") == 2
    assert "`tailmoe study` starts processes itself" in last_line(capsys)


@pytest.mark.parametrize("text", ["soon", "2h30", "-1h", "0m", "1.5h", "30m2h", ""])
def test_a_time_limit_that_is_no_time_is_refused(text, capsys):
    assert study("quickstart", f"--time-limit={text}") == 2
    assert "a time must look like 2h30m, 45m or 1d12h" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["a", "3..1", "1,1", "-1", ""])
def test_seeds_that_make_no_sense_are_refused(seeds, capsys):
    assert study("quickstart", f"--seeds={seeds}") == 2
    assert "seeds must look like 0..4 or 0,3,7" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused_and_stays_as_it_is(recipes, tmp_path, capsys):
    folder = tmp_path / "out" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: other\nseed: 0\n")
    assert study(recipes[1], "--seeds", "0", "--output-dir", tmp_path / "out") == 2
    assert "was started with another `name` (other, now plain)" in last_line(capsys)
    assert [path.name for path in folder.iterdir()] == ["recipe.yaml"]


@pytest.mark.slow
def test_a_study_in_pieces_of_time_ends_as_one_without_limit(recipes, tmp_path):
    words = [recipes[0], "--seeds", "0,1", "--jobs", 2, "--set", "training.num_train_epochs=20"]
    assert study(*words, "--output-dir", tmp_path / "whole") == 0
    pieces, status = 0, 124
    while status == 124:  # each piece is longer: evaluation is not resumed half-way
        pieces += 1
        status = study(*words, "--output-dir", tmp_path / "pieces", "--time-limit", f"{6 + 3 * pieces}s")
    assert status == 0
    assert pieces > 1
    for run in ("seed-0", "seed-1", "seed-0/baseline"):
        assert_same_weights(tmp_path / "whole" / run, tmp_path / "pieces" / run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_trainings_of_a_command_that_is_stopped_or_killed_save_and_end(tmp_path, recipe, number):
    words = [TAILMOE, "study", recipe, "--seeds", "0,1", "--jobs", "2", "--no-baseline", "--output-dir", str(tmp_path)]
    words += ["--set", "training.num_train_epochs=500", "training.save_strategy='no'"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ)
    logs = [tmp_path / f"seed-{seed}.log" for seed in (0, 1)]
    until = time.monotonic() + 300
    while not all(log.exists() and "epoch   1/500" in log.read_text() for log in logs):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive
    for seed in (0, 1):
        assert list((tmp_path / f"seed-{seed}").glob("checkpoint-*/trainer_state.json"))
    if number != signal.SIGKILL:
        assert "a checkpoint was saved" in process.stderr.read()


def test_a_line_of_a_training_is_written_now_and_then_where_it_cannot_be_redrawn(capsys):
    with status_lines(2) as lines:
        for line in ("epoch 1/9", "epoch 1/9", "epoch 2/9"):
            lines.show("mine/seed-0", line)
        lines.show("mine/seed-1", "epoch 3/9")
    assert capsys.readouterr().err.splitlines() == ["mine/seed-0  epoch 1/9", "mine/seed-1  epoch 3/9"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45s"), (59.7, "1m"), (720, "12m"), (7500, "2h05m"), (273_600, "3d04h")]
)
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words
