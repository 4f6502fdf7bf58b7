"""The command line, used as a user does: real images, real files, wrong input, kill and resume."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from tailmoe.training import cli
from tailmoe.training.cli_parser import build_parser
from tailmoe.training.confusion import confusion_array

TINY = """
title: ICL-MoE
description: A run of seconds.
model: {model_type: icl_moe, num_channels: 1, image_size: 28, hidden_sizes: [4, 4, 8], depths: [1, 1, 1], num_experts: 2}
data: {name: DATA}
training: {num_train_epochs: 4, learning_rate: 0.05, per_device_train_batch_size: 32, auto_augment: false}
objective: {type: icl, balanced_heads: last}
baseline:
  title: cross-entropy
  description: One network, plain cross-entropy.
  model: {num_experts: 1, shallow_fusion: false, classifier: linear, balanced_heads: false}
  objective: null
"""


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


@pytest.fixture(scope="session")
def run(tmp_path_factory, recipe):
    """A finished run, with its baseline."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["train", recipe, "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def image_file(tmp_path, fashion):
    path = tmp_path / "shoe.png"
    fashion["test"][0]["image"].save(path)
    return path


def test_set_takes_several_keys_at_once_and_may_be_repeated():
    arguments = build_parser().parse_args(
        ["train", "finetune", "--set", "a.b=1", "c.d=2", "--set", "e.f=3", "--resume"]
    )
    assert arguments.overrides == ["a.b=1", "c.d=2", "e.f=3"]
    assert arguments.recipe == "finetune"


