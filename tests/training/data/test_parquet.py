"""Splits as Parquet: what plain `load_dataset` reads is what was selected, and the same call writes the same bytes."""

import json
import shutil

import datasets
import numpy as np
import pytest

from tailmoe.training.data import class_counts, load_long_tailed, make_long_tailed
from tailmoe.training.data.parquet import INDEXED, pixels_sha256, write_splits
from tailmoe.training.data.shot_groups import shot_groups
from tailmoe.training.errors import BadInputError


def image(shade, size=4):
    return np.full((size, size, 3), shade, dtype=np.uint8)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Data sets `cifar100` and `fashion_mnist` of three classes, in the folder that TAILMOE_DATA_DIR names."""
    for name, image_column, label_column in (
        ("cifar100", "img", "fine_label"),
        ("fashion_mnist", "image", "label"),
    ):
        features = datasets.Features(
            {image_column: datasets.Image(), label_column: datasets.ClassLabel(names=["cat", "dog", "cow"])}
        )
        for split, labels in (("train", [0, 1, 2, 2, 1, 0] * 10), ("test", [0, 1, 2])):
            images = [image(4 * row + label) for row, label in enumerate(labels)]
            rows = datasets.Dataset.from_dict({image_column: images, label_column: labels}, features=features)
            (tmp_path / name).mkdir(exist_ok=True)
            rows.to_parquet(tmp_path / name / f"{split}.parquet")
    monkeypatch.setenv("TAILMOE_DATA_DIR", str(tmp_path))


def loaded(folder, config):
    return datasets.load_dataset(
        "parquet", data_files={split: str(folder / config / f"{split}.parquet") for split in ("train", "test")}
    )


@pytest.mark.parametrize("selection", ["first", "shuffled"])
def test_a_split_is_that_of_make_long_tailed_with_groups_and_counts(source, tmp_path, selection):
    about = write_splits(tmp_path / "out", "fashion_mnist", [10, 2.5], selection)
    assert list(about["configs"]) == ["imbalance_factor_10", "imbalance_factor_2.5"]
    for config, factor in zip(about["configs"], (10, 2.5), strict=True):
        expected = make_long_tailed(load_long_tailed("fashion_mnist")["train"], factor, selection=selection)
        splits = loaded(tmp_path / "out", config)
        assert splits["train"]["label"][:] == expected["label"][:]
        assert pixels_sha256(splits["train"]["image"]) == pixels_sha256(expected["image"])
        counts = class_counts(expected)
        assert about["configs"][config]["class_counts"] == counts
        groups = shot_groups(counts)
        for split, rows in splits.items():
            assert rows.features["label"].names == ["cat", "dog", "cow"]
            assert len(rows) == about["configs"][config][f"num_{split}"]
            for row in rows:
                assert row["class_count"] == counts[row["label"]]
                assert row["label"] in groups[row["shot_group"]]
    assert json.loads((tmp_path / "out" / "splits.json").read_text()) == about


def test_images_that_are_not_ours_are_told_by_their_rows_in_the_source(source, tmp_path):
    about = write_splits(tmp_path / "out", "cifar100", [10])
    assert about["source"] == "uoft-cs/cifar100"
    splits, original = loaded(tmp_path / "out", "imbalance_factor_10"), load_long_tailed("cifar100")
    expected = {"train": make_long_tailed(original["train"], 10), "test": original["test"]}
    for split, rows in splits.items():
        assert set(rows.column_names) == {"index", "label", "shot_group", "class_count"}
        found = original[split].select(rows["index"])
        assert found["label"][:] == rows["label"][:] == expected[split]["label"][:]
        digest = about["configs"]["imbalance_factor_10"]["pixels_sha256"][split]
        assert digest == pixels_sha256(expected[split]["image"])
    assert set(INDEXED) == {"cifar10", "cifar100", "mnist"}


def test_without_an_imbalance_factor_the_data_stays_as_it_is(tmp_path):
    about = write_splits(tmp_path, "fashion_mnist_lt")
    assert about["configs"]["imbalance_factor_200"]["class_counts"][0] == 2000
    splits = loaded(tmp_path, "imbalance_factor_200")
    assert pixels_sha256(splits["test"]["image"]) == pixels_sha256(load_long_tailed()["test"]["image"])


def test_images_of_ones_own_are_written_whole_and_tell_no_path(fashion, tmp_path):
    for number, row in enumerate(fashion["train"]):
        folder = tmp_path / "secret" / "birds" / "train" / f"class-{row['label']}"
        folder.mkdir(parents=True, exist_ok=True)
        row["image"].save(folder / f"{number}.png")
    about = write_splits(tmp_path / "out", str(tmp_path / "secret" / "birds"))
    assert (about["name"], about["source"]) == ("birds", None)
    (config,) = about["configs"]
    shutil.rmtree(tmp_path / "secret")
    written = loaded(tmp_path / "out", config)
    assert (
        sum(np.asarray(image).shape == (28, 28) for rows in written.values() for image in rows["image"]) == number + 1
    )
    for path in (tmp_path / "out").rglob("*.*"):
        assert b"secret" not in path.read_bytes(), path


def test_an_image_that_cannot_be_read_is_not_published(fashion, tmp_path):
    for number, name in enumerate(["owl", "owl", "owl", "kite", "kite"]):
        folder = tmp_path / "birds" / "train" / name
        folder.mkdir(parents=True, exist_ok=True)
        fashion["train"][number]["image"].save(folder / f"{number}.png")
    owl = tmp_path / "birds" / "train" / "owl" / "1.png"
    owl.write_bytes(owl.read_bytes()[:60])
    with pytest.raises(BadInputError, match=r"Cannot read the image of row \d \(.*1\.png\): .*; mend or remove it"):
        write_splits(tmp_path / "out", str(tmp_path / "birds"))


def test_the_same_call_writes_the_same_bytes(source, tmp_path):
    for folder in ("one", "two"):
        for name in ("fashion_mnist", "cifar100"):
            write_splits(tmp_path / folder / name, name, [10, 5])
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 10
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_wrong_imbalance_factors_are_told(source, tmp_path):
    with pytest.raises(BadInputError, match=r"can be given once, got 10, 10\.0"):
        write_splits(tmp_path / "out", "fashion_mnist", [10, 10.0])
    with pytest.raises(BadInputError, match="must be at least 1, got 0"):
        write_splits(tmp_path / "out", "fashion_mnist", [0.5])
    with pytest.raises(BadInputError, match="without an image"):
        write_splits(tmp_path / "out", "fashion_mnist", [1000])
