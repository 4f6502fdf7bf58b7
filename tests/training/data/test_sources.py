"""Where images come from, which columns hold them, and what is said of data that cannot be used."""

import logging
import re
import shutil
import types

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import HfApi

from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.data.sources import hub_id
from tailmoe.training.errors import BadInputError

ABC = datasets.ClassLabel(names=["a", "b", "c"])
INTEGER = datasets.Value("int64")
STRING = datasets.Value("string")


def names(splits):
    return splits["train"].features["label"].names


def rows(splits):
    return {split: len(dataset) for split, dataset in splits.items()}


# places


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100), ("mnist", 10)])
def test_known_data_sets_come_from_the_data_folder_in_the_same_two_columns(data_dir, name, num_classes):
    splits = load_long_tailed(name, imbalance_factor=20)
    for split in splits.values():
        assert split.column_names == ["image", "label"]
        assert isinstance(split.features["image"], datasets.Image)
        assert split.features["label"].num_classes == num_classes
    assert len(splits["test"]) == 10000
    counts = class_counts(splits["train"])
    assert counts == sorted(counts, reverse=True)


def test_the_coarse_labels_of_cifar100_can_be_chosen(data_dir):
    assert len(names(load_long_tailed("cifar100", label_column="coarse_label"))) == 20


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_file_missing_in_the_data_folder_is_named(monkeypatch, tmp_path, parquet, missing):
    for split in ("train", "test"):
        path = parquet(split, label=(ABC, [0, 1, 2]))
    shutil.copytree(path.parent, tmp_path / "mnist")
    (tmp_path / "mnist" / f"{missing}.parquet").unlink()
    monkeypatch.setenv("TAILMOE_DATA_DIR", str(tmp_path))
    message = re.escape(f"TAILMOE_DATA_DIR names a folder without {tmp_path}/mnist/{missing}.parquet")
    with pytest.raises(BadInputError, match=message):
        load_long_tailed("mnist")


@pytest.mark.parametrize("nested", [".", "data"])
def test_a_folder_of_parquet_files_may_have_shards_and_be_laid_out_as_on_the_hub(parquet, nested):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        path = parquet(name, label=(ABC, [0, 1, 2, 1]))
    folder = path.parent
    if nested != ".":
        (folder / nested).mkdir()
        for file in folder.glob("*.parquet"):
            file.rename(folder / nested / file.name)
    assert rows(load_long_tailed(str(folder))) == {"train": 8, "test": 4}


def test_a_folder_of_images_takes_its_classes_from_folders(image_folder):
    splits = load_long_tailed(str(image_folder(train_cat=8, train_dog=3, test_cat=2, test_dog=2)), imbalance_factor=2)
    assert names(splits) == ["cat", "dog"]
    assert class_counts(splits["train"]) == [7, 3]
    assert class_counts(splits["test"]) == [2, 2]


def test_validation_stands_in_for_a_missing_test_split(image_folder):
    splits = load_long_tailed(str(image_folder(train_cat=3, train_dog=3, val_cat=1, val_dog=2)))
    assert rows(splits) == {"train": 6, "test": 3}


def test_validation_stands_in_for_a_test_split_without_labels(parquet):
    parquet("train", label=(ABC, [0, 1, 2] * 3))
    parquet("validation", label=(ABC, [0, 1, 2, 2]))
    path = parquet("test", label=(ABC, [-1] * 6))
    assert rows(load_long_tailed(str(path.parent))) == {"train": 9, "test": 4}


def test_a_fifth_of_each_class_is_held_out_when_there_is_no_test_split(parquet, caplog):
    caplog.set_level(logging.INFO, logger="tailmoe")
    path = parquet(label=(ABC, [0] * 20 + [1] * 10 + [2]))
    splits = load_long_tailed(str(path))
    assert np.bincount(splits["train"]["label"][:]).tolist() == [16, 8, 1]
    assert np.bincount(splits["test"]["label"][:]).tolist() == [4, 2]
    assert "6 of 31 images were held out" in caplog.text
    again = load_long_tailed(str(path))
    for split in splits:
        assert splits[split]._indices.equals(again[split]._indices)


@pytest.mark.parametrize("stray", ["train_backup", "trainer", "train-old", "test_old", "features_train"])
def test_parquet_files_of_other_names_are_of_no_split(parquet, stray):
    parquet("train", label=(ABC, [0, 1, 2] * 2))
    parquet(stray, label=(ABC, [0, 1, 2] * 5))
    path = parquet("test", label=(ABC, [0, 1, 2]))
    assert rows(load_long_tailed(str(path.parent))) == {"train": 6, "test": 3}
    assert rows(load_long_tailed(str(path.parent), streaming=True)) == {"train": 6, "test": 3}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train", "train-00000-of-00001"],
            "train-00000-of-00001.parquet and train.parquet, which are not shards of one",
        ),
        (["train", "training"], "train.parquet and training.parquet, which are not shards of one split"),
        (["train-00000-of-00002"], "holds 1 of the 2 shards of train: add the others"),
    ],
)
def test_parquet_files_that_are_no_whole_split_are_refused(parquet, names, message):
    for name in names:
        path = parquet(name, label=(ABC, [0, 1, 2]))
    with pytest.raises(BadInputError, match=message):
        load_long_tailed(str(path.parent))


