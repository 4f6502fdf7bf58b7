"""Shot groups: classes by how many training images they have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailmoe.training.errors import BadInputError


@dataclass(frozen=True)
class ShotBounds:
    """Where the shot groups begin; the defaults are those of Liu et al., CVPR 2019.

    Args:
        many_above: A class with more training images is many-shot.
        few_below: One with fewer is few-shot.
        terciles: Whether the bounds part these very classes into thirds.
    """

    many_above: int = 100
    few_below: int = 20
    terciles: bool = False

    @classmethod
    def of(
        cls, class_counts: Sequence[int], many_above: int | None = None, few_below: int | None = None
    ) -> "ShotBounds":
        """The bounds for classes of so many training images: those given, else 100 and 20.

        Where neither is given and no class has more than 100 images, they are terciles: as near to a third of the classes
        as possible is few-shot, and many-shot; classes of one size stay together.

        Raises:
            BadInputError: If a bound is no whole number above 0, or they overlap.
        """
        default = cls()
        if many_above is None and few_below is None and max(class_counts) <= default.many_above:
            return _terciles(class_counts)
        bounds = cls(
            default.many_above if many_above is None else many_above,
            default.few_below if few_below is None else few_below,
        )
        for name, value in (("many_above", bounds.many_above), ("few_below", bounds.few_below)):
            if type(value) is not int or value < 1:
                raise BadInputError(f"`{name}` must be a whole number of training images above 0, got {value}.")
        if bounds.few_below > bounds.many_above + 1:
            raise BadInputError(
                f"`few_below` must be at most `many_above` + 1, got {bounds.few_below} and {bounds.many_above}."
            )
        return bounds

    @property
    def ranges(self) -> dict[str, str]:
        """The training images of each group's classes, in words."""
        return {
            "many": f"more than {self.many_above}",
            "medium": f"{self.few_below} to {self.many_above}",
            "few": f"fewer than {self.few_below}",
        }

    @property
    def caption(self) -> str:
        """What many, medium and few mean, as the end of a sentence; where they are not the field's, why."""
        ranges = self.ranges
        words = f"with {ranges['many']}, with {ranges['medium']} and with {ranges['few']} training images"
        return f"{words}: thirds of the classes, none of which has more than 100" if self.terciles else words


def shot_groups(class_counts: Sequence[int], bounds: ShotBounds | None = None) -> dict[str, list[int]]:
    """Class ids by their training images: `many`, `medium` and `few`, by the bounds of `ShotBounds.of` if None."""
    bounds = ShotBounds.of(class_counts) if bounds is None else bounds
    many = [label for label, count in enumerate(class_counts) if count > bounds.many_above]
    few = [label for label, count in enumerate(class_counts) if count < bounds.few_below]
    return {"many": many, "medium": sorted({*range(len(class_counts))} - {*many, *few}), "few": few}


def _terciles(class_counts: Sequence[int]) -> ShotBounds:
    counts, third = np.sort(class_counts), len(class_counts) / 3
    sizes = np.unique(counts)
    few_below = min(sizes, key=lambda size: abs(np.searchsorted(counts, size) - third))
    many_above = min(
        sizes[sizes >= few_below], key=lambda size: abs(len(counts) - np.searchsorted(counts, size, "right") - third)
    )
    return ShotBounds(int(many_above), int(few_below), terciles=True)
