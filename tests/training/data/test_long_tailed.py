"""Long-tailed counts and subsets: the published protocol, and what they say of data that cannot fill them."""

import numpy as np
import pytest

from tailmoe.training.data import DecodedImages, class_counts, load_long_tailed, long_tailed_counts, make_long_tailed
from tailmoe.training.errors import BadInputError

TOTALS = {
    "cifar100": {100: 10847, 50: 12608, 10: 19573},
    "cifar10": {100: 12406, 50: 13996, 10: 20431},
    "mnist": None,
}


def published_counts(num_classes, max_count, imbalance_factor):
    """As the published data sets compute them, where the factor is smallest over largest."""
    factor = 1 / imbalance_factor
    return [int(max_count * (factor ** (c / (num_classes - 1.0)))) for c in range(num_classes)]


def published_shuffle(labels, counts):
    """Rows of IMBALANCECIFAR in RIDE, BCL and PaCo: numpy's global generator, seed 0, class after class."""
    before = np.random.get_state()
    np.random.seed(0)
    rows = []
    for c, count in zip(np.unique(labels), counts, strict=True):
        of_class = np.where(np.asarray(labels) == c)[0]
        np.random.shuffle(of_class)
        rows.append(of_class[:count])
    np.random.set_state(before)
    return rows


# counts


@pytest.mark.parametrize(("name", "num_classes", "largest"), [("cifar100", 100, 500), ("cifar10", 10, 5000)])
def test_counts_have_the_published_totals(name, num_classes, largest):
    for factor, total in TOTALS[name].items():
        counts = long_tailed_counts(num_classes, largest, factor)
        assert sum(counts) == total
        assert counts[0] == largest
        assert counts == published_counts(num_classes, largest, factor)


def test_the_imbalance_factor_is_largest_over_smallest():
    assert long_tailed_counts(3, 100, 100) == [100, 10, 1]
    assert long_tailed_counts(4, 7, 1) == [7, 7, 7, 7]


def test_a_single_class_keeps_all_its_images():
    assert long_tailed_counts(1, 5, 3) == [5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 100, 10), "`num_classes` must be at least 1, got 0"),
        ((10, 0, 10), "`max_count` must be at least 1, got 0"),
        ((10, 100, 0.01), "`imbalance_factor` must be at least 1, got 0.01"),
        ((10, 100, float("nan")), "`imbalance_factor` must be at least 1, got nan"),
        ((10, 100, 101), "`imbalance_factor` 101 would leave the smallest class .* give at most 100"),
        ((10, 100, float("inf")), "`imbalance_factor` inf would leave the smallest class"),
    ],
)
def test_counts_that_make_no_sense_are_told(arguments, message):
    with pytest.raises(BadInputError, match=message):
        long_tailed_counts(*arguments)


def test_the_largest_factor_that_is_named_can_be_had():
    with pytest.raises(BadInputError, match="give at most 48"):
        long_tailed_counts(2, 49, 49)  # 49 * (1 / 49) is just below 1
    assert long_tailed_counts(2, 49, 48) == [49, 1]


# subsets


def test_first_keeps_the_first_images_of_each_class_in_file_order(labelled):
    dataset = labelled([1, 0, 0, 1, 0, 1, 0, 1])
    kept = make_long_tailed(dataset, 2)
    assert kept["row"][:] == [0, 1, 2, 3, 4, 6]
    assert class_counts(kept) == [4, 2]


def test_shuffled_draws_the_rows_of_the_published_data_sets(labelled):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 50)).tolist()
    published = published_shuffle(labels, published_counts(10, 50, 10))
    kept = make_long_tailed(labelled(labels), 10, selection="shuffled")
    assert kept["row"][:] == sorted(np.concatenate(published).tolist())
    assert kept["row"][:] != make_long_tailed(labelled(labels), 10)["row"][:]


def test_a_shuffled_selection_repeats_with_its_seed_and_leaves_the_global_generator_alone(labelled):
    dataset = labelled([0, 1] * 50)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    one, again, other = (make_long_tailed(dataset, 5, selection="shuffled", seed=seed)["row"][:] for seed in (1, 1, 2))
    assert one == again != other
    assert np.array_equal(np.random.get_state()[1], before)


