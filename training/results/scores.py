"""Metrics of a model as results hold them and tables show them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOT_MEASURED = "—"
# what tables show, by their titles
ACCURACIES = {
    "overall": "accuracy",
    "balanced": "balanced_accuracy",
    "many": "many_accuracy",
    "medium": "medium_accuracy",
    "few": "few_accuracy",
}
EXPERT_METRICS = ("expert_specialization_entropy", "gate_load_balance", "pairwise_embedding_similarity")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; None where nothing, or only one seed, was measured."""

    mean: float | None
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread":
        measured = [value for value in values if value is not None]
        return cls(
            float(np.mean(measured)) if measured else None,
            float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
        )


def percent(value: float | Spread | None, unit: str = "") -> str:
    """A share in %, of a spread with its deviation; a dash for what was not measured."""
    mean, std = (value.mean, value.std) if isinstance(value, Spread) else (value, None)
    if mean is None:
        return NOT_MEASURED
    return f"{100 * mean:.1f}{unit}" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}{unit}"


@dataclass(kw_only=True)
class Metrics:
    """What `evaluate_images` returns; None for what the model or the images do not have."""

    accuracy: float
    balanced_accuracy: float
    many_accuracy: float | None
    medium_accuracy: float | None
    few_accuracy: float | None
    per_class_accuracy: list[float | None]
    ece: float
    confusion_matrix: list[str] | None = None  # see `confusion`; not in studies
    reliability: list[dict] | None = None
    expert_accuracy: list[float] | None = None
    expert_agreement_matrix: list[list[float]] | None = None
    expert_specialization_entropy: float | None = None
    gate_load_balance: float | None = None
    pairwise_embedding_similarity: float | None = None
    expert_similarity_matrix: list[list[float]] | None = None
    early_exit: dict | None = None

    @property
    def scalars(self) -> dict[str, float]:
        """Those that are one number, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, float)}
