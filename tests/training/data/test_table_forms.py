"""The forms in which lists of HAM10000, ISIC, Kaggle and iNaturalist come: delimiters, names instead of paths, a column a class."""

import shutil

import pytest

from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.data.splits import load_split
from tailmoe.training.errors import BadInputError


@pytest.fixture
def photos(image_folder):
    """A folder with `part_1/ISIC_000.png` to `002` and `part_2/ISIC_003.png` to `005`."""
    folder = image_folder(photos=6)
    for index, path in enumerate(sorted((folder / "photos").iterdir())):
        place = folder / f"part_{1 + index // 3}" / f"ISIC_{index:03}.png"
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    (folder / "photos").rmdir()
    return folder


def written(folder, *lines, name="list.csv", encoding="utf-8"):
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(folder / name)


def labels_of(path, **options):
    rows = load_split(path, **options)
    return [rows.features["label"].names[label] for label in rows["label"]]


PATHS = [f"part_{1 + index // 3}/ISIC_{index:03}.png" for index in range(6)]
IDS = [f"ISIC_{index:03}" for index in range(6)]
CLASSES = ["a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "tab", "CSV"])
def test_cells_may_be_parted_by_any_of_the_usual_marks_whatever_the_suffix(photos, mark, suffix):
    lines = [mark.join(cells) for cells in zip(PATHS, CLASSES, strict=True)]
    assert labels_of(written(photos, f"path{mark}label", *lines, name=f"list.{suffix}")) == CLASSES


def test_a_mark_within_cells_parts_none(photos):
    rows = [f'{path};"{label}; or, so";0,5' for path, label in zip(PATHS, CLASSES, strict=True)]
    assert labels_of(written(photos, "path;label;age, years", *rows))[0] == "a; or, so"


def test_the_line_in_which_excel_names_the_mark_is_no_header(photos):
    rows = [f"{path};{label}" for path, label in zip(PATHS, CLASSES, strict=True)]
    assert labels_of(written(photos, "sep=;", "path;label", *rows, encoding="utf-8-sig")) == CLASSES


@pytest.mark.parametrize(
    "names",
    [
        [".\\" + path.replace("/", "\\") for path in PATHS],
        [path.replace("/", "\\") for path in PATHS],
        ["./" + path for path in PATHS],
        IDS,
        [f"{name}.png" for name in IDS],
        [f"{name}.PNG" for name in IDS],
        [name.lower() for name in IDS],
        [path.removesuffix(".png") for path in PATHS],
        [f"  {name} " for name in IDS],
    ],
)
def test_images_are_found_by_the_paths_and_names_that_lists_have(photos, names):
    rows = [f"{name},{label},{index}" for index, (name, label) in enumerate(zip(names, CLASSES, strict=True))]
    path = written(photos, "image_id,label,age", *rows)
    assert labels_of(path) == CLASSES
    found = load_split(path).cast_column("image", load_split(path).features["image"].__class__(decode=False))
    assert [image["path"] for image in found["image"]] == [str(photos / path) for path in PATHS]


def test_a_column_that_numbers_rows_is_taken_for_images_only_where_no_cell_is_there_twice(photos):
    for index, path in enumerate(PATHS):
        (photos / path).rename(photos / path.replace(f"ISIC_{index:03}", str(index)))
    rows = [f"{index},{index % 2}" for index in range(6)]
    assert labels_of(written(photos, "id,kind", *rows), label_column="kind") == ["0", "1"] * 3


def test_the_same_image_in_two_folders_counts_as_one_and_another_of_that_name_is_refused(photos):
    shutil.copytree(photos / "part_1", photos / "PART_1")
    path = written(photos, "image,label", *(f"{name},{label}" for name, label in zip(IDS, CLASSES, strict=True)))
    assert labels_of(path) == CLASSES
    shutil.copy(photos / PATHS[5], photos / "PART_1" / "ISIC_001.png")
    with pytest.raises(
        BadInputError, match=r"Row 1 of .*`ISIC_001` may be .*PART_1/ISIC_001.png or .*part_1/ISIC_001"
    ):
        load_split(path, image_column="image")


def test_folders_in_a_path_are_heeded_where_names_are_there_twice(photos):
    shutil.copy(photos / PATHS[5], photos / "part_2" / "ISIC_001.png")
    names = ["part_1\\ISIC_001", "part_2\\ISIC_001"]
    path = written(photos, "image,label", f"{names[0]},a", f"{names[1]},b")
    rows = load_split(path)
    assert rows[0]["image"].tobytes() != rows[1]["image"].tobytes()


def one_hot(*rows, columns="image,MEL,NV,BCC"):
    return [columns, *(f"{name},{row}" for name, row in zip(IDS, rows, strict=False))]


@pytest.mark.parametrize(("yes", "no"), [("1.0", "0.0"), ("1", "0"), ("1", ""), ("True", "False")])
def test_a_column_for_each_class_makes_the_labels(photos, yes, no):
    rows = [
        ",".join(yes if name == label else no for name in ("MEL", "NV", "BCC")) for label in ["NV", "MEL", "NV"] * 2
    ]
    assert labels_of(written(photos, *one_hot(*rows))) == ["NV", "MEL", "NV"] * 2
    assert class_counts(load_long_tailed(str(photos / "list.csv"))["train"]) == [1, 3]


def test_a_column_that_numbers_the_rows_is_no_class(photos):
    lines = [f"{index},{line}" for index, line in enumerate(one_hot(*["0,1,0", "1,0,0"] * 3)[1:])]
    assert labels_of(written(photos, ",image,MEL,NV,BCC", *lines)) == ["NV", "MEL"] * 3


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1,1,0", r"Row 1 of .* has a 1 in MEL and NV of the columns MEL, NV, BCC: an image has one class"),
        ("0,0,0", r"Row 1 of .* has a 1 in none of the columns"),
        ("0,0.4,0.6", r"The label column is none of image, MEL, NV, BCC"),
    ],
)
def test_rows_of_several_classes_or_none_are_refused_with_their_number(photos, row, told):
    path = written(photos, *one_hot("1,0,0", row, "0,1,0"))
    with pytest.raises(BadInputError, match=told):
        load_long_tailed(path)
    assert labels_of(path, label_column="BCC")[0] == "0"


