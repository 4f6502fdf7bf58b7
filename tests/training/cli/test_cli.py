"""The command line, used as a user does: real images, real files, wrong input, kill and resume."""

import json
import logging
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
from tailmoe.training.data.formats import REASON_OF
from tailmoe.training.evaluation.confusion import confusion_array


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
        "configuration_tailmoe.py",
        "modeling_icl_moe.py",
        "backbone.py",
        "early_exit.py",
        "grad_cam.py",
        "label_prior.py",
        "backbone_config.py",
        "backbone_features.py",
        "backbone_passes.py",
        "image_loading.py",
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
    before = {name: (run / name).read_text() for name in ("results.json", "README.md")}
    assert "--resume" in fails(capsys, "train", recipe, "--output-dir", run)
    (run / "README.md").unlink()  # as if the command had been killed before it wrote the card
    assert cli.main(["train", recipe, "--output-dir", str(run), "--resume"]) == 0
    assert "ICL-MoE" in capsys.readouterr().out
    assert {name: (run / name).read_text() for name in before} == before


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
    assert "epoch 4/4  100%" in resumed.stderr
    assert "images/s" in resumed.stderr
    ours, theirs = (safetensors.torch.load_file(each / "model.safetensors") for each in (folder, run))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    results = json.loads((folder / "results.json").read_text())
    interrupted = results if stage == "." else results["baseline"]
    assert interrupted["train_seconds"] > 0
    assert interrupted["precision"] == "float32"
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
    assert ours.pop("confusion_matrix") == theirs.pop("confusion_matrix")
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


def test_evaluate_measures_all_images_that_it_is_given(run, tmp_path, fashion, capsys, caplog):
    caplog.set_level(logging.INFO, logger="tailmoe")
    names = fashion["test"].features["label"].names
    lines = {"train": [], "test": []}
    for index, row in enumerate(fashion["test"].select(range(20))):
        split, name = ("train" if index % 4 else "test"), names[row["label"]].replace("/", "_")
        if name == "T-shirt_top":
            continue
        for top in (tmp_path / "splits" / split, tmp_path / "plain"):
            (top / name).mkdir(parents=True, exist_ok=True)
            row["image"].save(top / name / f"{index}.png")
        lines[split].append(f"{split}/{name}/{index}.png,{name}")
    for split, rows in lines.items():
        (tmp_path / "splits" / f"{split}.table").write_text("\n".join(["file,label", *rows]))

    def measured(folder, *arguments):
        caplog.clear()
        assert cli.main(["evaluate", str(run), "--data", str(tmp_path / folder), *arguments]) == 0
        return re.search(r"Measuring (\d+) images: (all|split \w+) of", caplog.text).groups()

    train, test = (str(len(rows)) for rows in lines.values())
    assert measured("plain") == (str(int(train) + int(test)), "all")
    assert measured("splits") == (test, "split test")
    assert measured("splits", "--split", "train") == (train, "split train")
    shutil.move(tmp_path / "splits" / "test.table", tmp_path / "splits" / "test.csv")
    assert measured("splits/test.csv") == (test, "all")
    shutil.move(tmp_path / "splits" / "train", tmp_path / "elsewhere")
    assert measured("splits") == (test, "split test")
    (tmp_path / "splits" / "test.csv").unlink()
    assert measured("splits") == (test, "split test")
    assert "has no splits, of which test could be measured: leave `--split` out" in fails(
        capsys, "evaluate", run, "--data", tmp_path / "plain", "--split", "test"
    )
    assert "has no split `train` with labels; those with labels: test" in fails(
        capsys, "evaluate", run, "--data", tmp_path / "splits", "--split", "train"
    )
    assert "a run has the splits train and test" in fails(capsys, "evaluate", run, "--split", "validation")


def test_what_is_left_out_is_in_the_results_and_told_by_the_card(recipe, tmp_path, fashion):
    for split, count in (("train", 30), ("test", 10)):
        few = fashion[split].filter(lambda label: label < 2, input_columns="label")
        for index, row in enumerate(few.select(range(count))):
            folder = tmp_path / "images" / split / f"class {row['label']}"
            folder.mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / f"{index}.png")
    for name in ("a.jxl", "b.jxl", "broken.png"):
        (folder.parent.parent / "train" / folder.name / name).write_bytes(b"x")
    fashion["train"][0]["image"].save(tmp_path / "images" / "test" / "stray.png")
    shutil.copy(next((tmp_path / "images" / "train" / folder.name).glob("*.png")), folder / "copy.png")
    options = (f"data.name={tmp_path / 'images'}", "training.on_bad_image=skip", "training.num_train_epochs=1")
    assert cli.main(["train", recipe, "--output-dir", str(tmp_path / "run"), "--set", *options]) == 0
    data = json.loads((tmp_path / "run" / "results.json").read_text())["dataset"]
    assert data["left_out"] == {"outside the class folders": 1, REASON_OF[".jxl"]: 2}
    assert data["num_skipped"] == 4
    assert data["num_shared"] == 1
    card = (tmp_path / "run" / "README.md").read_text()
    assert "images outside the class folders (1)" in card
    assert "images in JPEG XL format, which Pillow does not read: convert them to PNG or JPEG (2)" in card
    assert "images that could not be read (1)." in card
    assert "Of the 11 test images, 1 are among the training images too" in card


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


def test_a_model_without_some_of_its_weights_is_refused_and_they_are_not_drawn_at_random(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    weights = safetensors.torch.load_file(run / "model.safetensors")
    del weights["classifier.weight"]
    safetensors.torch.save_file(weights, tmp_path / "run" / "model.safetensors", metadata={"format": "pt"})
    message = fails(capsys, "evaluate", tmp_path / "run")
    assert "holds the weights of another network" in message
    assert "classifier.weight" in message


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
    models = Path(__file__).parents[3] / "hub_cards" / "models"
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


# cards


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