def test_numbered_parquet_files_belong_to_the_folder_of_their_split(parquet):
    for split, numbers in (("train", 2), ("test", 1)):
        for number in range(numbers):
            path = parquet(f"{number:04}", label=(ABC, [0, 1, 2]))
            (path.parent.parent / "data" / split).mkdir(parents=True, exist_ok=True)
            path.rename(path.parent.parent / "data" / split / path.name)
    assert rows(load_long_tailed(str(path.parent.parent / "data"))) == {"train": 6, "test": 3}


def test_parquet_files_beside_class_folders_are_refused(parquet, image_folder):
    folder = image_folder(train_a=2, train_b=2)
    shutil.copy(parquet(label=(ABC, [0, 1, 2])), folder / "train.parquet")
    with pytest.raises(BadInputError, match=r"holds both .*train.parquet and images in folders, such as .*: move one"):
        load_long_tailed(str(folder))


# copies


def test_copies_in_parquet_files_are_held_out_together(parquet, pictures):
    path = parquet(label=(ABC, [0, 1, 2] * 30))  # sixty different images: the first thirty are there twice
    splits = load_long_tailed(str(path))
    sides = [{image.tobytes() for image in split["image"]} for split in splits.values()]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 12
    assert len(splits["train"]) + len(splits["test"]) == 90


def test_the_same_bytes_in_training_and_test_are_counted_and_told(parquet, caplog):
    parquet("train", label=(ABC, [0, 1, 2] * 4))
    path = parquet("test", label=(ABC, [0, 1, 2]))
    assert load_long_tailed(str(path.parent)).num_shared == 3
    assert "Of 3 test images, 3 are among the training images too, byte for byte" in caplog.text
    assert load_long_tailed(str(path.parent), imbalance_factor=2).num_shared == 3
    assert load_long_tailed(str(path.parent), streaming=True).num_shared is None


def test_validation_images_have_no_copy_in_training(parquet):
    splits = load_long_tailed(str(parquet(label=(ABC, [0, 1, 2] * 40))), validation_per_class=4)
    sides = [{image.tobytes() for image in split["image"]} for split in splits.values()]
    assert not sides[0] & sides[1]
    assert np.bincount(splits["test"]["label"]).tolist() == [8, 8, 8]


# columns


def test_columns_are_found_by_their_types(parquet):
    path = parquet(extra=(STRING, list("wxyz")), kind=(ABC, [0, 1, 2, 0]))
    splits = load_long_tailed(str(path))
    assert splits["train"].column_names == ["image", "label"]
    assert names(splits) == ["a", "b", "c"]


def test_label_numbers_become_classes_in_their_order(parquet):
    values = [10, 2, 1, 3, 2, 10, 1, 3]
    splits = load_long_tailed(str(parquet(labels=(INTEGER, values))))
    assert names(splits) == ["1", "2", "3", "10"]
    both = sorted(splits["train"]["label"][:] + splits["test"]["label"][:])
    assert both == [0, 0, 1, 1, 2, 2, 3, 3]


def test_label_names_become_classes_and_stay_with_their_images(parquet, pictures):
    splits = load_long_tailed(str(parquet(kind=(STRING, ["b", "a", "b", "a"]))), label_column="kind")
    assert names(splits) == ["a", "b"]
    for row in [*splits["train"], *splits["test"]]:
        source = next(i for i in range(4) if np.array_equal(np.asarray(pictures[i]), np.asarray(row["image"])))
        assert row["label"] == [1, 0, 1, 0][source]


