"""The recipes of ImageNet-LT and iNaturalist 2018, on made-up folders of their layout."""

import json

import pytest
import transformers.utils.import_utils
from PIL import Image

from tailmoe.training import cli
from tailmoe.training.recipe import load_recipe

TINY = "{model_type: resnet, embedding_size: 4, hidden_sizes: [4, 4, 8, 8], depths: [1, 1, 1, 1], layer_type: basic}"


@pytest.fixture
def lists(tmp_path):
    """A folder of twelve images of three classes, with the lists of iNaturalist 2018."""

    def make():
        folder = tmp_path / "images"
        (folder / "n01").mkdir(parents=True)
        lines = []
        for index in range(12):
            Image.new("RGB", (40, 30), (20 * index, 90, 200)).save(folder / "n01" / f"{index}.jpg")
            lines.append(f"n01/{index}.jpg {index % 3}")
        (folder / "iNaturalist18_train.txt").write_text("\n".join(lines[:9]))
        (folder / "iNaturalist18_val.txt").write_text("\n".join(lines[9:]))
        return folder

    return make


def test_a_recipe_trains_anew_from_the_lists_beside_the_images(lists, tmp_path):
    values = [f"data.name={lists()}", f"model.backbone_config={TINY}", "model.image_size=32"]
    values += [
        "training.num_train_epochs=1",
        "training.per_device_train_batch_size=9",
        "training.dataloader_num_workers=1",
    ]
    run = tmp_path / "run"
    assert cli.main(["train", "inaturalist2018", "--output-dir", str(run), "--set", *values]) == 0
    results = json.loads((run / "results.json").read_text())
    assert results["dataset"]["class_counts"] == [3, 3, 3]
    assert results["config"]["backbone"] is None
    assert results["config"]["num_experts"] == 3
    assert results["metrics"]["accuracy"] is not None
    assert "a resnet" in (run / "README.md").read_text()


def test_the_network_of_imagenet_lt_needs_timm_and_says_so(lists, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transformers.utils.import_utils, "is_timm_available", lambda: False)
    values = [f"data.name={lists()}"]
    assert cli.main(["train", "imagenet-lt", "--output-dir", str(tmp_path / "run"), "--set", *values]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "`model` of the recipe: " in message
    assert "pip install 'tailmoe[timm]'" in message


def test_the_networks_are_those_of_the_paper():
    resnext, resnet = (load_recipe(name).model for name in ("imagenet-lt", "inaturalist2018"))
    assert resnext["backbone_config"]["architecture"] == "resnext50_32x4d"
    config = transformers.AutoConfig.for_model(**resnet["backbone_config"])
    assert (config.layer_type, config.depths) == ("bottleneck", (3, 4, 6, 3))
    assert resnext["num_experts"] == resnet["num_experts"] == 3
