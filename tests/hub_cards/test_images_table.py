"""`tailmoe data FOLDER`: what is understood of images, for a person to check."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

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


def class_lines(shown):
    """The cells of the lines of classes."""
    (part,) = (part for part in shown.split("\n\n") if part.startswith("class "))
    return [line.split() for line in part.splitlines()[2:]]


def test_data_of_a_folder_prints_what_was_understood_and_writes_nothing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "pets"]) == 0
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()[:4] if "--" not in line] == [
        ["split", "images", "classes", "largest", "smallest", "imbalance"],
        ["train", "8", "2", "4", "4", "1.0"],
        ["test", "3", "1", "3", "3", "1.0"],
    ]
    assert f"Left out: images beside the folders of the splits (1): {folder}/0.png." in shown
    assert f"Left out: images outside the class folders (1): {folder}/train/0.png." in shown
    assert "Files that are no images: 1." in shown
    assert f"The same image in train more than once: 1, such as {folder}/train/dog/1.png and {folder}/" in shown
    assert (
        f"The same image in both train and test: 1, such as {folder}/train/cat/0.png and {folder}/test/cat/" in shown
    )
    assert class_lines(shown) == [["cat", "4", "3", "medium", "#" * 40], ["dog", "4", "0", "medium", "#" * 40]]
    assert "Sizes in pixels, width x height: all 28x28. Modes: L 11." in shown
    assert "tailmoe train quickstart --set data.name=pets model.num_channels=1 model.image_size=28" in shown
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
    shown = capsys.readouterr().out
    assert [line[0] for line in class_lines(shown)] == ["pet/cat", "pet/dog"]
    assert "data.class_depth=2" in shown
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


@pytest.fixture
def photographs(tmp_path):
    """Smooth colour images of 200 x 120 pixels, 24 cats, 6 dogs and 2 birds, in `photos/<class>`."""
    generator = np.random.default_rng(0)
    for name, number in (("cat", 24), ("dog", 6), ("bird", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(number):
            blocks = Image.fromarray(generator.integers(0, 256, (6, 10, 3), dtype=np.uint8))
            blocks.resize((200, 120), Image.Resampling.BICUBIC).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def test_classes_are_bars_the_largest_first_with_their_shot_groups(photographs, capsys):
    assert cli.main(["data", str(photographs)]) == 0
    shown = capsys.readouterr().out
    assert class_lines(shown) == [
        ["cat", "24", "many", "#" * 40],
        ["dog", "6", "medium", "#" * 10],
        ["bird", "2", "few", "#" * 4],
    ]
    assert "Classes by their training images: 1 many-shot (more than 6), 1 medium-shot" in shown
    assert "all 200x120. Modes: RGB 32." in shown
    assert f"tailmoe train finetune --set data.name={photographs} model.backbone=" in shown
    assert "Near duplicates" not in shown
    assert max(map(len, shown.splitlines()[:3])) <= 80


def test_images_saved_anew_or_made_smaller_are_near_duplicates(photographs, capsys):
    with Image.open(photographs / "cat/0.png") as image:
        image.save(photographs / "cat/again.jpg", quality=80)
    with Image.open(photographs / "dog/0.png") as image:
        image.resize((100, 60)).save(photographs / "bird/small.png")
    assert cli.main(["data", str(photographs)]) == 0
    shown = capsys.readouterr().out
    assert "Near duplicates within train: 2 pairs, such as " in shown
    told = f"Near duplicates in several classes: 1 pair, such as {photographs}/bird/small.png and {photographs}/dog/0.png."
    assert told in shown
    assert "Sizes in pixels, width x height: 100x60 to 200x120, median 200x120" in shown


def test_near_duplicates_of_training_images_in_the_test_split_are_told(photographs, tmp_path, capsys):
    (tmp_path / "split" / "test" / "cat").mkdir(parents=True)
    photographs.rename(tmp_path / "split" / "train")
    with Image.open(tmp_path / "split/train/cat/0.png") as image:
        image.save(tmp_path / "split/test/cat/again.jpg")
    assert cli.main(["data", str(tmp_path / "split")]) == 0
    assert "Near duplicates in both train and test: 1 pair, such as " in capsys.readouterr().out


def test_images_of_one_colour_are_near_to_none_and_those_that_cannot_be_read_are_told(photographs, capsys):
    for level in (0, 1, 2):
        Image.new("L", (200, 120), level).save(photographs / "bird" / f"plain {level}.png")
    (photographs / "bird" / "broken.png").write_bytes(b"no pixels")
    assert cli.main(["data", str(photographs)]) == 0
    shown = capsys.readouterr().out
    assert "Near duplicates" not in shown
    assert f"Images that cannot be read: 1, such as {photographs}/bird/broken.png." in shown
    assert "Modes: RGB 32, L 3." in shown


def test_one_class_alone_is_told_and_no_recipe(photographs, capsys):
    for name in ("dog", "bird"):
        shutil.rmtree(photographs / name)
    assert cli.main(["data", str(photographs)]) == 0
    shown = capsys.readouterr().out
    assert "All training images are of one class, cat: training needs two." in shown
    assert "tailmoe train" not in shown
