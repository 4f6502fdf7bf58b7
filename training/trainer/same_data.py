"""Whether a run that is resumed has the images that it had before."""

import hashlib

from transformers import Trainer

from tailmoe.training.data.own_batches import labels_of
from tailmoe.training.errors import BadInputError


def describe_data(trainer: Trainer) -> dict:
    """What of the training images of a `LongTailTrainer` must be the same on resume."""
    if trainer.train_dataset is None:
        raise BadInputError("`train_dataset` is missing: there is nothing to train on.")
    labels, processor = labels_of(trainer.train_dataset), trainer.processing_class
    return {
        "num_train": None if labels is None else len(labels),
        "label_names": [str(name) for _, name in sorted(trainer.model.config.id2label.items())],
        "class_counts": trainer.class_counts,
        "labels": None if labels is None else hashlib.sha256(labels.cpu().numpy().tobytes()).hexdigest(),
        "image_mean": list(processor.image_mean),  # measured on the images, where no backbone gives it
        "image_std": list(processor.image_std),
    }


def check_same_data(before: dict, now: dict, where: str) -> None:
    """Raise `BadInputError` unless the descriptions of data are the same.

    Args:
        before: Numbers, words and lists of them by name, as they were written.
        now: Likewise; names that only one of the two has are not compared.
        where: What was made of the data before.
    """
    for name, value in before.items():
        if name in now and now[name] != value:
            raise BadInputError(
                f"The images have changed since {where} was written: {_difference(name, value, now[name])}. "
                "Resume with the images as they were, or train anew in another folder."
            )


def _difference(name: str, before: object, now: object) -> str:
    """In words; of lists the first element that differs."""
    if not isinstance(before, list):
        return f"`{name}` was {before}, now it is {now}"
    if len(before) != len(now):
        return f"`{name}` had length {len(before)}, now {len(now)}"
    index = next(i for i, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
    return f"`{name}[{index}]` was {before[index]}, now it is {now[index]}"