def test_a_test_split_may_lack_a_rare_class_but_not_have_an_unknown_one(parquet):
    parquet("train", label=(STRING, ["a", "b", "c"]))
    path = parquet("test", label=(STRING, ["c", "a"]))
    splits = load_long_tailed(str(path.parent))
    assert splits["test"]["label"][:] == [2, 0]
    parquet("test", label=(STRING, ["c", "w"]))
    with pytest.raises(BadInputError, match="Class `w` of the test split is not among the classes of the training"):
        load_long_tailed(str(path.parent))


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["a", "b", "d"], "its test split: c, d"), (["b", "a", "c"], "its test split: in another order")],
)
def test_the_classes_of_both_splits_must_agree(parquet, classes, message):
    parquet("train", label=(ABC, [0, 1, 2]))
    path = parquet("test", label=(datasets.ClassLabel(names=classes), [0, 1, 2]))
    with pytest.raises(BadInputError, match=message):
        load_long_tailed(str(path.parent))


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (
            {"fine": (ABC, [0, 1]), "coarse": (ABC, [0, 1])},
            {},
            "The label column could be fine or coarse: name it with `--set data.label_column=...`",
        ),
        (
            {"thumb": (datasets.Image(), [None, None]), "label": (ABC, [0, 1])},
            {},
            "The image column could be image or thumb: name it with `--set data.image_column=...`",
        ),
        ({"kind": (STRING, ["a", "b"])}, {}, "The label column is none of image, kind: name it"),
        ({"label": (ABC, [0, 1])}, {"label_column": "labels"}, "no column `labels`; the columns are image, label"),
        ({"label": (ABC, [0, 1])}, {"image_column": "img"}, "There is no column `img`"),
        ({"label": (ABC, [0, 1])}, {"image_column": "label", "label_column": "label"}, "cannot hold both"),
        (
            {"text": (STRING, ["a", "b"]), "label": (ABC, [0, 1])},
            {"image_column": "text"},
            "`text` holds .* not images",
        ),
        ({"label": (datasets.Value("float32"), [0, 1])}, {}, "labels must be class names or whole numbers"),
        ({"label": (datasets.List(INTEGER), [[0], [1]])}, {}, "labels must be class names or whole numbers"),
        ({"label": (INTEGER, [0, None])}, {}, "Row 1 has no label: column `label` is empty there"),
        ({"label": (ABC, [0, None])}, {}, "Row 1 has no label"),
        ({"label": (ABC, [0, 1, -1])}, {}, "Label -1 is out of range: there are 3 classes"),
        ({"label": (ABC, [])}, {}, "cannot be loaded: .*; give whole Parquet files with images"),
        ({"label": (ABC, [0, 1, 2])}, {}, "no test split, and no class has two different images"),
        ({"label": (ABC, [0, 0, 1, 1])}, {"imbalance_factor": 2}, "Class 2 has no training image"),
        ({"label": (ABC, [0, 1, 2] * 2)}, {"imbalance_factor": 0.5}, "`imbalance_factor` must be at least 1, got 0.5"),
        ({"label": (ABC, [0, 1, 2] * 2)}, {"selection": "last"}, "`selection` must be first or shuffled, got last"),
        ({"label": (ABC, [0, 1, 2] * 2)}, {"revision": "main"}, "`revision` main is for a data set on the Hub"),
    ],
)
def test_unusable_columns_are_told(parquet, columns, arguments, message):
    with pytest.raises(BadInputError, match=message) as error:
        load_long_tailed(str(parquet(**columns)), **arguments)
    assert "\n" not in str(error.value)


