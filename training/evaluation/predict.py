"""What a trained model makes of single images."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedModel

from tailmoe.training.data import decode_image
from tailmoe.training.data.images import check_policy, colour_options
from tailmoe.training.data.tree import LeftOut, read_tree, some
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.answers import answer
from tailmoe.training.evaluation.inference import Runner

logger = logging.getLogger(__name__)
PREDICTED_AT_ONCE = 32  # image files


def predict_images(
    run: Runner,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    paths: Sequence[str],
    top_k: int,
    on_bad_image: str = "error",
) -> Iterator[dict]:
    """Labels, probabilities and each expert's view of image files, one after the other.

    Args:
        run: Runs the model: the model itself, or another backend, see `load_runner`.
        model: Tells labels and training counts.
        processor: Its image processor.
        paths: Image files, or addresses of them.
        top_k: Labels for each image.
        on_bad_image: `"error"`, or `"skip"` to leave out and log images that cannot be read.

    Yields:
        For each image a dict: `path`; `labels`, the `top_k` most probable as dicts of `label`, `probability` and
        `training_images` (None if unknown); `experts`, a list with the same for each expert; `gate_probs`, a list of
        K weights, or None.

    Raises:
        BadInputError: For the first image that cannot be read, after those before it, unless such images are skipped; if
            none can be read.
    """
    check_policy(on_bad_image)
    skipped = 0
    for start in range(0, len(paths), PREDICTED_AT_ONCE):
        batch = paths[start : start + PREDICTED_AT_ONCE]
        read, pixels, unread = _read(batch, processor, on_bad_image)
        if read:
            yield from _answers(run, model, read, torch.cat(pixels), top_k)
        if unread and on_bad_image == "error":
            raise BadInputError(f"{unread[0]}; `--on-bad-image skip` leaves such files out.")
        skipped += len(unread)
    if skipped == len(paths):
        raise BadInputError("None of the images can be read: the warnings above name them.")


def image_files(sources: Sequence[str]) -> list[str]:
    """Image files and addresses as they are; instead of a folder the images in it and in the folders below, by name.

    What lies there and cannot be read is told in the log.

    Raises:
        BadInputError: If a folder holds no image that can be read.
    """
    files = []
    for source in sources:
        if not os.path.isdir(source):
            files.append(source)
            continue
        left_out = LeftOut()
        found = [*read_tree(Path(source), left_out).all_images()]
        left_out.tell()
        if not found:
            reasons = "".join(f", but images {reason}: {some(paths)}" for reason, paths in left_out.items())
            raise BadInputError(f"`{source}` holds no image that can be read{reasons}.")
        files += sorted(os.path.join(source, os.path.relpath(file, os.path.abspath(source))) for file in found)
    return files


def open_image(path: str) -> Image.Image:
    """The image of a file, upright.

    Raises:
        BadInputError: If the file is not there, not an image, truncated, or too large to decode safely.
    """
    try:
        return decode_image(path)
    except BadInputError as error:
        raise BadInputError(f"`{path}` cannot be read as an image: {error}") from None


def _read(
    paths: Sequence[str], processor: BaseImageProcessor, on_bad_image: str
) -> tuple[list[str], list[Tensor], list[BadInputError]]:
    """The files that can be read, what the model sees of each, (1, C, H, W), and why others cannot; no more after an error."""
    read, pixels, unread = [], [], []
    for path in paths:
        try:
            image = open_image(path)
        except BadInputError as error:
            unread.append(error)
            if on_bad_image == "error":
                break
            logger.warning("Skipped: %s", error)
            continue
        pixels.append(processor(image, return_tensors="pt", **colour_options(processor))["pixel_values"])
        read.append(path)
    return read, pixels, unread


@torch.inference_mode()
def _answers(run: Runner, model: PreTrainedModel, paths: list[str], pixel_values: Tensor, top_k: int) -> list[dict]:
    output = run(pixel_values=pixel_values.to(model.device))
    return [{"path": path} | answer(model, output, row, top_k) for row, path in enumerate(paths)]