def fails(capsys, *arguments):
    """Run a command that must fail as bad input does: status 2, one line; return the line."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("tailmoe: ")
    return message


# train


def test_a_run_is_a_folder_with_weights_results_card_and_figures(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    code = {
        "configuration_icl_moe.py",
        "modeling_icl_moe.py",
        "backbone.py",
        "early_exit.py",
        "label_prior.py",
        "layers.py",
        "modeling_tailmoe.py",
        "validation.py",
        "image_processing_tailmoe.py",
    }
    weights = {"model.safetensors", "config.json", "preprocessor_config.json"}
    report = {"README.md", "results.json", "recipe.yaml"}
    figures = {"accuracy_per_class", "confusion", "reliability", "features", "grad_cam"}
    parts = code | weights | report | {f"figures/{name}.png" for name in figures}
    assert names == parts | {f"baseline/{name}" for name in parts} | {"figures/expert_agreement.png"}


def test_results_hold_what_is_needed_to_repeat_and_to_judge_them(run):
    results = json.loads((run / "results.json").read_text())
    assert results["seed"] == 0
    assert results["train_seconds"] > 0
    assert results["versions"]["torch"] == torch.__version__
    assert results["hardware"]["cores"] >= 1
    assert {"command", "commit", "date", "peak_memory_gb"} <= set(results)
    assert results["dataset"]["num_test"] == confusion_array(results["metrics"]["confusion_matrix"]).sum()
    assert len(results["metrics"]["per_class_accuracy"]) == 10
    assert len(results["metrics"]["expert_accuracy"]) == 2
    assert results["baseline"]["metrics"]["ece"] != results["metrics"]["ece"]
    assert results["baseline"]["num_parameters"] < results["num_parameters"]
    config = json.loads((run / "config.json").read_text())
    assert config["class_counts"] == results["dataset"]["class_counts"]
    assert config["id2label"]["9"] == "Ankle boot"


def test_a_finished_run_is_not_trained_again_and_never_overwritten_unasked(run, recipe, capsys):
    before = (run / "results.json").read_text()
    assert "--resume" in fails(capsys, "train", recipe, "--output-dir", run)
    assert cli.main(["train", recipe, "--output-dir", str(run), "--resume"]) == 0
    assert "ICL-MoE" in capsys.readouterr().out
    assert (run / "results.json").read_text() == before


def test_a_run_is_not_resumed_with_another_recipe_or_seed(run, recipe, capsys):
    arguments = ("train", recipe, "--output-dir", run, "--resume")
    assert "another `seed` (0, now 1)" in fails(capsys, *arguments, "--seed", "1")
    assert "another `training`" in fails(capsys, *arguments, "--set", "training.momentum=0.8")


def test_a_folder_with_other_files_is_left_alone(tmp_path, recipe, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds no run" in fails(capsys, "train", recipe, "--output-dir", tmp_path, "--overwrite")
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_experts=0", "`model` of the recipe: `num_experts` must be at least 1, got 0"),
        ("model.num_experts=three", "`model` of the recipe: .*num_experts.*expected int, got str"),
        ("objective.temperature=0", "`objective` of the recipe: .*`temperature` above 0"),
        ("training.mixup_alpha=-1", "`training` of the recipe: `mixup_alpha` must be at least 0, got -1"),
        ("training.lr_scheduler_type=zigzag", "`training` of the recipe: .*zigzag"),
        ("training.crop_padding=-1", "crop_padding"),
        ("data.name=no/such/data", "`no/such/data` cannot be loaded"),
        ("data.imbalance_factor=0.5", "`imbalance_factor` must be at least 1, got 0.5"),
        ("data.selection=best", "`selection`"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(tmp_path, recipe, capsys, override, message):
    import re

    extra = ["--set", "data.imbalance_factor=2"] if override.startswith("data.selection") else []
    line = fails(capsys, "train", recipe, "--output-dir", tmp_path / "run", "--set", override, *extra)
    assert re.search(message, line), line


def command(*arguments):
    return [sys.executable, "-m", "tailmoe.training.cli", *map(str, arguments)]


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "the run did not get that far"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "stage"),
    [(signal.SIGINT, "."), (signal.SIGTERM, "."), (signal.SIGKILL, "."), (signal.SIGKILL, "baseline")],
)
def test_an_interrupted_run_resumes_and_ends_bit_identical(tmp_path, recipe, run, number, stage):
    folder = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    train = command("train", recipe, "--output-dir", folder, "--set", "training.save_steps=3")
    train += ["--set", "training.save_strategy=steps"]
    process = subprocess.Popen(train, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    wait_for(lambda: list((folder / stage).glob("checkpoint-*/trainer_state.json")), process)
    process.send_signal(number)
    status = process.wait(timeout=60)
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    assert not (folder / "results.json").exists()
    resumed = subprocess.run([*train, "--resume"], capture_output=True, text=True, env=environment)
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = (safetensors.torch.load_file(each / "model.safetensors") for each in (folder, run))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    results = json.loads((folder / "results.json").read_text())
    interrupted = results if stage == "." else results["baseline"]
    assert interrupted["train_seconds"] is None  # not measured from the start
    assert results["metrics"] == json.loads((run / "results.json").read_text())["metrics"]


def test_a_loss_that_is_not_finite_ends_with_status_1_and_one_line(tmp_path, recipe, capsys):
    arguments = ["train", recipe, "--output-dir", str(tmp_path / "run"), "--set", "training.learning_rate=1e30"]
    assert cli.main(arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Loss term" in message
    assert "at step" in message


# evaluate and predict


def test_evaluate_repeats_the_results_of_the_run(run, tmp_path, capsys):
    assert cli.main(["evaluate", str(run), "--json", str(tmp_path / "metrics.json")]) == 0
    results = json.loads((run / "results.json").read_text())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics.pop("shot_bounds") == results["dataset"]["shot_bounds"]
    assert_same_metrics(metrics, results["metrics"])
    assert "few-shot (< 3)" in capsys.readouterr().out, "no class has more than 100 images"


def assert_same_metrics(ours, theirs):
    """Of a fused model: the same up to rounding."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_onnx_runtime_evaluates_and_predicts_the_same(run, image_file, tmp_path, capsys):
    answers = {}
    for backend in ("torch", "onnx"):
        files = [tmp_path / f"{backend}-{command}.json" for command in ("evaluate", "predict")]
        assert cli.main(["evaluate", str(run), "--backend", backend, "--json", str(files[0])]) == 0
        assert cli.main(["predict", str(run), str(image_file), "--backend", backend, "--json", str(files[1])]) == 0
        answers[backend] = [json.loads(file.read_text()) for file in files]
    assert_same_metrics(answers["onnx"][0], answers["torch"][0])
    (ours,), (theirs,) = answers["onnx"][1], answers["torch"][1]
    assert [label["label"] for label in ours["labels"]] == [label["label"] for label in theirs["labels"]]
    assert len(ours["experts"]) == len(theirs["experts"])


def test_many_images_are_predicted_in_batches_as_each_alone(run, tmp_path, fashion, capsys):
    paths = [tmp_path / f"{index}.png" for index in range(40)]
    for path, row in zip(paths, fashion["test"].select(range(40)), strict=True):
        row["image"].save(path)
    assert cli.main(["predict", str(run), *map(str, paths), "--json", str(tmp_path / "all.json")]) == 0
    assert cli.main(["predict", str(run), str(paths[37]), "--json", str(tmp_path / "one.json")]) == 0
    together, (alone,) = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("all", "one"))
    assert [prediction["path"] for prediction in together] == list(map(str, paths))
    assert together[37]["labels"][0]["label"] == alone["labels"][0]["label"]
    assert together[37]["labels"][0]["probability"] == pytest.approx(alone["labels"][0]["probability"], abs=1e-5)


