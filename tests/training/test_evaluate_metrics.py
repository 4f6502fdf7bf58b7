"""The metrics through the `evaluate` library, without a network."""

import importlib
import socket

import numpy as np
import pytest

from tailmoe.training.errors import BadInputError
from tailmoe.training.metrics import (
    accuracy_metrics,
    expected_calibration_error,
    expert_specialization_entropy,
    gate_load_balance,
)

COUNTS = [500, 50, 5]


@pytest.fixture(scope="module")
def library():
    return importlib.import_module("tailmoe.training.evaluate_metrics")  # here, not above: the import takes seconds


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def split():
    generator = np.random.default_rng(0)
    return generator.dirichlet(np.ones(3), size=40), generator.integers(3, size=40)


def test_accuracies_equal_the_plain_functions(library, split, tmp_path):
    rows, labels = split
    metric = library.LongTailAccuracy(cache_dir=str(tmp_path))
    computed = metric.compute(predictions=rows.argmax(axis=1), references=labels, class_counts=COUNTS)
    expected = accuracy_metrics(rows.argmax(axis=1), labels, 3, COUNTS)
    assert computed == {name: value for name, value in expected.items() if name != "confusion_matrix"}
    assert metric.compute(predictions=rows, references=labels, class_counts=COUNTS) == computed


def test_batches_add_up_to_the_whole(library, split, tmp_path):
    rows, labels = split
    metric = library.CalibrationError(cache_dir=str(tmp_path))
    for start in (0, 15, 30):
        metric.add_batch(predictions=rows[start : start + 15], references=labels[start : start + 15])
    assert metric.compute(num_bins=10) == {"ece": pytest.approx(expected_calibration_error(rows, labels, 10))}


def test_gate_metrics_need_no_references(library, split, tmp_path):
    rows, _ = split
    computed = library.ExpertSpecializationEntropy(cache_dir=str(tmp_path)).compute(predictions=rows)
    assert computed == {
        "expert_specialization_entropy": pytest.approx(expert_specialization_entropy(rows)),
        "gate_load_balance": pytest.approx(gate_load_balance(rows)),
    }


def test_accuracies_and_calibration_combine_on_the_same_probabilities(library, split, tmp_path):
    rows, labels = split
    combined = library.evaluate.combine(
        [
            library.LongTailAccuracy(class_counts=COUNTS, cache_dir=str(tmp_path)),
            library.CalibrationError(cache_dir=str(tmp_path)),
        ]
    )
    for row, label in zip(rows, labels, strict=True):
        combined.add(prediction=row, reference=label)
    computed = combined.compute()
    assert computed["ece"] == pytest.approx(expected_calibration_error(rows, labels))
    assert computed["few_accuracy"] == accuracy_metrics(rows.argmax(axis=1), labels, 3, COUNTS)["few_accuracy"]


def test_files_stay_in_the_cache_folder(library, split, tmp_path):
    rows, labels = split
    metric = library.CalibrationError(cache_dir=str(tmp_path))
    metric.add_batch(predictions=rows, references=labels)
    assert list(tmp_path.rglob("*.arrow"))
    metric.compute()
    assert not list(tmp_path.rglob("*.arrow"))


def test_missing_counts_and_wrong_predictions_are_named(library, tmp_path):
    accuracy = library.LongTailAccuracy(cache_dir=str(tmp_path))
    with pytest.raises(BadInputError, match="class_counts"):
        accuracy.compute(predictions=[0], references=[0])
    with pytest.raises(BadInputError, match="2 scores for 3"):
        accuracy.compute(predictions=[[0.5, 0.5]], references=[0], class_counts=COUNTS)
    with pytest.raises(BadInputError, match="same length"):
        library.CalibrationError(cache_dir=str(tmp_path)).compute(predictions=[[0.5, 0.5], [1.0]], references=[0, 1])
