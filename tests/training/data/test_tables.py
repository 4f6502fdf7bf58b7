"""Images named by tables: CSV files and the lists of ImageNet-LT and iNaturalist 2018."""

import datasets
import pytest

from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.errors import BadInputError


@pytest.fixture
def table(image_folder):
    """Writes a CSV file of lines beside `photos/000.png` to `011.png` and returns its path."""

    def make(*lines, name="photos.csv"):
        folder = image_folder() if (image_folder() / "photos").exists() else image_folder(photos=12)
        (folder / name).write_text("\n".join(lines) + "\n")
        return folder / name

    return make


def rows_of(*labels, start=0):
    return [f"photos/{index + start:03}.png,{label}" for index, label in enumerate(labels)]


def names(splits):
    return splits["train"].features["label"].names


def test_a_csv_file_names_images_beside_it_and_their_classes(table, pictures):
    splits = load_long_tailed(str(table("path,label", *rows_of("cat", "dog", "cat", "dog", "cat", "None"))))
    assert names(splits) == ["None", "cat", "dog"]
    assert class_counts(splits["train"]) == [1, 2, 1]
    assert splits["train"].column_names == ["image", "label"]
    assert isinstance(splits["train"].features["image"], datasets.Image)
    last = splits["train"].filter(lambda label: label == 0, input_columns="label")
    assert last[0]["image"].tobytes() == pictures[5].tobytes()


def test_numbers_are_classes_in_their_own_order_and_columns_may_be_named(table):
    lines = [f"{line},photos/011.png" for line in rows_of(*[10, 9, 10, 9] * 3)]
    path = str(table("file,number,mask", *lines))
    with pytest.raises(BadInputError, match=r"could be file or mask: name the column with `--set data.image_column"):
        load_long_tailed(path)
    with pytest.raises(BadInputError, match=r"The label column is none of .*: name it with `--set data.label_column"):
        load_long_tailed(path, image_column="file")
    assert names(load_long_tailed(path, image_column="file", label_column="number")) == ["9", "10"]


def test_a_folder_may_hold_a_table_for_each_split(table):
    for name, labels, start in (("train.csv", "abab", 0), ("val.csv", "ab", 4), ("test.csv", "bba", 6)):
        path = table("image,label", *rows_of(*labels, start=start), name=name)
    splits = load_long_tailed(str(path.parent))
    assert (len(splits["train"]), splits["test"]["label"][:]) == (4, [1, 1, 0])


def test_a_table_without_labels_is_no_test_split(table):
    table("id,image,label", *(f"{i},{row}" for i, row in enumerate(rows_of(*"ababab"))), name="train.csv")
    path = table("id,image", "1,photos/007.png", name="test.csv")
    assert len(load_long_tailed(str(path.parent))["train"]) == 4


@pytest.mark.parametrize(("prefix", "held"), [("ImageNet_LT", "test"), ("iNaturalist18", "val")])
def test_the_published_lists_of_paths_and_numbers_are_read_where_the_images_are(table, prefix, held):
    table(*(row.replace(",", " ") for row in rows_of(*[0, 1, 2, 10] * 2)), name=f"{prefix}_train.txt")
    path = table(*(row.replace(",", " ") for row in rows_of(10, 1, start=8)), name=f"{prefix}_{held}.txt")
    splits = load_long_tailed(str(path.parent))
    assert names(splits) == ["0", "1", "2", "10"]
    assert (len(splits["train"]), splits["test"]["label"][:]) == (8, [3, 1])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path,label", *rows_of(*"ab"), "photos/nine.png,a"],
            r"Row 2 of .*photos.csv names `photos/nine.png`, which",
        ),
        (["path,label", *rows_of(*"ab"), ",a"], r"Row 2 of .*photos.csv names no image: paths are relative to"),
        (["path,label", *rows_of(1, 2), "photos/004.png,"], "Row 2 has no label: column `label` is empty there"),
        (["path,label", *rows_of(*"ab"), "photos/a,b.png,a"], "Row 2 of .* has 3 cells, and there are 2 columns"),
        (["path,label,label", "photos/001.png,a,b"], "photos.csv has two columns `label`: rename one of them"),
        (["path,label", 'photos/001.png,"a'], "photos.csv cannot be read: unexpected end of data; save it as UTF-8"),
        (["who,label", "me,1"], "The image column is none of who, label: name it"),
        (["path,kind", *rows_of(*"ab")], "The label column is none of path, kind: name it with"),
        (["path,label"], "photos.csv has no row: give a CSV file with a header, a column of paths and one"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_row(table, lines, message):
    with pytest.raises(BadInputError, match=message) as error:
        load_long_tailed(str(table(*lines)))
    assert "\n" not in str(error.value)


def test_two_tables_of_one_split_are_not_mixed(table):
    for name in ("val.csv", "validation.csv", "train.csv"):
        path = table("image,label", *rows_of(*"abab"), name=name)
    with pytest.raises(BadInputError, match=r"holds val.csv and validation.csv: keep one"):
        load_long_tailed(str(path.parent))
