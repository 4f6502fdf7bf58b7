"""Labels that a table tells by a column for each class, in which the images of the class have a 1."""

import logging

from tailmoe.training.data.columns import LABELS
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
YES = {"1", "1.0", "true"}
NO = {"0", "0.0", "false", ""}


def label_of_columns(
    columns: list[str], rows: list[list[str]], image_column: str, table: object
) -> tuple[list[str], list[list[str]]]:
    """The table with a column `label` for those of its classes; as it is, if it is not of this form.

    That form has, besides images and columns that number the rows, two columns or more of 0 and 1 alone. Where a column `label`
    or `labels` is there, or any other, the table is as it is.

    Raises:
        BadInputError: If a row has no 1, or several.
    """
    values = {name: [row[i].strip().lower() for row in rows] for i, name in enumerate(columns)}
    classes = [name for name in columns if name != image_column and {*values[name]} <= YES | NO]
    others = {*columns} - {*classes, image_column}
    numbering = {name for name in others if len({*values[name]}) == len(rows) > 1}
    if len(classes) < 2 or others - numbering or any(name in LABELS for name in columns):
        return columns, rows
    labels = []
    for number in range(len(rows)):
        told = [name for name in classes if values[name][number] in YES]
        if len(told) != 1:
            raise BadInputError(
                f"Row {number} of {table} has a 1 in {' and '.join(told) or 'none'} of the columns {', '.join(classes[:5])}"
                f"{', ...' if len(classes) > 5 else ''}: an image has one class. Mend the row, or name the column of the labels "
                "with `--set data.label_column=...`."
            )
        labels += told
    logger.info("The classes of %s are its columns %s, of which a row has a 1 in one.", table, ", ".join(classes))
    kept = [i for i, name in enumerate(columns) if name not in classes]
    rows = [[*(row[i] for i in kept), label] for row, label in zip(rows, labels, strict=True)]
    return [*(columns[i] for i in kept), "label"], rows
