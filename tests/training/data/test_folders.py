"""Folders of images: every image in the split and class where it lies, or counted as left out."""

import logging
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.data.formats import HEIC, REASON_OF
from tailmoe.training.data.splits import load_split
from tailmoe.training.data.tree import BROKEN_LINK, NOT_UTF8, OF_A_RUN
from tailmoe.training.errors import BadInputError

OUTSIDE, BESIDE = "outside the class folders", "beside the folders of the splits"


@pytest.fixture
def put(tmp_path):
    """Writes different images to paths below a folder and returns the folder; a path may end in `*n` for n images."""
    numbers = iter(range(10**6))

    def make(*paths, root="images"):
        for path in paths:
            below, times = re.fullmatch(r"(.*?)(?:\*(\d+))?", path).groups()
            for index in range(int(times or 1)):
                file = tmp_path / root / (f"{below}/{index}.png" if times else below)
                file.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((4, 4, 3), np.frombuffer(np.uint32(next(numbers)).tobytes()[:3], np.uint8))
                Image.fromarray(pixels).save(file, "PNG" if file.suffix.lower() not in (".avif", ".bmp") else None)
        return tmp_path / root

    return make


def counted(folder, **options):
    """Images of each class by split; what is left out by reason."""
    splits = load_long_tailed(str(folder), **options)
    names = splits["train"].features["label"].names
    counts = {
        split: dict(zip(names, np.bincount(rows["label"], minlength=len(names)).tolist(), strict=True))
        for split, rows in splits.items()
    }
    return counts, splits.left_out


@pytest.mark.parametrize("name", ["train", "train_station", "test tube", "test", "validation", "a train", "dev-kit"])
def test_a_class_may_be_named_like_a_split(put, name):
    folder = put(f"train/{name}*6", "train/cat*6", f"test/{name}*3", "test/cat*3")
    assert counted(folder) == ({"train": {"cat": 6, name: 6}, "test": {"cat": 3, name: 3}}, {})


def test_a_class_named_like_a_split_beside_others_is_a_class(put):
    assert class_counts(load_long_tailed(str(put("train*5", "car*5", "test*5")))["train"]) == [4, 4, 4]


def test_a_folder_that_can_be_a_split_or_a_class_is_refused(put):
    with pytest.raises(BadInputError, match="train may be a split, or a class beside samples: move samples elsewhere"):
        load_long_tailed(str(put("train/cat*3", "train/dog*3", "samples*2")))


@pytest.mark.parametrize(
    ("train", "held"), [("Train", "Test"), ("training", "valid"), ("TRAIN", "val"), ("train", "evaluation")]
)
def test_splits_are_known_by_their_usual_names(put, train, held):
    folder = put(f"{train}/cat*4", f"{train}/dog*3", f"{held}/cat*2", f"{held}/dog")
    shutil.move(folder / held / "dog", folder / held / "dog.png")
    assert counted(folder) == (
        {"train": {"cat": 4, "dog": 3}, "test": {"cat": 2, "dog": 0}},
        {OUTSIDE: 1},
    )


def test_two_folders_of_one_split_are_refused(put):
    with pytest.raises(BadInputError, match="holds val and validation: keep one of them there"):
        load_long_tailed(str(put("train/cat*2", "train/dog*2", "val/cat*2", "validation/dog*2")))


def test_splits_inside_of_classes_are_refused(put):
    with pytest.raises(BadInputError, match=r"the splits \(test, train\) lie in the class folders: sort the images"):
        load_long_tailed(str(put("cat/train*2", "cat/test*2", "dog/train*2", "dog/test*2")))


def test_a_folder_around_the_splits_is_passed_over(put):
    folder = put("photos/set/train/cat*4", "photos/set/train/dog*3", "photos/set/test/cat*2")
    assert counted(folder)[0] == {"train": {"cat": 4, "dog": 3}, "test": {"cat": 2, "dog": 0}}


def test_a_folder_around_the_classes_is_no_class(put):
    with pytest.raises(
        BadInputError, match=r"All images lie in .*/photos, which would be the only class: give the fol"
    ):
        load_long_tailed(str(put("photos/cat*3", "photos/dog*3")))


TREE = [
    f"{split}/{plant}/{state}*{number}"
    for split, number in (("train", 3), ("test", 1))
    for plant in ("apple", "tomato")
    for state in ("healthy", "scab")
]