def test_parquet_without_feature_types_says_how_to_give_them(tmp_path):
    table = pyarrow.table({"image": [{"bytes": b"x"}] * 2, "label": ["a", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "plain.parquet")
    with pytest.raises(BadInputError, match="The image column is none of image, label"):
        load_long_tailed(str(tmp_path / "plain.parquet"))
    with pytest.raises(BadInputError, match=re.escape("`dataset.cast_column('image', datasets.Image())`")):
        load_long_tailed(str(tmp_path / "plain.parquet"), image_column="image")


# what cannot be loaded


def test_images_without_class_folders_are_told_where_to_go(image_folder):
    with pytest.raises(BadInputError, match="or sort the images into folders train/<class>"):
        load_long_tailed(str(image_folder(train=3)))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.parquet", b"no parquet", "cannot be loaded: .*; give whole Parquet files"),
        ("pictures.parquet", b"", "There is no .*train.parquet"),
        ("notes.txt", b"text", "holds no images: give a folder with train/<class>/<image>"),
        (None, None, "holds no images: give a folder with train/<class>/<image>"),
    ],
)
def test_a_folder_without_usable_files_is_told(tmp_path, file, content, message):
    if file is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(BadInputError, match=message) as error:
        load_long_tailed(str(tmp_path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_parquet_or_not_there_is_told(tmp_path):
    (tmp_path / "table.xlsx").write_text("a,b")
    with pytest.raises(BadInputError, match=r"table.xlsx` is no Parquet, CSV, TSV, ZIP or TAR file"):
        load_long_tailed(str(tmp_path / "table.xlsx"))
    for name in (str(tmp_path / "none"), "./none", "no/such/data", "mine/list.csv", "train.parquet"):
        for streaming in (False, True):
            with pytest.raises(BadInputError, match=f"`{name}` cannot be loaded: there is no such file or folder"):
                load_long_tailed(name, streaming=streaming)


@pytest.mark.parametrize(
    ("name", "looked_for", "remedy"),
    [
        ("mnist", "ylecun/mnist", "TAILMOE_DATA_DIR can name a folder with mnist/train.parquet"),
        ("someone/some-data", "someone/some-data", "give fashion_mnist_lt, cifar10, .*TAILMOE_DATA_DIR can name"),
    ],
)
def test_a_hub_out_of_reach_is_one_line_that_names_what_was_looked_for(offline, name, looked_for, remedy):
    with pytest.raises(BadInputError, match=f"`{name}` cannot be loaded: .*{looked_for}.*; .*{remedy}") as error:
        load_long_tailed(name)
    assert "\n" not in str(error.value)


@pytest.fixture
def published(monkeypatch, offline):
    """Makes the Hub give these splits, and returns a list of what it is asked for."""

    def publish(splits):
        asked = []
        builder = types.SimpleNamespace(name="parquet", download_and_prepare=lambda: None, as_dataset=lambda: splits)
        monkeypatch.setattr(
            datasets, "load_dataset_builder", lambda *args, **kwargs: asked.append((args, kwargs)) or builder
        )
        return asked

    return publish


def test_a_data_set_without_a_training_split_is_told(published, embedded):
    published(datasets.DatasetDict(test=embedded["test"]))
    with pytest.raises(BadInputError, match="`someone/data` has no split `train`; its splits are test"):
        load_long_tailed("someone/data")


def test_the_config_and_the_revision_reach_the_hub(published, embedded):
    asked = published(embedded)
    load_long_tailed("someone/data", config_name="small", revision="v2")
    load_long_tailed("mnist", revision="v3")
    assert asked == [(("someone/data", "small"), {"revision": "v2"}), (("ylecun/mnist", None), {"revision": "v3"})]


def test_class_folders_on_the_hub_are_read_as_those_on_this_machine(hub, image_folder):
    """There `datasets` looks for the words train and test anywhere in a path too."""
    folder = image_folder(train_cat=6, train_dog=6, test_cat=3, test_dog=3)
    for split in ("train", "test"):
        (folder / split / "dog").rename(folder / split / "train_station")
    (folder / "test" / "stray.png").write_bytes((folder / "test" / "cat" / "000.png").read_bytes())
    HfApi().create_repo("zoo/stations", repo_type="dataset")
    HfApi().upload_folder(repo_id="zoo/stations", repo_type="dataset", folder_path=folder)
    splits = load_long_tailed("zoo/stations")
    assert names(splits) == ["cat", "train_station"]
    assert [np.bincount(rows["label"]).tolist() for rows in splits.values()] == [[6, 6], [3, 3]]
    assert splits.left_out == {"outside the class folders": 1}


@pytest.mark.parametrize("argument", ["config_name", "revision"])
def test_what_is_of_the_hub_alone_is_refused_for_data_on_this_machine(argument, tmp_path):
    with pytest.raises(BadInputError, match=f"`{argument}` x is for a data set on the Hub"):
        load_long_tailed(str(tmp_path), **{argument: "x"})


def test_validation_images_leave_the_training_split_first_and_stand_in_for_the_test_split(embedded):
    plain, held = load_long_tailed(), load_long_tailed(validation_per_class=3)
    assert held["test"]["label"].count(9) == 3
    assert len(held["test"]) == 30
    assert [n - 3 for n in class_counts(plain["train"])] == class_counts(held["train"])
    last = [row for row, label in enumerate(plain["train"]["label"]) if label == 9][-3:]
    bags = [row["image"].tobytes() for row in held["test"] if row["label"] == 9]
    assert bags == [plain["train"][row]["image"].tobytes() for row in last]
    for wrong in (0, 10):
        with pytest.raises(BadInputError, match="less than the 10 images of the smallest class, got"):
            load_long_tailed(validation_per_class=wrong)


def test_a_folder_with_several_training_splits_is_not_mixed(embedded, tmp_path):
    for config in ("a", "b"):
        (tmp_path / config).mkdir()
        embedded["test"].to_parquet(tmp_path / config / "train.parquet")
    with pytest.raises(BadInputError, match=r"holds several training splits: give one of its folders, such as .*/a"):
        load_long_tailed(str(tmp_path))


def test_data_is_linked_where_it_is_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "birds").mkdir(parents=True)
    assert hub_id("cifar100") == "uoft-cs/cifar100"
    assert hub_id("fashion_mnist_lt") == "zalando-datasets/fashion_mnist"
    assert hub_id("someone/flowers") == "someone/flowers"
    for name in ("photos/birds", "/data/birds", "birds", "../a/b"):
        assert hub_id(name) is None
