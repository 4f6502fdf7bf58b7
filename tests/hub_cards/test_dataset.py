"""Data sets as repositories, with the real client against the Hub on this machine: whole, and loaded by anyone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import DatasetCard, HfApi, snapshot_download

from tailmoe.hub_cards.dataset import push_dataset, render_dataset_card, write_dataset
from tailmoe.training import cli
from tailmoe.training.data import load_long_tailed
from tailmoe.training.errors import BadInputError

API = HfApi()
REPO = "zoo/tiny-lt"
NAMES = ["cat", "dog", "<b>cow</b> | [x](y)"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TAILMOE_DATA_DIR", raising=False)


@pytest.fixture
def cifar(hub, tmp_path):
    """A `uoft-cs/cifar100` of three classes on the Hub of this machine."""
    return publish_cifar(tmp_path, shift=0)


def publish_cifar(folder, shift):
    features = datasets.Features(img=datasets.Image(), fine_label=datasets.ClassLabel(names=NAMES))
    API.create_repo("uoft-cs/cifar100", repo_type="dataset", exist_ok=True)
    for split, labels in (("train", [0, 1, 2, 2, 1, 0] * 10), ("test", [0, 1, 2])):
        images = [np.full((4, 4, 3), 4 * row + label + shift, np.uint8) for row, label in enumerate(labels)]
        rows = datasets.Dataset.from_dict({"img": images, "fine_label": labels}, features=features)
        rows.to_parquet(folder / f"{split}.parquet")
        API.upload_file(
            repo_id="uoft-cs/cifar100",
            repo_type="dataset",
            path_or_fileobj=folder / f"{split}.parquet",
            path_in_repo=f"{split}.parquet",
        )


@pytest.fixture
def folder(hub, tmp_path):
    """A data set of FashionMNIST-LT as it ships, in a folder."""
    write_dataset(tmp_path / "fashion", "fashion_mnist_lt")
    return tmp_path / "fashion"


def commits(repo_id=REPO):
    return len(API.list_repo_commits(repo_id, repo_type="dataset"))


def test_a_pushed_data_set_is_loaded_by_plain_load_dataset(folder):
    pushed = push_dataset(folder, REPO, private=True)
    assert pushed.url.startswith(f"{API.endpoint}/datasets/{REPO}/commit/")
    assert API.repo_info(REPO, repo_type="dataset").private
    splits = datasets.load_dataset(REPO, "imbalance_factor_200")
    expected = load_long_tailed()
    assert splits["train"].features["label"] == expected["train"].features["label"]
    for split in ("train", "test"):
        assert splits[split]["label"][:] == expected[split]["label"][:]
        assert np.array_equal(splits[split][7]["image"], expected[split][7]["image"])
    assert set(splits["train"].unique("shot_group")) == {"many", "medium", "few"}
    again = load_long_tailed(REPO, config_name="imbalance_factor_200")
    assert again["train"].features == expected["train"].features
    assert not push_dataset(folder, REPO).changed
    assert commits() == 2


def test_the_command_writes_and_pushes_and_repeats_without_a_new_commit(cifar, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["data", "cifar100", "--imbalance-factor", "10", "5", "--push", REPO]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "imbalance_factor_10" in printed
    assert "runs/data/cifar100" in printed
    assert "Pushed: http" in printed
    assert cli.main(command) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert cli.main(["data", "cifar100", "--private"]) == 2
    assert cli.main(["data", "cifar100", "--imbalance-factor", "10", "--push", "datasets/zoo/x"]) == 2


def test_the_builder_puts_index_lists_and_images_together_without_tailmoe(cifar, tmp_path):
    write_dataset(tmp_path / "lists", "cifar100", [10, 5])
    push_dataset(tmp_path / "lists", REPO)
    there = snapshot_download(REPO, repo_type="dataset", local_dir=tmp_path / "there")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}

    def build(config):
        command = [sys.executable, str(Path(there) / "build.py"), config, "images"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = build("imbalance_factor_10")
    assert done.returncode == 0, done.stderr
    built = load_long_tailed(str(tmp_path / "images"))
    expected = load_long_tailed("cifar100", imbalance_factor=10)
    for split in ("train", "test"):
        assert built[split].features == expected[split].features
        for one, other in zip(built[split], expected[split], strict=True):
            assert one["label"] == other["label"]
            assert np.array_equal(one["image"], other["image"])
    assert "give one of imbalance_factor_10, imbalance_factor_5" in build("imbalance_factor_7").stderr
    publish_cifar(tmp_path, shift=1)
    assert "uoft-cs/cifar100 no longer holds the images" in build("imbalance_factor_10").stderr


def test_a_push_that_would_delete_other_configs_is_refused(cifar, tmp_path):
    write_dataset(tmp_path / "all", "cifar100", [10, 5])
    write_dataset(tmp_path / "one", "cifar100", [5])
    push_dataset(tmp_path / "all", REPO)
    with pytest.raises(BadInputError, match=f"{REPO} holds `imbalance_factor_10`, which this push would delete"):
        push_dataset(tmp_path / "one", REPO)
    assert commits() == 2


@pytest.mark.parametrize("path", ["/tree/", "/preupload/", "objects/batch", "/commit/", "validate-yaml"])
@pytest.mark.parametrize("action", ["status", "reset", "lose_answer"])
def test_a_fault_of_any_call_is_passed_and_nothing_is_doubled(folder, inject, path, action):
    inject(action, path)
    assert push_dataset(folder, REPO).changed
    assert commits() == 2


def test_files_that_do_not_load_and_repositories_of_another_type_are_refused(folder):
    API.create_repo("zoo/model")
    with pytest.raises(BadInputError, match="`zoo/model` is a model on the Hub, and a data set is to be pushed"):
        push_dataset(folder, "zoo/model")
    about = json.loads((folder / "splits.json").read_text())
    about["configs"]["imbalance_factor_200"]["num_train"] += 1
    (folder / "splits.json").write_text(json.dumps(about))
    with pytest.raises(BadInputError, match="does not load as it was written"):
        push_dataset(folder, REPO)
    assert not API.repo_exists(REPO, repo_type="dataset")


def test_a_folder_of_something_else_is_left_alone_and_ours_is_replaced(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(BadInputError, match="is not empty and holds no data set of ours"):
        write_dataset(tmp_path / "mine", "fashion_mnist_lt")
    (folder / "old.txt").touch()
    write_dataset(folder, "fashion_mnist_lt")
    assert not (folder / "old.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "fashion", "mine"}, "something temporary stayed"


@pytest.mark.parametrize(("name", "factors"), [("cifar100", [10, 5]), ("fashion_mnist_lt", [])])
@pytest.mark.parametrize("repo_id", [None, REPO])
def test_cards_are_valid_and_say_what_is_there(cifar, tmp_path, name, factors, repo_id):
    about = write_dataset(tmp_path / "out", name, factors)
    card = render_dataset_card(about, repo_id)
    card.save(tmp_path / "README.md")
    loaded = DatasetCard.load(tmp_path / "README.md")
    loaded.validate(repo_type="dataset")
    assert loaded.data.source_datasets == [about["source"]]
    assert [config["config_name"] for config in loaded.data.configs] == list(about["configs"])
    for example in re.findall(r"```python\n(.*?)```", card.text, re.DOTALL):
        compile(example, "card", "exec")
    assert (f'load_dataset("{REPO}"' in card.text) == (repo_id is not None)
    for config in about["configs"].values():
        assert f"{config['num_train']:,}" in card.text
    assert "\n\n\n" not in card.text
    assert "<b>" not in card.text
    assert (tmp_path / "out" / "figures" / "class_counts.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "LICENSE").exists() == (name == "fashion_mnist_lt")
    assert ("build.py" in card.text) == (name == "cifar100")
