"""The splits that a Trainer is given, as it trains on them and evaluates them."""

import datasets
from torch.utils.data import IterableDataset
from transformers import BaseImageProcessor

from tailmoe.training.data import LazyImages, load_images
from tailmoe.training.data.columns import own_columns, with_own_columns
from tailmoe.training.data.lazy_images import UnlabelledImages
from tailmoe.training.data.own_batches import gives_pixels, streamed
from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.arguments import LongTailTrainingArguments


def loaded(
    images: object,
    image_processor: BaseImageProcessor,
    args: LongTailTrainingArguments,
    desc: str = "Decoding images",
) -> object:
    """The images of a `datasets.Dataset`, or of each in a dict of them, as `args` ask for.

    Streamed ones are decoded when they come; what gives pixel values itself stays as it is.

    Raises:
        BadInputError: As `load_images`, or if several processes would skip images of batches that they share.
    """
    if isinstance(images, dict):
        return {name: loaded(each, image_processor, args, desc) for name, each in images.items()}
    if isinstance(images, datasets.IterableDataset):
        return streamed(images, image_processor)
    if isinstance(images, datasets.Dataset) and not gives_pixels(images):
        images = with_own_columns(images)
        images = load_images(images, image_processor, args.on_bad_image, args.image_memory_share, desc)
    if args.world_size > 1 and isinstance(images, LazyImages) and args.on_bad_image == "skip":
        raise BadInputError("Several processes cannot skip images of a batch: mend them, `on_bad_image: error`.")
    return images


def check_streamed(images: object, args: LongTailTrainingArguments) -> None:
    """Raise `BadInputError` for arguments that images to train on cannot follow, which come in an order of their own."""
    if not isinstance(images, IterableDataset):
        return
    if args.train_sampler != "shuffle":
        raise BadInputError(
            f"`train_sampler` {args.train_sampler} chooses images, and a streamed `train_dataset` gives them in its own order: "
            "leave one of the two out."
        )
    if args.max_steps < 1:
        raise BadInputError("`max_steps` is missing: nobody knows how long an epoch of a streamed `train_dataset` is.")


def loaded_to_predict(images: object, image_processor: BaseImageProcessor, args: LongTailTrainingArguments) -> object:
    """As `loaded`; the images of a `datasets.Dataset` may lack labels."""
    if isinstance(images, datasets.Dataset) and not gives_pixels(images):
        try:
            own_columns(images.features)
        except BadInputError:
            columns = [name for name, feature in images.features.items() if isinstance(feature, datasets.Image)]
            if len(columns) == 1:
                unlabelled = images.select_columns(columns)
                return UnlabelledImages(unlabelled.rename_columns(dict.fromkeys(columns, "image")), image_processor)
            raise
    return loaded(images, image_processor, args)