def test_evaluate_finds_classes_by_name_in_a_folder_of_images(run, tmp_path, fashion, capsys):
    names = fashion["test"].features["label"].names
    for split in ("train", "test"):
        for index, row in enumerate(fashion["test"].select(range(20))):
            folder = tmp_path / split / names[row["label"]].replace("/", "_")
            folder.mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / f"{index}.png")
    message = fails(capsys, "evaluate", run, "--data", tmp_path)
    assert "Class `T-shirt_top` of the data is unknown" in message
    for split in ("train", "test"):
        for path in (tmp_path / split / "T-shirt_top").glob("*"):
            path.unlink()
        (tmp_path / split / "T-shirt_top").rmdir()
    assert cli.main(["evaluate", str(run), "--data", str(tmp_path)]) == 0


def test_predict_shows_labels_training_counts_and_each_experts_view(run, image_file, tmp_path, capsys):
    assert cli.main(["predict", str(run), str(image_file), "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    (prediction,) = json.loads((tmp_path / "out.json").read_text())
    assert prediction["labels"][0]["label"] in shown
    assert "training images" in shown
    assert "expert 2: " in shown
    assert len(prediction["labels"]) == 3
    assert prediction["labels"][0]["probability"] >= prediction["labels"][1]["probability"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"words, not pixels", "not an image"),
        (b"", "not an image"),
        ("truncated", "truncated"),
    ],
)
def test_a_file_that_is_no_image_is_named(run, image_file, tmp_path, capsys, content, message):
    path = tmp_path / "bad.png"
    if content == "truncated":
        path.write_bytes(image_file.read_bytes()[:-200])
    elif content is not None:
        path.write_bytes(content)
    line = fails(capsys, "predict", run, image_file, path)
    assert f"`{path}` cannot be read as an image" in line
    assert message in line


def test_images_of_any_mode_are_predicted(run, image_file, tmp_path):
    for mode in ("RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"):
        image = Image.open(image_file).convert("I") if mode == "I;16" else Image.open(image_file).convert(mode)
        path = tmp_path / f"{mode.replace(';', '')}.tiff"
        image.save(path)
        assert cli.main(["predict", str(run), str(path)]) == 0


def test_a_folder_that_is_not_a_model_is_named(tmp_path, image_file, capsys):
    assert f"`{tmp_path}` is not a model: it holds no config.json" in fails(capsys, "predict", tmp_path, image_file)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "cannot be loaded as an image classification model" in fails(
        capsys, "evaluate", tmp_path, "--data", "mnist"
    )


def test_the_demo_shows_the_pair_that_ships_a_runs_own_baseline_or_what_is_asked(monkeypatch, tmp_path):
    served = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: served.append(environment))
    monkeypatch.setenv("BASELINE_ID", "left over")
    models = Path(__file__).parents[2] / "hub_cards" / "models"
    icl, plain, snnl = (models / f"{name}-fashion-mnist-lt" for name in ("icl-moe", "cross-entropy", "snnl-moe"))
    shutil.copytree(icl, tmp_path / "run")
    shutil.copytree(plain, tmp_path / "run" / "baseline")
    for command in ((), (tmp_path / "run",), (snnl,), (snnl, "--baseline", plain)):
        assert cli.main(["demo", *map(str, command), "--port", "7999"]) == 0
    asked = [(environment["MODEL_ID"], environment.get("BASELINE_ID")) for environment in served]
    run = (tmp_path / "run", tmp_path / "run" / "baseline")
    assert asked == [
        tuple(None if path is None else str(path) for path in pair)
        for pair in ((icl, plain), run, (snnl, None), (snnl, plain))
    ]
    assert {environment["GRADIO_SERVER_PORT"] for environment in served} == {"7999"}
    assert cli.main(["demo", str(snnl), "--baseline", str(tmp_path)]) == 2


def test_the_demo_says_when_its_model_is_none(tmp_path, capsys):
    assert "is not a model" in fails(capsys, "demo", tmp_path)


def test_evaluating_without_knowing_the_data_asks_for_it(run, tmp_path, capsys):
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    assert "give --data" in fails(capsys, "evaluate", tmp_path)


# study and help


