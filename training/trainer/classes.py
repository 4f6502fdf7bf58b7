"""What the training images say of themselves and their classes, told to the model and the objective that learn from them."""

import logging
from collections.abc import Sequence

import datasets
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from tailmoe.modeling.configuration_tailmoe import TailMoEConfig
from tailmoe.training.data.long_tailed import counts_of_labels
from tailmoe.training.data.own_batches import labels_of
from tailmoe.training.errors import BadInputError
from tailmoe.training.objectives.class_weighted import ClassWeightedObjective

logger = logging.getLogger(__name__)
UNKNOWN = "`train_dataset` does not tell its labels without its images (by an attribute `labels`): %s."
NO_COUNTS = "the class counts are unknown, and no shot groups are measured"
READERS = (None, "arrow", "csv", "generator", "imagefolder", "json", "parquet", "webdataset")  # no names of data


def name_of_data(dataset: object) -> str | None:
    """The name that a `datasets.Dataset` has from where it was loaded, if any."""
    name = dataset.info.dataset_name if isinstance(dataset, datasets.Dataset) else None
    return None if name in READERS else name


def label_names(dataset: object) -> list[str] | None:
    """The names of the classes, where a data set of `datasets` has them in its only column of such."""
    features = dataset.features if isinstance(dataset, datasets.Dataset | datasets.IterableDataset) else None
    labels = [each for each in (features or {}).values() if isinstance(each, datasets.ClassLabel)]
    return labels[0].names if len(labels) == 1 else None


def learn_classes(
    model: PreTrainedModel,
    objective: nn.Module | None,
    images: torch.utils.data.Dataset | None,
    names: list[str] | None,
) -> list[int] | None:
    """Let model and objective know the classes of the training images; the log tells what that replaces.

    Returns:
        The number of images of each class, that of the model's configuration where the images cannot tell; None if neither
        is known, or without images, and then nothing is changed.

    Raises:
        BadInputError: If a label does not fit the model, the objective was made for another number of classes, or needs to
            know how many images there are of each.
    """
    if images is None:
        return None
    labels = labels_of(images)
    if labels is None:
        counts = getattr(model.config, "class_counts", None)
        logger.warning(UNKNOWN, "those of the model's configuration are taken" if counts else NO_COUNTS)
        counts = None if counts is None else list(counts)
    else:
        counts = counts_of_labels(labels.cpu(), model.config.num_labels)
    if counts is not None:
        set_class_counts(model, objective, counts)
    elif isinstance(objective, ClassWeightedObjective) and objective.balanced:
        raise BadInputError(
            "`class_weights` balanced needs the images of each class: set `class_counts` of the model."
        )
    set_logit_adjustment(model, objective)
    set_label_names(model.config, names)
    return counts


def set_class_counts(model: PreTrainedModel, objective: nn.Module | None, class_counts: list[int]) -> None:
    """Let one of our models and the objective assume the images that they train on; the log tells of others before.

    Raises:
        BadInputError: If the objective was made for another number of classes.
    """
    replaced = []
    if isinstance(model.config, TailMoEConfig):  # of a model with an adapter of peft, too
        before = model.config.class_counts
        if before is not None and list(before) != class_counts:
            replaced.append("the model's configuration")
        model.config.class_counts = class_counts
    if objective is not None:
        try:
            changed = objective.set_class_counts(class_counts)
        except ValueError as error:
            raise BadInputError(f"`objective` does not fit the training images: {error}") from None
        replaced += ["the objective"] if changed else []
    if replaced:
        logger.warning(
            "The class counts of %s were of other images: those of the %d training images take their place.",
            *(" and ".join(replaced), sum(class_counts)),
        )


def set_logit_adjustment(model: PreTrainedModel, objective: nn.Module | None) -> None:
    """Let the configuration of one of our models tell which frequencies of classes the logits assume after this training."""
    if isinstance(model.config, TailMoEConfig):
        before = model.config.training_logit_adjustment
        now = None if objective is None else objective.training_logit_adjustment
        if before not in (None, now):
            logger.warning(
                "`training_logit_adjustment` of the model's configuration was %s, now it is %s.", before, now
            )
        model.config.training_logit_adjustment = now


def set_label_names(config: PreTrainedConfig, names: Sequence[str] | None) -> None:
    """Name the model's classes as the training images do.

    Names that were given to a new model stay; those of a model that was loaded are of the images that it learned before.
    """
    if names is None:
        return
    before = [str(config.id2label[index]) for index in range(config.num_labels)]
    names = list(names)[: config.num_labels]
    different = next((index for index, name in enumerate(before) if name != names[index]), None)
    if different is None:
        return
    both = f"class {different} is `{names[different]}` in the training images, `{before[different]}` in the model"
    if before != [f"LABEL_{index}" for index in range(config.num_labels)]:
        if not config.name_or_path:
            logger.warning("The model keeps its own class names: %s.", both)
            return
        logger.warning("The names of the training images take the place of the loaded model's: %s.", both)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