def test_the_largest_profile_that_the_data_fills_is_the_default(labelled):
    generator = np.random.default_rng(0)
    for _ in range(100):
        available = generator.integers(5, 60, size=generator.integers(2, 8))
        factor = float(generator.choice([1, 1.5, 2, 3, 4.9]))
        dataset = labelled(np.repeat(np.arange(len(available)), available).tolist())
        counts = class_counts(make_long_tailed(dataset, factor))
        fits = [m for m in range(1, 70) if all(np.array(published_counts(len(available), m, factor)) <= available)]
        assert counts == published_counts(len(available), max(fits), factor)


def test_the_largest_class_can_be_chosen(labelled):
    assert class_counts(make_long_tailed(labelled([0, 1, 2] * 50), 4, max_count=20)) == [20, 10, 5]


@pytest.mark.parametrize(
    ("labels", "num_classes", "arguments", "message"),
    [
        ([0, 1], 2, {"imbalance_factor": 0.5}, "`imbalance_factor` must be at least 1, got 0.5"),
        ([0, 1] * 5, 2, {"imbalance_factor": 6}, "`imbalance_factor` 6 would leave .* give at most 5"),
        ([0, 1, 1], 2, {"max_count": 2}, "Class 0 has 1 images, 2 were asked for: lower `max_count`"),
        ([0, 1, 1], 4, {}, "Class 2 has no training image"),
        ([], 2, {}, "The split is empty"),
        ([0, -1], 2, {}, "Label -1 is out of range: there are 2 classes"),
        ([0, None], 2, {}, "Row 1 has no label"),
        ([0, 1], 2, {"selection": "last"}, "`selection` must be first or shuffled, got last"),
        ([0, 1], 2, {"label_column": "labels"}, "There is no column `labels`; the columns are label, row"),
        ([0, 1], 2, {"label_column": "row"}, "Column `row` must be of type ClassLabel"),
    ],
)
def test_data_that_cannot_be_made_long_tailed_says_why(labelled, labels, num_classes, arguments, message):
    with pytest.raises(BadInputError, match=message):
        make_long_tailed(labelled(labels, num_classes), **{"imbalance_factor": 1, **arguments})


# class counts


def test_classes_are_counted_in_data_sets_and_in_decoded_images(labelled):
    import torch

    dataset = labelled([2, 0, 1, 2])
    decoded = DecodedImages(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.tensor([2, 0, 1, 2]))
    assert class_counts(dataset) == class_counts(dataset, 3) == class_counts(decoded) == class_counts(decoded, 3)
    assert class_counts(dataset) == [1, 1, 2]
    for images in (dataset, decoded):
        with pytest.raises(BadInputError, match="Label 2 is out of range: there are 2 classes"):
            class_counts(images, 2)
        with pytest.raises(BadInputError, match="Class 3 has no training image"):
            class_counts(images, 4)
    with pytest.raises(BadInputError, match="The split is empty"):
        class_counts(DecodedImages(decoded.pixel_values[:0], decoded.labels[:0]), 3)


def test_labels_that_are_no_numbers_are_not_counted(labelled):
    dataset = labelled([0, 1]).remove_columns("label").add_column("label", ["cat", "dog"])
    with pytest.raises(BadInputError, match="Column `label` must hold whole numbers"):
        class_counts(dataset, 2)


# real data


@pytest.mark.parametrize("name", TOTALS)
def test_real_data_has_the_published_totals(data_dir, name):
    train = load_long_tailed(name)["train"]
    labels = np.asarray(train["label"][:])
    numbered = train.remove_columns("image").add_column("row", np.arange(len(train)))
    num_classes = train.features["label"].num_classes
    most = int(np.bincount(labels).min()) if TOTALS[name] is None else len(labels) // num_classes
    for factor in (100, 50, 10):
        counts = published_counts(num_classes, most, factor)
        for selection in ("first", "shuffled"):
            kept = make_long_tailed(numbered, factor, selection=selection, max_count=most)
            assert class_counts(kept) == counts
            assert TOTALS[name] is None or len(kept) == TOTALS[name][factor]
            if selection == "shuffled":
                assert kept["row"][:] == sorted(np.concatenate(published_shuffle(labels, counts)).tolist())
            if TOTALS[name] is not None:  # balanced: the class size is what the data fills
                assert class_counts(make_long_tailed(numbered, factor)) == counts
