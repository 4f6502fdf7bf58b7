"""What a name stands for: splits as they are, before anything is held out or left out of a long tail."""

from dataclasses import dataclass, field

import datasets

from tailmoe.training.data.columns import has_labels, standard_columns
from tailmoe.training.data.tree import LeftOut


@dataclass
class Found:
    """Images by split.

    Args:
        splits: Of `train`, `validation` and `test` those that there are; images without splits are `train`.
        has_splits: Whether the data says which images are of which split.
        left_out: Images that are not used.
        num_others: Number of files that are no images.
        form: `"folders"` of classes, `"tables"` of paths, or `"rows"` that hold images.
        comparable: Whether the bytes of the images are at hand, to be compared.
        columns: Names of the image and the label column.
    """

    splits: dict[str, datasets.Dataset]
    has_splits: bool = True
    left_out: LeftOut = field(default_factory=LeftOut)
    num_others: int = 0
    form: str = "rows"
    comparable: bool = True
    columns: tuple[str, str] = ("image", "label")

    def labelled(self) -> list[str]:
        """The splits that have labels."""
        return [split for split, rows in self.splits.items() if has_labels(rows, self.columns[1])]

    def standard(self, split: str, names: list[str] | None = None) -> datasets.Dataset:
        """A split with the columns `image` and `label`; `names` as in `standard_columns`."""
        return standard_columns(self.splits[split], *self.columns, names=names)
