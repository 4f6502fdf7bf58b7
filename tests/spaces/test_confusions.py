"""What the page says that a class is taken for, from the results beside the model."""

from tailmoe.training.evaluation.confusion import confusion_array
from tailmoe.training.results.results import RunResults

from .conftest import MODELS, SPACE


def test_a_class_is_taken_for_what_the_results_tell(monkeypatch):
    monkeypatch.syspath_prepend(str(SPACE))
    from classifier import Classifier

    folder = MODELS / "icl-moe-fashion-mnist-lt"
    model = Classifier(str(folder))
    expected = confusion_array(RunResults.load(folder / "results.json").metrics.confusion_matrix)
    assert [model.confusions(c) for c in range(10)] == expected.tolist()
