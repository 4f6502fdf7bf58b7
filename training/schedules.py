"""Schedules of the learning rate that transformers does not have."""

import math
from collections.abc import Callable


def two_stage_cosine(num_steps: int, warmup_steps: int, last_from: float, restart: float) -> Callable[[int], float]:
    """Factor on the learning rate at each step: warm-up, cosine to 0, then another cosine for the last stage.

    Args:
        num_steps: Of the whole run.
        warmup_steps: Over which the factor rises from 0 to 1.
        last_from: Progress, in [0, 1), from which the last stage runs.
        restart: Factor at the start of the last stage.
    """
    warmup = warmup_steps / num_steps

    def factor(step: int) -> float:
        progress = step / num_steps  # the very number that the Trainer compares
        if progress >= last_from:
            return restart * _cosine((progress - last_from) / (1 - last_from))
        if progress < warmup:
            return progress / warmup
        return _cosine((progress - warmup) / (last_from - warmup))

    return factor


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
