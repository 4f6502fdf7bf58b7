"""`tailmoe data FOLDER`: what is understood of images, for a person to check."""

import os
import shutil

import pytest

from tailmoe.training import cli
from tailmoe.training.data import load_long_tailed


@pytest.fixture
def folder(tmp_path):
    """Training images of a cat and a dog, test images of the cat, one of them a training image, and strays."""
    images = iter(load_long_tailed()["test"].select(range(12))["image"])
    for place, number in (("train/cat", 4), ("train/dog", 3), ("test/cat", 2), (".", 1), ("train", 1)):
        (tmp_path / "pets" / place).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            next(images).save(tmp_path / "pets" / place / f"{index}.png")
    shutil.copy(tmp_path / "pets/train/cat/0.png", tmp_path / "pets/test/cat/copy.png")
    shutil.copy(tmp_path / "pets/train/dog/1.png", tmp_path / "pets/train/dog/copy.png")
    (tmp_path / "pets" / "train.log").write_text("x")
    return tmp_path / "pets"


def test_data_of_a_folder_prints_what_was_understood_and_writes_nothing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "pets"]) == 0
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()[:4] if "--" not in line] == [
        ["split", "images", "classes", "largest", "smallest"],
        ["train", "8", "2", "4", "4"],
        ["test", "3", "1", "3", "3"],
    ]
    assert f"Left out: images beside the folders of the splits (1): {folder}/0.png." in shown
    assert f"Left out: images outside the class folders (1): {folder}/train/0.png." in shown
    assert "Files that are no images: 1." in shown
    assert f"The same image in train more than once: 1, such as {folder}/train/dog/1.png and {folder}/" in shown
    assert (
        f"The same image in both train and test: 1, such as {folder}/train/cat/0.png and {folder}/test/cat/" in shown
    )
    assert [line.split() for line in shown.splitlines()[-2:]] == [["cat", "4", "3"], ["dog", "4", "0"]]
    assert os.listdir(tmp_path) == ["pets"]


def test_data_without_splits_tells_that_images_will_be_held_out(folder, capsys):
    assert cli.main(["data", str(folder / "train")]) == 0
    shown = capsys.readouterr().out
    assert "There is no test split: training holds out a fifth of each class" in shown
    os.link(folder / "train/cat/1.png", folder / "train/dog/linked.png")
    assert cli.main(["data", str(folder / "train")]) == 0
    assert "The same image in several classes: 1, such as" in capsys.readouterr().out


def test_classes_may_be_named_by_two_folders(folder, tmp_path, capsys):
    for split in ("train", "test"):
        shutil.move(folder / split, folder / "moved")
        (folder / split).mkdir()
        shutil.move(folder / "moved", folder / split / "pet")
        (folder / split / "pet" / "0.png").unlink(missing_ok=True)
    assert cli.main(["data", str(folder), "--class-depth", "2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-2:]] == ["pet/cat", "pet/dog"]
    written = ["--class-depth", "2", "--output-dir", str(tmp_path / "written")]
    assert cli.main(["data", str(folder), *written]) == 0
    assert "images beside the folders of the splits (1)" in (tmp_path / "written" / "README.md").read_text()
    assert len(load_long_tailed(str(tmp_path / "written"))["train"]) == 8


def test_a_wrong_folder_is_one_line(tmp_path, capsys):
    assert cli.main(["data", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"tailmoe: `{tmp_path}` holds no images: give a folder with train/<class>/<image>.\n"
    )


def test_data_that_ships_is_described_too(capsys):
    assert cli.main(["data", "fashion_mnist_lt"]) == 0
    assert "No image is there twice, byte for byte." in capsys.readouterr().out
