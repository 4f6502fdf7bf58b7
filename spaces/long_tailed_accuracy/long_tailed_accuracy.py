"""Accuracy of long-tailed classification: overall, balanced, of each shot group and of each class."""

from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, List, Value

DESCRIPTION = """\
Accuracy of long-tailed classification: overall; balanced, the mean over classes; of many-, medium- and few-shot classes, which
are those with more than 100, 20 to 100 and fewer than 20 training images (Liu et al., CVPR 2019); and of each class.
"""
INPUTS = """\
Args:
    predictions: Class ids, or a score of each class for each image, of which the largest counts.
    references: Class ids.
    class_counts: Training images of each class; without them the accuracies of the shot groups are None.
    many_above: A class with more training images is many-shot (100).
    few_below: A class with fewer training images is few-shot (20).
Returns:
    accuracy: The share of images that are right.
    balanced_accuracy: The mean over classes with images.
    many_accuracy, medium_accuracy, few_accuracy: The mean over the group's classes with images; None if there is none.
    per_class_accuracy: A list; None for a class without images.
Examples:
    >>> metric = evaluate.load("long_tailed_accuracy")
    >>> metric.compute(predictions=[0, 1, 1], references=[0, 1, 0], class_counts=[500, 10])["few_accuracy"]
    1.0
"""
CITATION = """\
@inproceedings{liu2019large,
  title = {Large-Scale Long-Tailed Recognition in an Open World},
  author = {Liu, Ziwei and Miao, Zhongqi and Zhan, Xiaohang and Wang, Jiayun and Gong, Boqing and Yu, Stella X.},
  booktitle = {CVPR},
  year = {2019}
}
"""


class LongTailedAccuracy(evaluate.Metric):
    """See `DESCRIPTION` and `INPUTS`.

    Args:
        class_counts: Training images of each class, where `compute` is not given them, as in `evaluate.combine`.
        kwargs: As of `evaluate.Metric`.
    """

    def __init__(self, class_counts: Sequence[int] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.class_counts = class_counts

    def _info(self) -> evaluate.MetricInfo:
        ids, scores = Value("int64"), List(Value("float64"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=[Features(predictions=kind, references=ids) for kind in (ids, scores)],
        )

    def _compute(
        self,
        predictions: list,
        references: list,
        class_counts: Sequence[int] | None = None,
        many_above: int = 100,
        few_below: int = 20,
    ) -> dict:
        counts = self.class_counts if class_counts is None else class_counts
        if few_below > many_above + 1:
            raise ValueError(f"`few_below` must be at most `many_above` + 1, got {few_below} and {many_above}.")
        predictions, labels, num_classes = _class_ids(predictions, references, counts)
        images, right = (np.bincount(ids, minlength=num_classes) for ids in (labels, labels[predictions == labels]))
        per_class = [int(r) / int(n) if n else None for r, n in zip(right, images, strict=True)]
        counted = list(zip(per_class, counts or [], strict=counts is not None))
        groups = {
            "many": [accuracy for accuracy, count in counted if count > many_above],
            "medium": [accuracy for accuracy, count in counted if few_below <= count <= many_above],
            "few": [accuracy for accuracy, count in counted if count < few_below],
        }
        return {
            "accuracy": float((predictions == labels).mean()),
            "balanced_accuracy": _mean(per_class),
            **{f"{group}_accuracy": _mean(accuracies) for group, accuracies in groups.items()},
            "per_class_accuracy": per_class,
        }


def _class_ids(
    predictions: list, references: list, class_counts: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Predicted and true class ids (N,), and the number of classes."""
    lengths = {len(row) for row in predictions} if isinstance(predictions[0], list) else set()
    if len(lengths) > 1:
        raise ValueError(f"All predictions must have the same number of scores, got {sorted(lengths)}.")
    predictions, labels = np.asarray(predictions), np.asarray(references)
    num_classes = predictions.shape[1] if lengths else None
    if lengths:
        if not np.isfinite(predictions).all():
            raise ValueError("The scores in `predictions` must be finite, got NaN or infinity.")
        predictions = predictions.argmax(axis=1)
    if class_counts is not None:
        if num_classes not in (None, len(class_counts)):
            raise ValueError(f"There are {num_classes} scores for {len(class_counts)} `class_counts`.")
        num_classes = len(class_counts)
    num_classes = num_classes or 1 + int(max(predictions.max(), labels.max()))
    for name, ids in (("predictions", predictions), ("references", labels)):
        if ids.min() < 0 or ids.max() >= num_classes:
            raise ValueError(f"`{name}` must be class ids of 0 to {num_classes - 1}, got {ids.min()} to {ids.max()}.")
    return predictions, labels, num_classes


def _mean(accuracies: list[float | None]) -> float | None:
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return sum(known) / len(known) if known else None