def test_deeper_folders_belong_to_their_class_and_are_told(put, caplog):
    caplog.set_level(logging.INFO, logger="tailmoe")
    assert counted(put(*TREE))[0] == {"train": {"apple": 6, "tomato": 6}, "test": {"apple": 2, "tomato": 2}}
    assert "12 images lie in folders below those of their classes" in caplog.text
    assert "`data.class_depth=2` makes a class of each folder" in caplog.text


def test_a_key_makes_classes_of_deeper_folders(put):
    folder = put(*TREE, "train/apple/scab/monday/x.png")
    counts = {"apple/healthy": 3, "apple/scab": 4, "tomato/healthy": 3, "tomato/scab": 3}
    assert counted(folder, class_depth=2)[0] == {"train": counts, "test": dict.fromkeys(counts, 1)}
    put("train/tomato/shallow.png")
    with pytest.raises(BadInputError, match=r"`class_depth` is 2, and .*tomato/shallow.png lies in 1 folder below"):
        load_long_tailed(str(folder), class_depth=2)
    with pytest.raises(BadInputError, match="`class_depth` must be at least 1, got 0"):
        load_long_tailed(str(folder), class_depth=0)


def test_the_class_depth_is_of_class_folders_alone():
    with pytest.raises(
        BadInputError, match="`class_depth` 2 is of class folders, and the classes of `fashion_mnist_lt`"
    ):
        load_long_tailed(class_depth=2)


@pytest.mark.parametrize("name", [".net", "__other__", "01", "true", "1e3", " cat", "data [v2]", "a*b", "c?", "d::e"])
def test_names_of_classes_are_text(put, name):
    folder = put(f"train/{name}*2", "train/z*3", f"test/{name}*2")
    assert counted(folder) == ({"train": {name: 2, "z": 3}, "test": {name: 2, "z": 0}}, {})


@pytest.mark.parametrize("name", ["data [v2]", "train/test", "a*b?", "{x}", "100%20", "é # !"])
def test_paths_are_literal(put, name, embedded):
    folder = put("train/a*2", "train/b*3", "test/a*2", root=name)
    assert counted(folder)[0] == {"train": {"a": 2, "b": 3}, "test": {"a": 2, "b": 0}}
    for split in ("train", "test"):
        embedded["test"].select(range(12)).to_parquet(folder.parent / "parquet" / f"{split}.parquet")
    shutil.move(folder.parent / "parquet", folder.parent / "other" / name)
    assert len(load_long_tailed(str(folder.parent / "other" / name))["train"]) == 12
    (folder / "some.csv").write_text("path,label\n" + "".join(f"train/b/{i}.png,{i % 2}\n" for i in range(3)))
    assert len(load_split(str(folder / "some.csv"))) == 3


def test_links_are_followed_and_circles_end(put, tmp_path):
    folder = put("train/cat*2", "test/cat*2", "test/dog*2")
    put("elsewhere*3", "elsewhere/deep*2", root="other")
    os.symlink(tmp_path / "other" / "elsewhere", folder / "train" / "dog")
    os.symlink("..", tmp_path / "other" / "elsewhere" / "up")
    os.symlink(folder, folder / "train" / "cat" / "all")
    os.symlink(tmp_path / "other" / "elsewhere" / "deep" / "0.png", folder / "train" / "cat" / "linked.png")
    os.symlink("gone.png", folder / "train" / "cat" / "broken.png")
    os.symlink("gone", folder / "train" / "cat" / "broken")
    counts, left_out = counted(folder)
    assert (counts["test"], left_out) == ({"cat": 2, "dog": 2}, {BROKEN_LINK: 1})
    assert counts["train"] == {"cat": 3, "dog": 5}


def test_folders_that_link_to_one_another_are_read_once_for_each_class(put):
    letters = "abcdefghij"
    folder = put(*(f"train/{letter}*1" for letter in letters), "test/a*1")
    for one in letters:
        for other in letters:
            if one != other:
                os.symlink(folder / "train" / other, folder / "train" / one / f"to {other}")
    with pytest.raises(BadInputError, match="no class has two different images"):  # each is in every class
        load_long_tailed(str(folder / "train"))
    counts, _ = counted(folder)
    assert set(counts["train"].values()) == {10}


def test_what_pillow_reads_is_an_image_whatever_its_suffix(put):
    folder = put("train/a*2", "train/a/none", "train/a/photo.jpg_large", "train/a/x.avif", "train/a/y.BMP", "test/a*1")
    put("train/b*2")
    assert counted(folder) == ({"train": {"a": 6, "b": 2}, "test": {"a": 1, "b": 0}}, {})


