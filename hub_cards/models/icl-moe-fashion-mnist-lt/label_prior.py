"""The class frequencies that a model's logits assume, and those that they are adjusted to.

Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 2002.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedConfig

SMALLEST_SHARE = torch.finfo(torch.float32).tiny  # stands for a share of 0, so that logits stay finite


def normalized_prior(label_prior: Sequence[float], num_labels: int) -> list[float]:
    """The share of each class.

    Args:
        label_prior: Probabilities or counts of the classes, at least 0, not all 0.
        num_labels: How many there must be.

    Raises:
        ValueError: If one is missing, negative or not finite, or all are 0.
    """
    values = [float(value) for value in label_prior]
    if len(values) != num_labels:
        raise ValueError(f"`label_prior` must have a share for each of the {num_labels} labels, got {len(values)}.")
    for value in values:
        if not 0 <= value < math.inf:
            raise ValueError(f"`label_prior` must hold probabilities or counts, at least 0, got {value}.")
    total = math.fsum(values)
    if total == 0:
        raise ValueError(f"`label_prior` must give some class a share above 0, got {values}.")
    return [value / total for value in values]


def training_logit_adjustment(config: PreTrainedConfig) -> float:
    """`config.training_logit_adjustment`, or that of the model's own loss."""
    tau = config.training_logit_adjustment
    return config.own_logit_adjustment if tau is None else tau


def check_label_prior(config: PreTrainedConfig) -> None:
    """Normalise `config.label_prior`, in place.

    Raises:
        ValueError: If it is no distribution over the labels, or the frequencies that the logits assume are unknown.
    """
    if not 0 <= training_logit_adjustment(config) < math.inf:
        raise ValueError(
            f"`training_logit_adjustment` must be a number of at least 0, got {config.training_logit_adjustment}."
        )
    if config.label_prior is None:
        return
    config.label_prior = normalized_prior(config.label_prior, config.num_labels)
    log_trained_prior(config)  # must be known, to be taken off


def log_assumed_prior(config: PreTrainedConfig) -> Tensor:
    """Logarithm of the class frequencies (C,) that the logits assume: `config.label_prior`, or what training left."""
    if config.label_prior is None:
        return log_trained_prior(config)
    return torch.tensor(config.label_prior, dtype=torch.float).clamp(min=SMALLEST_SHARE).log()


def log_trained_prior(config: PreTrainedConfig) -> Tensor:
    """Logarithm of the class frequencies (C,) that the logits as trained assume.

    Training added tau log n to the logits, so that the rest of the frequencies, n^(1 - tau), is left in them.

    Raises:
        ValueError: If some is left and the training images of each class are unknown.
    """
    left = 1 - training_logit_adjustment(config)
    if left == 0:
        return torch.full((config.num_labels,), -math.log(config.num_labels))
    if config.class_counts is None:
        raise ValueError(
            "`class_counts` must be known for a label prior, got None: the logits assume the frequencies of the "
            "training images. Give the training images of each class, or `training_logit_adjustment=1.0` if the logits "
            "assume that all classes are equally frequent."
        )
    return torch.log_softmax(left * torch.tensor(config.class_counts, dtype=torch.float).log(), dim=0)


def prior_adjusted(logits: Tensor, config: PreTrainedConfig) -> Tensor:
    """Logits (..., C) for classes that occur as in `config.label_prior`: `+ log(label_prior) - log(trained prior)`."""
    if config.label_prior is None:
        return logits
    return logits + (log_assumed_prior(config) - log_trained_prior(config)).to(logits)
