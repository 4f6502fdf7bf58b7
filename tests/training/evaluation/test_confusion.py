"""Which class was taken for which: counted, stored without zeros, and read."""

import json

import numpy as np
import pytest
from made_up import made_up_metrics, made_up_run
from sklearn.metrics import confusion_matrix

from tailmoe.training.evaluation.confusion import confusion_array, count_confusions
from tailmoe.training.evaluation.metrics import classification_metrics
from tailmoe.training.figures.results import confusion_figure

MANY = 8142  # classes of iNaturalist 2018, with three validation images each


@pytest.mark.parametrize(("classes", "images"), [(1, 3), (2, 1), (7, 300), (300, 50)])
def test_counts_are_those_of_scikit_learn(classes, images):
    labels, predictions = np.random.default_rng(classes).integers(0, classes, (2, images))
    expected = confusion_matrix(labels, predictions, labels=range(classes))
    counted = count_confusions(labels, predictions, classes)
    assert np.array_equal(confusion_array(counted), expected)
    assert ":0" not in " ".join(counted), "a count of zero was stored"


def test_groups_of_classes_are_summed_in_rows_and_columns():
    stored = ["0:3 2:1", "1:2", "0:4"]
    assert confusion_array(stored, [1, 0, 1]).tolist() == [[2, 0], [0, 8]]


def test_a_matrix_of_eight_thousand_classes_is_stored_by_its_images_and_drawn(tmp_path):
    generator = np.random.default_rng(0)
    labels, predictions = np.repeat(np.arange(MANY), 3), generator.integers(0, MANY, 3 * MANY)
    stored = count_confusions(labels, predictions, MANY)
    assert len(json.dumps(stored, indent=2)) < 4e5, "as lists of counts it is above 700 MB"
    run = made_up_run(
        class_counts=[MANY - c for c in range(MANY)],
        label_names=[f"class {c}" for c in range(MANY)],
        metrics=made_up_metrics(0.5, confusion_matrix=stored),
    )
    confusion_figure(run, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 10_000


def test_the_accuracy_of_each_class_is_the_diagonal_of_its_row():
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(0, 6, 200), generator.normal(size=(200, 7))
    metrics = classification_metrics(logits, labels)
    counts = confusion_array(metrics["confusion_matrix"])
    assert metrics["per_class_accuracy"][:6] == [counts[c, c] / counts[c].sum() for c in range(6)]
    assert metrics["per_class_accuracy"][6] is None
    assert metrics["accuracy"] == counts.trace() / 200
