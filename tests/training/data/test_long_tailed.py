"""Long-tailed splits: the published counts and selections, exactly."""

import os

import datasets
import numpy as np
import pytest

from tailmoe.training.data import class_counts, load_long_tailed, long_tailed_counts, make_long_tailed
from tailmoe.training.errors import BadInputError

NEEDS_DATA = pytest.mark.skipif(
    "TAILMOE_DATA_DIR" not in os.environ, reason="TAILMOE_DATA_DIR names no folder of data"
)


@pytest.fixture
def balanced():
    """30 rows of 3 classes, mixed."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], 10)).tolist()
    features = datasets.Features({"row": datasets.Value("int64"), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    return datasets.Dataset.from_dict({"row": list(range(30)), "label": labels}, features=features)


@pytest.mark.parametrize(
    ("num_classes", "max_count", "totals"),
    [(100, 500, {100: 10847, 50: 12608, 10: 19573}), (10, 5000, {100: 12406, 50: 13996, 10: 20431})],
)
def test_totals_are_those_of_the_published_cifar_splits(num_classes, max_count, totals):
    for imbalance_factor, total in totals.items():
        counts = long_tailed_counts(num_classes, max_count, imbalance_factor)
        assert sum(counts) == total
        assert counts[0] == max_count
        assert counts == sorted(counts, reverse=True)


def test_counts_fall_by_the_imbalance_factor_and_stay_when_it_is_1():
    assert long_tailed_counts(10, 2000, 200) == [2000, 1110, 616, 341, 189, 105, 58, 32, 18, 10]
    assert long_tailed_counts(4, 7, 1) == [7, 7, 7, 7]
    assert long_tailed_counts(1, 7, 100) == [7]


def test_first_keeps_the_first_rows_of_each_class_in_file_order(balanced):
    subset = make_long_tailed(balanced, 5)
    labels, rows = balanced["label"], subset["row"]
    assert class_counts(subset) == long_tailed_counts(3, 10, 5) == [10, 4, 2]
    assert rows == sorted(rows)
    for label, count in enumerate([10, 4, 2]):
        assert [r for r in rows if labels[r] == label] == [r for r in range(30) if labels[r] == label][:count]


def test_shuffled_is_the_published_draw_of_one_numpy_seed_class_after_class(balanced):
    labels = np.array(balanced["label"])
    np.random.seed(3)  # the published code draws from numpy's global state
    expected = []
    for label, count in enumerate([10, 4, 2]):
        rows = np.where(labels == label)[0]
        np.random.shuffle(rows)
        expected.extend(rows[:count].tolist())
    state = np.random.get_state()[1].copy()
    assert make_long_tailed(balanced, 5, selection="shuffled", seed=3)["row"] == sorted(expected)
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_largest_profile_that_all_classes_can_fill_is_the_default():
    labels = [0] * 10 + [1] * 3 + [2] * 9
    features = datasets.Features({"label": datasets.ClassLabel(names=["a", "b", "c"])})
    data = datasets.Dataset.from_dict({"label": labels}, features=features)
    counts = class_counts(make_long_tailed(data, 4))
    assert counts[1] == 3
    assert counts == long_tailed_counts(3, counts[0], 4)
    with pytest.raises(BadInputError, match="Class 1 has 3 images, 4 were asked for"):
        make_long_tailed(data, 4, max_count=counts[0] + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"imbalance_factor": 0.5}, "`imbalance_factor` must be at least 1, got 0.5"),
        ({"imbalance_factor": float("nan")}, "`imbalance_factor` must be at least 1, got nan"),
        ({"imbalance_factor": 100}, "would leave the smallest class without an image"),
        ({"imbalance_factor": 2, "selection": "best"}, "`selection` must be first or shuffled, got best"),
        ({"imbalance_factor": 2, "label_column": "fine"}, "no column `fine`; the columns are row, label"),
        ({"imbalance_factor": 2, "label_column": "row"}, "Column `row` must be of type ClassLabel"),
    ],
)
def test_a_wrong_argument_is_named(balanced, arguments, message):
    with pytest.raises(BadInputError, match=message):
        make_long_tailed(balanced, **arguments)


def test_an_empty_split_a_class_without_images_and_a_label_out_of_range_are_named(balanced):
    with pytest.raises(BadInputError, match="The split is empty"):
        class_counts(balanced.select([]))
    with pytest.raises(BadInputError, match="Class 1 has no training image"):
        class_counts(balanced.filter(lambda row: row["label"] != 1))
    with pytest.raises(BadInputError, match=r"Label 2 is out of range: there are 2 classes \(0 to 1\)"):
        class_counts(balanced, 2)


@NEEDS_DATA
@pytest.mark.parametrize("selection", ["first", "shuffled"])
@pytest.mark.parametrize(("name", "imbalance_factor", "total"), [("cifar100", 100, 10847), ("cifar10", 50, 13996)])
def test_real_cifar_gives_the_published_totals(name, imbalance_factor, total, selection):
    splits = load_long_tailed(name, imbalance_factor, selection)
    assert len(splits["train"]) == total
    assert len(splits["test"]) == 10_000
    counts = class_counts(splits["train"])
    assert max(counts) / min(counts) == imbalance_factor


@NEEDS_DATA
def test_real_mnist_fills_the_largest_profile_of_its_unequal_classes():
    counts = class_counts(load_long_tailed("mnist", 100)["train"])
    assert counts == long_tailed_counts(10, 5923, 100)
