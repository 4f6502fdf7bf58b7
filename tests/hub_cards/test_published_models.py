"""The models in `hub_cards/models`: complete repositories whose cards say what their results say."""

import os
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import ModelCard
from transformers import AutoImageProcessor, AutoModelForImageClassification

import tailmoe.modeling  # noqa: F401 (registers our models)
from tailmoe.hub_cards.model_card import render_model_card
from tailmoe.hub_cards.push import files_to_push
from tailmoe.hub_cards.study_of_run import find_study
from tailmoe.training.data import load_images, load_long_tailed
from tailmoe.training.data.sources import KNOWN
from tailmoe.training.evaluation.confusion import confusion_array
from tailmoe.training.evaluation.evaluate import data_of_run, evaluate_images, evaluate_model
from tailmoe.training.results.results import RunResults

MODELS = Path(__file__).parents[2] / "hub_cards" / "models"
FOLDERS = sorted(path for path in MODELS.iterdir() if path.is_dir())
LARGEST_WEIGHTS = 6_000_000


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request):
    return request.param


def test_the_first_models_are_there():
    names = {path.name for path in FOLDERS}
    assert {"icl-moe-fashion-mnist-lt", "cross-entropy-fashion-mnist-lt", "snnl-moe-fashion-mnist-lt"} <= names


def test_a_folder_is_a_complete_repository_of_files_that_a_run_writes(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(files_to_push(folder)) == files
    assert (folder / "model.safetensors").stat().st_size <= LARGEST_WEIGHTS


def test_the_card_is_that_of_the_results_and_the_hub_finds_it_valid(folder, hub):
    results = RunResults.load(folder / "results.json")
    study = find_study(folder, results)
    assert 0 in study.seeds, "its study is not in hub_cards/results"
    figures = sorted(path.relative_to(folder).as_posix() for path in folder.glob("figures/*.png"))
    assert (folder / "README.md").read_text() == str(render_model_card(results, figures=figures, study=study))
    ModelCard.load(folder / "README.md").validate(repo_type="model")


def test_the_results_were_measured_at_a_commit_without_changes_and_tell_no_path(folder):
    results = RunResults.load(folder / "results.json")
    assert results.seed == 0
    assert results.commit
    assert "dirty" not in results.commit
    assert not any(word.startswith("/") for word in results.command.split())


def test_the_examples_of_the_card_run_as_they_stand_but_for_their_paths_and_patience(
    folder, tmp_path, monkeypatch, capsys
):
    images = load_long_tailed()
    for split, step in (("train", 40), ("test", 50)):
        kept = images[split].filter(lambda label: label < 3, input_columns="label")
        kept = kept.select(range(0, len(kept), step))
        labels = datasets.ClassLabel(names=["cat", "dog", "cow"])  # another number of classes than the model's
        kept.cast_column("label", labels).to_parquet(tmp_path / f"{split}.parquet")
    images["test"][0]["image"].save(tmp_path / "image.png")
    names = RunResults.load(folder / "results.json").dataset.label_names
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    changes = {'"."': f'"{folder}"', "path/to/images": str(tmp_path), "num_train_epochs=30": "num_train_epochs=1"}
    for block in blocks:
        for old, new in changes.items():
            block = block.replace(old, new)
        exec(compile(block, "README.md", "exec"), {})
        printed = capsys.readouterr().out
        assert "eval_balanced_accuracy" in printed or any(name in printed for name in names)


def measured_data(folder):
    """What `load_long_tailed` takes for the data of the run, if it is on this machine."""
    data = data_of_run(str(folder))
    if data["name"] in KNOWN and "TAILMOE_DATA_DIR" not in os.environ:
        pytest.skip("TAILMOE_DATA_DIR names no folder of data")
    return data


def test_the_weights_are_those_of_the_results_on_the_largest_and_the_smallest_class(folder):
    results = RunResults.load(folder / "results.json")
    model, processor = (
        loader.from_pretrained(folder) for loader in (AutoModelForImageClassification, AutoImageProcessor)
    )
    assert model.num_parameters() == results.num_parameters
    assert list(model.config.id2label.values()) == results.dataset.label_names
    assert processor.num_channels == model.config.num_channels
    test = load_long_tailed(**measured_data(folder))["test"]
    classes = [0, model.config.num_labels - 1]
    images = load_images(test.select(np.flatnonzero(np.isin(test["label"], classes))), processor)
    metrics = evaluate_images(model, processor, images, model.config.class_counts)
    ours, theirs = map(confusion_array, (metrics["confusion_matrix"], results.metrics.confusion_matrix))
    for row in classes:
        np.testing.assert_allclose(ours[row], theirs[row], atol=max(1, 0.002 * theirs[row].sum()))


def on_request_where_images_are_many(folder):
    many = data_of_run(str(folder))["name"] in KNOWN
    return pytest.param(folder, marks=pytest.mark.slow if many else (), id=folder.name)


@pytest.mark.parametrize("folder", map(on_request_where_images_are_many, FOLDERS))
def test_evaluate_measures_what_the_card_states(folder):
    expected = RunResults.load(folder / "results.json").metrics
    metrics = evaluate_model(str(folder), measured_data(folder))
    assert metrics["accuracy"] == pytest.approx(expected.accuracy, abs=2e-3)
    assert metrics["ece"] == pytest.approx(expected.ece, abs=2e-3)
