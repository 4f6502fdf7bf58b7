"""The same metrics for the `evaluate` library. They need no network; `import evaluate` takes seconds."""

from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, List, Value

from tailmoe.training.errors import BadInputError
from tailmoe.training.metrics import (
    accuracy_metrics,
    expected_calibration_error,
    expert_specialization_entropy,
    gate_load_balance,
)

CLASS_ID, VECTOR = Value("int64"), List(Value("float64"))


class LongTailAccuracy(evaluate.Metric):
    """Accuracy, overall, balanced, of each shot group and of each class.

    Predictions are class ids, or a score of each class for each image, of which the largest counts. With scores it can
    be combined with `CalibrationError`, and with class ids with any metric that takes them.

    Args:
        class_counts: Training images of each class, where `compute` is not given them (as in `evaluate.combine`).
        kwargs: As of `evaluate.Metric`: `cache_dir`, `keep_in_memory`, ...

    Example:
        >>> metric = LongTailAccuracy()
        >>> metric.compute(predictions=[0, 1, 1], references=[0, 1, 0], class_counts=[500, 10])["few_accuracy"]
        1.0
    """

    def __init__(self, class_counts: Sequence[int] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.class_counts = class_counts

    def _info(self) -> evaluate.MetricInfo:
        return _describe(
            self,
            "predictions: class ids, or a score of each class. references: class ids.",
            [Features(predictions=kind, references=CLASS_ID) for kind in (CLASS_ID, VECTOR)],
        )

    def _compute(self, predictions: list, references: list, class_counts: Sequence[int] | None = None) -> dict:
        counts = self.class_counts if class_counts is None else class_counts
        if counts is None:
            raise BadInputError("`class_counts` is missing: the training images of each class.")
        predictions = _rows(predictions)
        if predictions.ndim == 2:
            if predictions.shape[1] != len(counts):
                raise BadInputError(f"There are {predictions.shape[1]} scores for {len(counts)} `class_counts`.")
            predictions = predictions.argmax(axis=1)
        metrics = accuracy_metrics(predictions, np.asarray(references), len(counts), counts)
        del metrics["confusion_matrix"]
        return metrics


class CalibrationError(evaluate.Metric):
    """Expected calibration error (Guo et al., ICML 2017). Predictions are probabilities, one vector for each image.

    Example:
        >>> CalibrationError().compute(predictions=[[0.5, 0.5], [0.0, 1.0]], references=[0, 1])
        {'ece': 0.25}
    """

    def _info(self) -> evaluate.MetricInfo:
        return _describe(
            self,
            "predictions: probabilities of the classes. references: class ids. num_bins: bins of confidence.",
            Features(predictions=VECTOR, references=CLASS_ID),
        )

    def _compute(self, predictions: list, references: list, num_bins: int = 15) -> dict:
        return {"ece": expected_calibration_error(_rows(predictions), np.asarray(references), num_bins)}


class ExpertSpecializationEntropy(evaluate.Metric):
    """How sharply a gate routes, and how evenly it loads the experts. Predictions are gate probabilities.

    Example:
        >>> ExpertSpecializationEntropy().compute(predictions=[[1.0, 0.0], [0.0, 1.0]])
        {'expert_specialization_entropy': 0.0, 'gate_load_balance': 1.0}
    """

    def _info(self) -> evaluate.MetricInfo:
        return _describe(self, "predictions: weights of the experts, which sum to 1.", Features(predictions=VECTOR))

    def _compute(self, predictions: list) -> dict:
        gate = _rows(predictions)
        return {
            "expert_specialization_entropy": expert_specialization_entropy(gate),
            "gate_load_balance": gate_load_balance(gate),
        }


def _describe(metric: evaluate.Metric, inputs: str, features: Features | list[Features]) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=type(metric).__doc__, citation="", inputs_description=inputs, features=features
    )


def _rows(values: list) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise BadInputError("All prediction vectors must have the same length.") from None
