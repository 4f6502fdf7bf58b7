"""Checks that both configurations share."""

import difflib
from collections.abc import Sequence

# of other libraries, for what transformers calls otherwise
OTHER_NAMES = {"num_classes": "num_labels", "in_chans": "num_channels", "in_channels": "num_channels"}


def check_at_least(minimum: float, **values: float) -> None:
    """Raise `ValueError` for the first named value below `minimum`."""
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"`{name}` must be at least {minimum}, got {value}.")


def check_stages(hidden_sizes: Sequence[int], depths: Sequence[int], minimum: int) -> None:
    """Raise `ValueError` unless both lists describe the same number of stages, at least `minimum`, all positive."""
    if len(hidden_sizes) != len(depths):
        raise ValueError(
            f"`hidden_sizes` and `depths` must have one entry per stage, got {list(hidden_sizes)} and {list(depths)}."
        )
    if len(depths) < minimum or min(*hidden_sizes, *depths) < 1:
        raise ValueError(
            f"`hidden_sizes` and `depths` must describe at least {minimum} stage(s) with positive entries, "
            f"got {list(hidden_sizes)} and {list(depths)}."
        )


def check_class_counts(class_counts: Sequence[int] | None, num_labels: int) -> None:
    """Raise `ValueError` unless there is one positive training count per label."""
    if class_counts is None:
        return
    if len(class_counts) != num_labels or min(class_counts) < 1:
        raise ValueError(
            f"`class_counts` must give at least 1 training image for each of the {num_labels} labels, "
            f"got {list(class_counts)}."
        )


def check_early_exit_threshold(threshold: float | None) -> None:
    """Raise `ValueError` unless it is None or in (0, 1]."""
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(
            f"`early_exit_threshold` must be above 0 and at most 1, or None for every expert, got {threshold}."
        )


def reject_misspelt(config_class: type, extra: Sequence[str]) -> None:
    """Raise `ValueError` for a name that is no field of `config_class` but looks like one.

    transformers keeps any unknown name as a plain attribute, so that a misspelt field would silently change nothing.
    """
    fields = list(config_class.__dataclass_fields__)
    for name in extra:
        nearest = (
            [OTHER_NAMES[name]]
            if name in OTHER_NAMES
            else difflib.get_close_matches(name, [*fields, "num_labels"], n=1, cutoff=0.8)
        )
        if nearest and nearest[0] != name:
            raise ValueError(f"`{config_class.__name__}` has no field `{name}`; did you mean `{nearest[0]}`?")
