"""What the page says that a class is taken for, from results that store the counts in either way."""

import json

from .conftest import MODELS, SPACE


def test_a_class_is_taken_for_the_same_whichever_way_its_counts_are_stored(monkeypatch):
    monkeypatch.syspath_prepend(str(SPACE))
    from classifier import Classifier

    folder = MODELS / "icl-moe-fashion-mnist-lt"
    model = Classifier(str(folder))
    rows = json.loads((folder / "results.json").read_text())["metrics"]["confusion_matrix"]
    assert all(isinstance(row, list) for row in rows), "the model was published with whole rows"
    assert [model.confusions(c) for c in range(10)] == rows
    without_zeros = [{str(k): count for k, count in enumerate(row) if count} for row in rows]
    model.results["metrics"]["confusion_matrix"] = without_zeros
    assert [model.confusions(c) for c in range(10)] == rows