def test_columns_of_yes_and_no_beside_others_are_not_taken_for_classes(photos):
    lines = [f"{name},{label},1,0" for name, label in zip(IDS, CLASSES, strict=True)]
    with pytest.raises(BadInputError, match="The label column is none of image, species, male, female: name it with"):
        load_long_tailed(written(photos, "image,species,male,female", *lines))


def test_a_list_of_lines_may_be_given_itself(photos):
    rows = [f"{path} {label}" for path, label in zip(PATHS, CLASSES, strict=True)]
    assert labels_of(written(photos, *rows, name="mine.txt")) == CLASSES


def test_tables_of_splits_may_be_parted_by_tabs(photos):
    for split, part in (("train", slice(0, 4)), ("test", slice(4, 6))):
        rows = [f"{name}\t{label}" for name, label in zip(IDS[part], CLASSES[part], strict=True)]
        written(photos, "image_id\tlabel", *rows, name=f"{split}.tsv")
    splits = load_long_tailed(str(photos))
    assert (len(splits["train"]), len(splits["test"])) == (4, 2)


def test_a_table_beside_folders_that_would_be_classes_is_told(photos, caplog):
    written(
        photos, "image_id,dx", *(f"{name},{label}" for name, label in zip(IDS, CLASSES, strict=True)), name="m.csv"
    )
    load_split(str(photos))
    assert "m.csv names images, but the classes are taken from the folders: give the file itself" in caplog.text


def test_images_of_one_class_alone_cannot_be_learnt_but_measured(photos):
    path = written(photos, "path,label", *(f"{path},cat" for path in PATHS))
    with pytest.raises(BadInputError, match="All 6 training images are of one class, `cat`: there is nothing to tell"):
        load_long_tailed(path)
    assert labels_of(path) == ["cat"] * 6
