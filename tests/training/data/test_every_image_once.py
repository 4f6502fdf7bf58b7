"""Random folders and tables: every image once, in the split and class where it lies, or counted as left out."""

import csv
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tailmoe.training.data.folders import SPLIT_OF
from tailmoe.training.data.inspection import inspect_images
from tailmoe.training.data.sources import find_images
from tailmoe.training.data.splits import load_long_tailed
from tailmoe.training.errors import BadInputError

CLASSES = st.sampled_from(
    [
        *("cat", "dog", "train", "test", "val", "train_station", "test tube", "a train"),
        *(".net", "__other__", "01", "1", "true", "1e3", "None", "data [v2]", "a*", "é", "New York"),
    ]
)
FILES = st.sampled_from(["{}.png", "{}.PNG", "{}", "train {}.png", "{}.test", ".{}.png", "[{}].png", "{}.txt"])
DEEPER = st.sampled_from(["", "", "", "monday/", "train/", "test/x/"])
STRAYS = st.sampled_from(
    ["train.log", "test/notes.txt", "train.csv", "train/metadata.json", "train_old.parquet", "how to train.pdf"]
)
JUNK = st.sampled_from([".ipynb_checkpoints/0.png", "._0.png", "__MACOSX/0.png", "Thumbs.db"])
QUICK = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def image(number):
    return Image.fromarray(np.full((2, 2, 3), np.frombuffer(np.uint32(number).tobytes()[:3], np.uint8)))


@pytest.fixture(scope="module")
def folder():
    """Makes empty folders."""
    tops = []

    def make():
        tops.append(Path(tempfile.mkdtemp()))
        return tops[-1] / "images [x]*"

    yield make
    for top in tops:
        shutil.rmtree(top)


def found_in(folder):
    """Where each image lies in what is found, by its path: split and class."""
    found, places = find_images(str(folder)), Counter()
    for split in found.splits:
        rows = found.standard(split).cast_column("image", datasets.Image(decode=False))
        for row in rows:
            name = rows.features["label"].names[row["label"]]
            places[row["image"]["path"], split if found.has_splits else None, name] += 1
    return places, [path for paths in found.left_out.values() for path in paths]


def write(folder, path, number):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    image(number).save(file, "PNG")
    return str(file)


@QUICK
@given(
    splits=st.sampled_from([("train",), ("train", "test"), ("Train", "val", "Test"), ("training", "validation"), ()]),
    images=st.lists(st.tuples(CLASSES, DEEPER, FILES), min_size=4, max_size=12),
    outside=st.sets(st.sampled_from(["training day.png", "0"])),
    strays=st.sets(STRAYS),
    junk=st.sets(JUNK),
)
def test_every_image_of_a_folder_is_found_once_where_it_lies(folder, splits, images, outside, strays, junk):
    top, lies = folder(), Counter()
    assume(splits or all(name not in SPLIT_OF and not deeper for name, deeper, _ in images))  # by design ambiguous
    for number, (name, deeper, file) in enumerate(images):
        split = splits[number % len(splits)] if splits else None
        path = write(top, f"{split or '.'}/{name}/{deeper}{file.format(number)}", number)
        lies[path, split and SPLIT_OF[split.lower()], name] += 1
    classes = {split: {name for _, of, name in lies if of == split} for _, split, _ in lies}
    assume(all(names <= classes.get("train", names) for names in classes.values()))
    assume(len(classes.get("train", "ab")) > 1)
    elsewhere = [write(top, path, 1000 + number) for number, path in enumerate(sorted(outside))]
    for path in strays:
        if (top / path).parent.is_dir():
            (top / path).write_text("id,label\n1,cat\n")
    for path in junk:
        write(top, f"{splits[0] if splits else '.'}/{images[0][0]}/{path}", 2000)
    places, left_out = found_in(top)
    assert places == lies
    assert sorted(left_out) == sorted(elsewhere)
    about = inspect_images(str(top))
    assert sum(sum(counts.values()) for counts in about["splits"].values()) == len(images)


@QUICK
@given(
    rows=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["a", "b"])), min_size=3, max_size=24),
    names=st.dictionaries(st.sampled_from("ab"), CLASSES, min_size=2),
    tables=st.sampled_from([("photos.csv",), ("train.csv",), ("train.csv", "test.csv"), ("test.csv",)]),
    order=st.booleans(),
)
@example(
    rows=[(i // 6, "ab"[i // 18]) for i in range(36)],
    names={"a": "01", "b": "true"},
    tables=("photos.csv",),
    order=True,
)
def test_every_row_of_a_table_is_found_once_with_its_label(folder, rows, names, tables, order):
    top = folder()
    paths = [write(top, f"train photos/test {number}.png", number) for number in range(8)]
    lies, labels = Counter(), {}
    files = {}
    for index, (number, label) in enumerate(rows):
        table = tables[index % len(tables)]
        cells = {"file": f"train photos/test {number}.png", "label": names[label], "note": "x, y"}
        cells = cells if order else dict(reversed(cells.items()))
        files.setdefault(table, []).append(cells)
        labels.setdefault(number, set()).add(names[label])
        lies[paths[number], None if table == "photos.csv" else table.removesuffix(".csv"), names[label]] += 1
    classes = {table: {cells["label"] for cells in written} for table, written in files.items()}
    assume(all(found <= classes.get("train.csv", found) for found in classes.values()))
    for table, written in files.items():
        with (top / table).open("w", newline="") as file:
            writer = csv.DictWriter(file, written[0])
            writer.writeheader()
            writer.writerows(written)
    source = top / "photos.csv" if tables == ("photos.csv",) else top
    if any(len(found) > 1 for found in labels.values()):
        with pytest.raises(BadInputError, match="has two labels"):
            find_images(str(source))
        return
    assert found_in(source) == (lies, [])


@QUICK
@given(copies=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=2, max_size=3))
@example(copies=[[0, 1, 2, 3, 4, 5] * 10, [0, 1]])
def test_what_is_held_out_is_in_training_in_no_copy(folder, copies):
    """Copies of images, in one class or in several: those held out are like none that is trained on."""
    top, number = folder(), 0
    for name, images in enumerate(copies):
        for content in images:
            number += 1
            shared = content == 5  # the only ones that are of several classes
            write(top, f"class {name}/{number}.png", content if shared else 10 * name + 100 + content)
    of_several = {5} if sum(5 in images for images in copies) > 1 else set()
    if all(len({*images} - of_several) < 2 for images in copies):
        with pytest.raises(BadInputError, match="no class has two different images"):
            load_long_tailed(str(top))
        return
    splits = load_long_tailed(str(top))
    sides = [{picture.tobytes() for picture in splits[split]["image"]} for split in ("train", "test")]
    assert not sides[0] & sides[1]
    assert splits.num_shared == 0
    assert len(splits["train"]) + len(splits["test"]) == number
    assert {*splits["train"]["label"]} == {*range(len(copies))}, "each class keeps a training image"
