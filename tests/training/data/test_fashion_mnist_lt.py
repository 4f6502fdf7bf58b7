"""The embedded data set."""

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

import tailmoe.training.data.sources
from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.data.fashion_mnist_lt import build
from tailmoe.training.errors import BadInputError

FOLDER = Path(tailmoe.training.data.sources.__file__).parent / "fashion_mnist_lt"


def test_it_has_the_long_tailed_counts_of_factor_200(embedded):
    assert class_counts(embedded["train"]) == [2000, 1110, 616, 341, 189, 105, 58, 32, 18, 10]
    assert class_counts(embedded["test"]) == [200] * 10
    assert embedded["train"].features["label"].names[-1] == "Ankle boot"


def test_plain_load_dataset_reads_it():
    files = {split: str(FOLDER / f"{split}.parquet") for split in ("train", "test")}
    splits = datasets.load_dataset("parquet", data_files=files)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 4479, "test": 2000}
    for rows in splits.values():
        assert isinstance(rows.features["image"], datasets.Image)
        assert isinstance(rows.features["label"], datasets.ClassLabel)
        assert rows[0]["image"].size == (28, 28)
        assert rows[0]["image"].mode == "L"


def test_it_is_small_and_its_licence_is_beside_it():
    assert sum((FOLDER / f"{split}.parquet").stat().st_size for split in ("train", "test")) < 3.5e6
    assert "Copyright (c) 2017 Zalando SE" in (FOLDER / "LICENSE").read_text()


@pytest.mark.parametrize("arguments", [{"imbalance_factor": 100}, {"selection": "shuffled"}])
def test_it_cannot_be_made_long_tailed_again(arguments):
    with pytest.raises(BadInputError, match=r"`fashion_mnist_lt` has an imbalance factor of 200.*use fashion_mnist"):
        load_long_tailed("fashion_mnist_lt", **arguments)


def test_its_pixels_are_the_first_of_each_class_of_fashion_mnist(data_dir, embedded):
    whole = load_long_tailed("fashion_mnist")
    for split, most in (("train", 2000), ("test", 200)):
        labels = np.asarray(whole[split]["label"][:])
        assert embedded[split].features == whole[split].features
        for label in (0, 5, 9):
            ours = np.flatnonzero(np.asarray(embedded[split]["label"][:]) == label)
            theirs = np.flatnonzero(labels == label)[: len(ours)]
            for one, other in ((ours[0], theirs[0]), (ours[-1], theirs[-1])):
                pixels = [
                    np.asarray(rows[int(row)]["image"])
                    for rows, row in ((embedded[split], one), (whole[split], other))
                ]
                assert np.array_equal(*pixels)
            assert len(ours) <= most


def test_it_is_built_alike_every_time_and_as_it_is_committed(data_dir, tmp_path, monkeypatch, embedded):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(build, "FOLDER", tmp_path / folder)
        build.main()
    for split in ("train", "test"):
        path = tmp_path / "one" / f"{split}.parquet"
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
        built = datasets.Dataset.from_parquet(str(path))
        assert built.features == embedded[split].features
        assert built["label"][:] == embedded[split]["label"][:]
        assert np.array_equal(built[-1]["image"], embedded[split][-1]["image"])


def test_import_of_the_data_package_waits_for_no_library():
    code = "import sys, tailmoe.training.data; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
