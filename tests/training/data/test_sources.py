"""Data from everywhere: embedded, a folder of known sets, image folders, Parquet, the Hub; and what is said when not."""

import datasets
import pytest

from tailmoe.training.data import class_counts, load_long_tailed, sources
from tailmoe.training.errors import BadInputError


@pytest.fixture
def image_folder(tmp_path, fashion):
    """Ten images of each of two classes, as files, in `train/<class>`."""
    rows = [row for row in fashion["test"] if row["label"] in (0, 1)]
    for index, row in enumerate(rows):
        folder = tmp_path / "photos" / "train" / ("shirt" if row["label"] == 0 else "trouser")
        folder.mkdir(parents=True, exist_ok=True)
        row["image"].save(folder / f"{index}.png")
    return tmp_path / "photos"


def test_the_embedded_data_has_all_three_shot_groups_and_a_balanced_test_set():
    splits = load_long_tailed()
    assert class_counts(splits["train"]) == [2000, 1110, 616, 341, 189, 105, 58, 32, 18, 10]
    assert class_counts(splits["test"]) == [200] * 10
    assert splits["train"].features["label"].names[9] == "Ankle boot"
    assert splits["train"][0]["image"].size == (28, 28)


def test_the_embedded_files_are_plain_parquet_of_the_hubs_schema():
    files = str(sources.Path(sources.__file__).parent / "fashion_mnist_lt" / "train.parquet")
    train = datasets.load_dataset("parquet", data_files=files, split="train")
    assert isinstance(train.features["image"], datasets.Image)
    assert isinstance(train.features["label"], datasets.ClassLabel)


def test_a_folder_of_images_without_test_split_holds_out_a_fifth_of_each_class(image_folder):
    splits = load_long_tailed(str(image_folder))
    assert splits["train"].features["label"].names == ["shirt", "trouser"]
    total = [a + b for a, b in zip(class_counts(splits["train"]), class_counts(splits["test"]), strict=True)]
    assert class_counts(splits["test"]) == [max(round(n / 5), 1) for n in total]
    assert load_long_tailed(str(image_folder))["test"]["label"] == splits["test"]["label"]


def test_a_validation_split_serves_where_there_is_no_test_split(tmp_path, fashion):
    fashion["train"].to_parquet(tmp_path / "train-00000-of-00001.parquet")
    fashion["test"].to_parquet(tmp_path / "validation.parquet")
    splits = load_long_tailed(str(tmp_path))
    assert (len(splits["train"]), len(splits["test"])) == (len(fashion["train"]), len(fashion["test"]))


def test_a_single_parquet_file_is_split(tmp_path, fashion):
    fashion["test"].to_parquet(tmp_path / "all.parquet")
    splits = load_long_tailed(str(tmp_path / "all.parquet"))
    assert len(splits["train"]) + len(splits["test"]) == len(fashion["test"])


def test_columns_are_found_by_type_and_get_the_standard_names(tmp_path, fashion):
    renamed = (
        fashion["test"].rename_columns({"image": "img", "label": "kind"}).add_column("id", range(len(fashion["test"])))
    )
    renamed.to_parquet(tmp_path / "train.parquet")
    assert set(load_long_tailed(str(tmp_path))["train"].column_names) == {"image", "label"}


def test_columns_that_could_both_be_meant_are_asked_for(tmp_path, fashion):
    test = fashion["test"]
    twice = test.add_column("coarse", test["label"], feature=test.features["label"])
    twice.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(BadInputError, match=r"could be label or coarse: name it with `--set data.label_column=...`"):
        load_long_tailed(str(tmp_path))
    assert len(load_long_tailed(str(tmp_path), label_column="coarse")["train"]) > 0
    with pytest.raises(BadInputError, match="no column `fine`; the columns are"):
        load_long_tailed(str(tmp_path), label_column="fine")
    with pytest.raises(BadInputError, match=r"Column `label` holds ClassLabel.*, not images"):
        load_long_tailed(str(tmp_path), image_column="label", label_column="coarse")


def test_labels_may_be_words(tmp_path, fashion):
    names = fashion["test"].features["label"].names
    words = [names[label] for label in fashion["test"]["label"]]
    fashion["test"].remove_columns("label").add_column("label", words).to_parquet(tmp_path / "train.parquet")
    assert load_long_tailed(str(tmp_path))["train"].features["label"].names == sorted(set(words))


def test_a_known_set_comes_from_the_folder_that_the_variable_names(tmp_path, fashion, monkeypatch):
    (tmp_path / "mnist").mkdir()
    for split in fashion:
        fashion[split].to_parquet(tmp_path / "mnist" / f"{split}.parquet")
    monkeypatch.setenv("TAILMOE_DATA_DIR", str(tmp_path))
    assert len(load_long_tailed("mnist")["train"]) == len(fashion["train"])
    with pytest.raises(BadInputError, match=r"TAILMOE_DATA_DIR names a folder without .*cifar10.train\.parquet"):
        load_long_tailed("cifar10")


def test_a_known_set_comes_from_the_hub_without_the_variable(monkeypatch, fashion):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append(args)
        return datasets.DatasetDict({split: data.rename_column("image", "img") for split, data in fashion.items()})

    monkeypatch.delenv("TAILMOE_DATA_DIR", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert set(load_long_tailed("cifar10")["train"].column_names) == {"image", "label"}
    assert asked == [("uoft-cs/cifar10",)]


def test_the_embedded_data_refuses_a_second_imbalance():
    with pytest.raises(BadInputError, match="has an imbalance factor of 200 already"):
        load_long_tailed("fashion_mnist_lt", 100)


def test_data_that_cannot_be_found_says_what_can_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("offline")))
    with pytest.raises(BadInputError, match=r"`nobody/nothing` cannot be loaded: offline.*TAILMOE_DATA_DIR") as error:
        load_long_tailed("nobody/nothing")
    assert "\n" not in str(error.value)
    with pytest.raises(BadInputError, match="holds no images"):
        load_long_tailed(str(tmp_path))
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(BadInputError, match="is not a Parquet file"):
        load_long_tailed(str(tmp_path / "notes.txt"))


def test_splits_of_different_classes_are_refused(tmp_path, fashion):
    other = fashion["test"].cast_column("label", datasets.ClassLabel(names=[f"class {c}" for c in range(10)]))
    fashion["train"].to_parquet(tmp_path / "train.parquet")
    other.to_parquet(tmp_path / "test.parquet")
    with pytest.raises(BadInputError, match="differ between its training and its test split"):
        load_long_tailed(str(tmp_path))