def test_what_pillow_does_not_read_is_counted_by_reason(put, monkeypatch, caplog):
    monkeypatch.setitem(REASON_OF, ".heic", HEIC)
    monkeypatch.setattr("tailmoe.training.data.formats.READ", {".png"})
    folder = put("train/a*2", "train/b*2", "test/a*1")
    (folder / "train" / "a" / "1.HEIC").write_bytes(b"x")
    (folder / "train" / "a" / "2").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 20)
    (folder / "train" / "b" / "3.jxl").write_bytes(b"x")
    (folder / "train" / "c").mkdir()
    (folder / "train" / "c" / "4.nef").write_bytes(b"II*\0")
    counts, left_out = counted(folder)
    assert counts["train"] == {"a": 2, "b": 2}
    assert left_out == {HEIC: 2, REASON_OF[".jxl"]: 1, REASON_OF[".nef"]: 1}
    assert "pip install pillow-heif" in caplog.text
    assert "No image is read in c of" in caplog.text


def test_heic_is_read_where_pillow_has_a_plugin(put):
    pillow_heif = pytest.importorskip("pillow_heif")
    folder = put("train/a*2", "train/b*2", "test/b*1")
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red")).save(folder / "test" / "b" / "photo.HEIC")
    splits = load_long_tailed(str(folder))
    assert [image.size == (64, 64) for image in splits["test"]["image"]] == [False, True]


def test_names_that_are_not_utf8_are_counted(put):
    folder = put("train/a*2", "train/b*2", "test/a*1")
    shutil.copy(folder / "train" / "a" / "0.png", os.fsencode(folder / "train" / "a") + b"/\xff.png")
    assert counted(folder) == ({"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 0}}, {NOT_UTF8: 1})


def test_junk_of_systems_and_notebooks_is_no_image(put):
    folder = put("train/a*2", "train/b*2", "test/a*1")
    for junk in ("._0.png", ".ipynb_checkpoints/0-checkpoint.png", "@eaDir/0.png", ".Trash-1000/0.png"):
        put(f"train/a/{junk}")
    put("__MACOSX/train/a/0.png", "__pycache__/0.png", ".git/0.png")
    (folder / "train" / "a" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "train" / "a" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert counted(folder) == ({"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 0}}, {})


def test_stray_files_are_none_of_our_business_and_stray_images_are_named(put, caplog):
    folder = put("train/a*12", "train/b*12", "test/a*2", "test/b*2", "training day.png", "train/0.png", "docs/x.png")
    for name in ("train.log", "how to train.pdf", "train_labels.parquet", "notes_train.txt", "train.csv", "test.h5"):
        (folder / name).write_text("id,label\n1,a\n")
    counts, left_out = counted(folder)
    assert counts == {"train": {"a": 12, "b": 12}, "test": {"a": 2, "b": 2}}
    assert left_out == {BESIDE: 2, OUTSIDE: 1}
    for name in ("training day.png", "train/0.png", "docs/x.png"):
        assert str(folder / name) in caplog.text


def test_one_image_beside_class_folders_without_splits_is_named(put, caplog):
    assert counted(put("a*5", "b*5", "test.png"))[1] == {OUTSIDE: 1}
    assert "test.png" in caplog.text


def test_a_finished_run_inside_of_the_folder_is_no_class(put):
    folder = put("a*5", "b*5", "runs/mine/figures/confusion.png", "runs/mine/baseline/figures/confusion.png")
    for run in ("runs/mine", "runs/mine/baseline"):
        (folder / run / "model.safetensors").write_bytes(b"")
        (folder / run / "train.csv").write_text("a,b\n")
    counts, left_out = counted(folder)
    assert (counts["train"], left_out) == ({"a": 4, "b": 4}, {OF_A_RUN: 2})


def test_a_class_with_test_images_only_is_named(put):
    with pytest.raises(BadInputError, match=r"Class `owl` of the test split is not among .* \(.*test/owl/0.png\)"):
        load_long_tailed(str(put("train/a*2", "train/b*2", "test/owl*1")))


def test_archives_are_to_be_unpacked(tmp_path):
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(BadInputError, match=r"holds no images, but .*train.zip: give it itself"):
        load_long_tailed(str(tmp_path))
