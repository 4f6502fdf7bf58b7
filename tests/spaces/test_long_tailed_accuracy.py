"""The metric Space: `evaluate` loads it from its folder, and it measures what tailmoe measures."""

import importlib
import socket

import numpy as np
import pytest

from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.evaluation.metrics import accuracy_metrics

from .conftest import ROOT

COUNTS = [500, 101, 100, 20, 19, 5]
NAME = "spaces/long_tailed_accuracy"


@pytest.fixture(scope="module")
def evaluate():
    return importlib.import_module("evaluate")  # here, not above: the import takes seconds


@pytest.fixture
def load(evaluate, tmp_path, monkeypatch):
    """Loads the metric from the source tree as a user would, where no connection can be opened."""

    def refuse(*args, **kwargs):
        raise AssertionError("the metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(ROOT)
    return lambda **options: evaluate.load(NAME, cache_dir=str(tmp_path), **options)


@pytest.fixture
def split():
    """Scores (40, 6) and labels; the third class has no image."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(40, 6)), generator.choice([0, 1, 3, 4, 5], size=40)


def expected(scores, labels, counts=COUNTS, **bounds):
    metrics = accuracy_metrics(scores.argmax(axis=1), labels, 6, counts, ShotBounds(**bounds))
    del metrics["confusion_matrix"]
    return metrics


@pytest.mark.parametrize("bounds", [{}, {"many_above": 50}, {"many_above": 500, "few_below": 6}, {"few_below": 1}])
def test_it_equals_the_metrics_of_the_package_for_class_ids_and_for_scores(load, split, bounds):
    scores, labels = split
    options = {"references": labels, "class_counts": COUNTS, **bounds}
    metric = load()
    assert metric.compute(predictions=scores.argmax(axis=1), **options) == expected(*split, **bounds)
    assert metric.compute(predictions=scores, **options) == expected(*split, **bounds)


def test_without_class_counts_there_are_no_groups(load, split):
    scores, labels = split
    assert load().compute(predictions=scores, references=labels) == expected(*split, counts=None)


def test_batches_add_up_to_the_whole_and_leave_no_file(load, split, tmp_path):
    scores, labels = split
    metric = load()
    for start in (0, 15, 30):
        metric.add_batch(predictions=scores[start : start + 15], references=labels[start : start + 15])
    assert metric.compute(class_counts=COUNTS) == expected(*split)
    assert not list(tmp_path.rglob("*.arrow"))


def test_it_combines_with_another_metric_when_it_was_given_the_counts(load, evaluate, split):
    scores, labels = split
    combined = evaluate.combine([load(class_counts=COUNTS), load(class_counts=COUNTS[::-1])])
    for prediction, label in zip(scores.argmax(axis=1).tolist(), labels.tolist(), strict=True):
        combined.add(prediction=prediction, reference=label)
    computed = combined.compute()
    assert computed["long_tailed_accuracy_0_few_accuracy"] == expected(*split)["few_accuracy"]
    assert computed["long_tailed_accuracy_1_few_accuracy"] == expected(*split, counts=COUNTS[::-1])["few_accuracy"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictions": [0, 3], "references": [0, 1]}, "`predictions` must be class ids of 0 to 1, got 0 to 3"),
        ({"predictions": [0, 1], "references": [0, -1]}, "`references` must be class ids of 0 to 1, got -1 to 0"),
        ({"predictions": [[0.5, 0.2, 0.3]], "references": [0]}, "There are 3 scores for 2 `class_counts`"),
        ({"predictions": [[0.5, 0.5], [1.0]], "references": [0, 1]}, r"the same number of scores, got \[1, 2\]"),
        ({"predictions": [[0.5, float("nan")]], "references": [0]}, "must be finite, got NaN"),
        ({"predictions": [0], "references": [0], "few_below": 102}, "`few_below` must be at most `many_above` [+] 1"),
    ],
)
def test_what_is_wrong_is_named(load, inputs, message):
    with pytest.raises(ValueError, match=message):
        load().compute(**inputs, class_counts=[5, 3])


def test_the_page_computes_what_is_written_into_its_fields(evaluate, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / NAME))
    monkeypatch.delitem(importlib.sys.modules, "app", raising=False)  # of the other Space
    app = importlib.import_module("app")
    monkeypatch.delitem(importlib.sys.modules, "app")
    assert app.compute("[0, 1, 1]", "[0, 1, 0]", "[500, 10]")["few_accuracy"] == 1.0
    assert app.compute("[[0.9, 0.1]]", "[0]", "")["accuracy"] == 1.0
    for texts in (("[0, 1]", "[0]", ""), ("zero", "[0]", ""), ("[0]", "[0]", "7")):
        with pytest.raises(app.gr.Error):
            app.compute(*texts)
