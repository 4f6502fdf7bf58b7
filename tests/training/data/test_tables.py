"""Images named by tables: CSV files and the lists of ImageNet-LT and iNaturalist 2018."""

import json

import datasets
import pytest

from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.data.formats import REASON_OF
from tailmoe.training.data.splits import load_split
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


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        (["01", "02", "1", "10"], ["01", "1", "02", "10"]),
        (["true", "false"], ["false", "true"]),
        (["1e3", "1.50", "-0"], ["-0", "1.50", "1e3"]),
        (["NA", "nan", "None", "null"], ["NA", "None", "nan", "null"]),
        ([" cat", "cat", "Ölkäfer"], [" cat", "cat", "Ölkäfer"]),
        (["2024-01-02", '"a, b"', '5" nail'], ["2024-01-02", '5" nail', "a, b"]),
    ],
)
def test_labels_of_a_table_are_text(table, given, classes):
    path = str(table("path,label", *rows_of(*given * 2)))
    assert names(load_long_tailed(path)) == classes
    train = load_split(path)
    assert [classes[label] for label in train["label"]][:2] == [
        name.strip('"') if "," in name else name for name in given[:2]
    ]


def test_a_table_may_begin_with_a_byte_order_mark_and_have_empty_lines(table):
    assert names(load_long_tailed(str(table("\ufeffpath,label", "", *rows_of(*"abab"), "")))) == ["a", "b"]


def test_paths_of_lists_may_have_spaces_and_files_no_suffix(table, pictures):
    path = table(*(f"photos/no suffix {index} {index % 2}" for index in range(6)), name="x_train.txt")
    for index in range(6):
        pictures[index].save(path.parent / "photos" / f"no suffix {index}", "PNG")
    path.rename(path.parent / "list.txt")
    table("file,label", *(f"photos/no suffix {index},{index % 2}" for index in range(6)), name="train.csv")
    assert class_counts(load_long_tailed(str(path.parent))["train"]) == [2, 2]


def test_rows_that_repeat_a_file_stay_on_one_side(table, caplog):
    lines = rows_of(*"abababababab")
    splits = load_long_tailed(str(table("path,label", *lines[:6] * 5, *lines[6:])))
    sides = [{image.tobytes() for image in rows["image"]} for rows in splits.values()]
    assert not sides[0] & sides[1]
    assert [len(side) for side in sides] == [10, 2]
    assert splits.num_shared == 0
    assert len(splits["train"]) + len(splits["test"]) == 36


def test_rows_of_one_file_with_two_labels_are_refused_under_any_name_of_it(table):
    for again in ("photos/001.png,cat", "./photos/../photos/001.png,cat", "photos/linked.png,cat"):
        path = table("path,label", *rows_of("dog", "dog", "cat"), again)
        if not (path.parent / "photos" / "linked.png").exists():
            (path.parent / "photos" / "linked.png").symlink_to("001.png")
        with pytest.raises(BadInputError, match=r"001.png|linked.png has two labels, dog and cat: remove the rows"):
            load_long_tailed(str(path))


def test_a_file_in_the_tables_of_training_and_of_test_is_told(table, caplog):
    table("path,label", *rows_of(*"abababab"), name="train.csv")
    path = table("path,label", *rows_of(*"ab", start=6), *rows_of(*"ab", start=8), name="test.csv")
    assert load_long_tailed(str(path.parent)).num_shared == 2
    assert "Of 4 test images, 2 are among the training images too, byte for byte (such as" in caplog.text
    caplog.clear()
    assert len(load_split(str(path.parent))) == 4
    assert "Of 4 test images, 2 are among the training images too" in caplog.text


def test_images_of_a_table_that_pillow_does_not_read_are_counted(table, caplog):
    path = table("path,label", *rows_of(*"abab"), "photos/x.jxl,a", "photos/y.JXL,b")
    for name in ("x.jxl", "y.JXL"):
        (path.parent / "photos" / name).write_bytes(b"x")
    splits = load_long_tailed(str(path))
    assert splits.left_out == {REASON_OF[".jxl"]: 2}
    assert len(splits["train"]) == 2
    assert "photos/x.jxl" in caplog.text


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_table_beside_the_images_may_tell_their_labels(table, name, image_folder):
    rows = [{"file_name": f"{index:03}.png", "label": index % 2, "note": None} for index in range(12)]
    lines = [json.dumps(row) for row in rows]
    if name.endswith("csv"):
        lines = ["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)]
    path = table(*lines, name=f"photos/{name}")
    assert class_counts(load_long_tailed(str(path.parent))["train"]) == [5, 5]
    (path.parent.parent / "photos").rename(path.parent.parent / "train")
    assert names(load_long_tailed(str(path.parent.parent))) == ["0", "1"]


def test_a_table_of_test_images_alone_is_measured_whole(table):
    path = table("path,label", *rows_of(*"abbab"), name="test.csv")
    assert len(load_split(str(path.parent))) == 5
    assert len(load_split(str(path.parent), "test")) == 5
    assert len(load_split(str(path))) == 5
    with pytest.raises(BadInputError, match="has no split `train`; its splits are test"):
        load_long_tailed(str(path.parent))


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
        (["path label", "photos/001.png a"], r"begins with 'path label', whose cells cannot be told apart: save it"),
        (["path:label", "photos/001.png:a"], r"separated by commas, semicolons, tabs or \|"),
        (["path;label", "photos/a;b.png;a"], "Row 0 of .* has 3 cells, .* cells with a semicolon must stand in quot"),
        (rows_of(*"abab"), r"begins with the path photos/000.png: its first line must name the columns, such as"),
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


def test_a_table_beside_images_without_class_folders_is_read_although_it_names_none(table):
    path = table("id,label", "0,a", "1,b", name="train.csv")
    (path.parent / "photos").rename(path.parent / "train")
    with pytest.raises(BadInputError, match="The image column is none of id, label: name it with"):
        load_long_tailed(str(path.parent))


def test_two_tables_of_one_split_are_not_mixed(table):
    for name in ("val.csv", "validation.csv", "train.csv"):
        path = table("image,label", *rows_of(*"abab"), name=name)
    with pytest.raises(BadInputError, match=r"holds val.csv and validation.csv: keep one"):
        load_long_tailed(str(path.parent))
