"""What the objectives check of their arguments."""

from torch import nn
from transformers import PreTrainedConfig


def check_model_type(objective: nn.Module, config: PreTrainedConfig, model_type: str) -> None:
    """Raise `ValueError` unless the objective trains models of this type."""
    if config.model_type != model_type:
        raise ValueError(f"`{type(objective).__name__}` trains models of type {model_type}, got {config.model_type}.")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value}.")


def check_share(**values: float) -> None:
    """Raise `ValueError` unless each value is in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {value}.")


def check_class_counts(config: PreTrainedConfig) -> None:
    """Raise `ValueError` unless the configuration tells how many training images each class has."""
    if config.class_counts is None:
        raise ValueError("`config.class_counts` must give the training images of each class, got None.")