def test_a_study_summarises_its_seeds_and_keeps_what_is_finished(tmp_path, recipe, capsys):
    arguments = [
        "study",
        recipe,
        "--output-dir",
        str(tmp_path),
        "--seeds",
        "0,1",
        "--json",
        str(tmp_path / "out.json"),
    ]
    arguments += ["--set", "training.num_train_epochs=1"]
    assert cli.main(arguments) == 0
    study = json.loads((tmp_path / "out.json").read_text())
    accuracies = [run["metrics"]["accuracy"] for run in study["runs"]]
    assert study["metrics"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert study["metrics"]["accuracy"]["std"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert study["baseline"]["seeds"] == [0, 1]
    assert study["runs"][0]["metrics"]["per_class_accuracy"]
    assert "confusion_matrix" not in study["runs"][0]["metrics"], "the file grows with the square of the classes"
    written = (tmp_path / "seed-0" / "results.json").stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert (tmp_path / "seed-0" / "results.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_seeds_side_by_side_end_as_one_after_another(tmp_path, recipe):
    common = ["study", recipe, "--seeds", "0,1", "--set", "training.num_train_epochs=1"]
    assert cli.main([*common, "--output-dir", str(tmp_path / "one")]) == 0
    assert cli.main([*common, "--output-dir", str(tmp_path / "both"), "--jobs", "2"]) == 0
    for seed in (0, 1):
        weights = [
            safetensors.torch.load_file(tmp_path / name / f"seed-{seed}" / "model.safetensors")
            for name in ("one", "both")
        ]
        assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert json.loads((tmp_path / "both" / "study.json").read_text())["seeds"] == [0, 1]
    assert "Training" in (tmp_path / "both" / "seed-1.log").read_text()


def test_a_seed_that_fails_beside_others_is_told_with_its_reason(tmp_path, recipe, capsys):
    arguments = ["study", recipe, "--seeds", "0,1", "--jobs", "2", "--output-dir", tmp_path / "study"]
    message = fails(capsys, *arguments, "--set", "training.learning_rate=1e30")
    assert re.search(r"Seed \d failed: .* is (nan|inf)", message)
    assert "--jobs` must be at least 1" in fails(capsys, *arguments[:-4], "--jobs", "0")


@pytest.mark.slow
def test_seeds_side_by_side_save_on_a_signal_and_continue(tmp_path, recipe):
    command = [Path(sys.executable).with_name("tailmoe"), "study", recipe, "--seeds", "0,1", "--jobs", "2"]
    command += ["--output-dir", tmp_path / "study", "--set", "training.num_train_epochs=300"]
    study = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not all("'epoch': '1'" in log_of(tmp_path / "study", seed) for seed in (0, 1)):
        assert study.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    study.send_signal(signal.SIGINT)
    assert study.wait(60) == 128 + signal.SIGINT
    for seed in (0, 1):
        assert list((tmp_path / "study" / f"seed-{seed}").rglob("checkpoint-*/trainer_state.json"))
        assert "--resume continues" in log_of(tmp_path / "study", seed)


def log_of(folder, seed):
    path = folder / f"seed-{seed}.log"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("seeds", ["a", "3..1", "1,1", "-1", ""])
def test_seeds_that_make_no_sense_are_refused(seeds, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["study", "quickstart", f"--seeds={seeds}"])
    assert stop.value.code == 2
    assert "seeds must look like 0..4 or 0,3,7" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "train", "evaluate", "predict", "study", "demo", "benchmark", "card", "push"])
def test_help_teaches_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"  tailmoe {name or 'train'} " in capsys.readouterr().out


def test_a_baseline_is_a_run_of_its_own(run):
    from tailmoe.hub_cards.push import files_to_push

    for folder in (run, run / "baseline"):
        assert {"model.safetensors", "recipe.yaml", "README.md"} <= set(files_to_push(folder))
    assert "baseline/recipe.yaml" not in files_to_push(run)


def test_a_card_written_anew_is_the_card_of_the_run(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "README.md").unlink()
    assert cli.main(["card", str(copy)]) == 0
    assert (copy / "README.md").read_text() == (run / "README.md").read_text()
    assert "results.json" in fails(capsys, "card", tmp_path)


def test_help_does_not_wait_for_torch():
    script = (
        "import sys; from tailmoe.training.cli import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=Path.home()).returncode == 0


@pytest.mark.parametrize("source", ["quickstart", "snnl-quickstart"])
def test_a_run_in_bfloat16_is_evaluated_in_single_precision(source, data_dir, tmp_path):
    words = ["--output-dir", str(tmp_path / "run")]
    for override in (f"data.name={data_dir}", "training.bf16=true", "training.max_steps=2"):
        words += ["--set", override]
    assert cli.main(["train", source, *words]) == 0
    before = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert cli.main(["evaluate", str(tmp_path / "run"), "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["ece"] == pytest.approx(before["ece"], abs=1e-6)
    assert again["accuracy"] == before["accuracy"]
