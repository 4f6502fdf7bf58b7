"""Brings the folders of published models to the present code.

    python -m tailmoe.hub_cards.published_models hub_cards/models

A folder gets the present modeling code and its card anew if that code gives the logits of the fixed images that its results
hold. Where they hold none, those that the folder's own code gives are put there first.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

import tailmoe.modeling  # noqa: F401 (registers our models)
from tailmoe.hub_cards.clean_process import DoesNotLoadError, logits_in_clean_process
from tailmoe.hub_cards.fixed_images import how_made
from tailmoe.hub_cards.model_card import write_card
from tailmoe.training.errors import BadInputError
from tailmoe.training.results.results import RESULTS_NAME, FixedImages, RunResults

TOLERANCE = 1e-5  # absolute, and relative to each logit
FOLLOWS = (".py", ".json")  # what a folder takes over of a model that is saved anew


def update_models(folders: Sequence[Path]) -> None:
    """Bring folders to the present code, all or none.

    Raises:
        BadInputError: If one holds no results of a run, does not load, or gives other logits.
    """
    results = {folder: RunResults.load(folder / RESULTS_NAME) for folder in folders}
    for folder in folders:
        if results[folder].fixed_images is None:
            logits = _logits(folder, folder, "the code that lies in it")
            made = how_made(AutoConfig.from_pretrained(folder))
            results[folder].fixed_images = FixedImages(made=made, logits=logits.tolist())
    with tempfile.TemporaryDirectory() as temporary:
        staged = {folder: Path(temporary) / folder.name for folder in folders}
        for folder, stage in staged.items():
            save_anew(folder, stage)
            _check_same(folder, results[folder].fixed_images, _logits(folder, stage, "the present code"))
        for folder, stage in staged.items():
            for old in folder.glob("*.py"):
                old.unlink()
            for path in stage.iterdir():
                if path.suffix in FOLLOWS:
                    shutil.copyfile(path, folder / path.name)
            results[folder].save(folder / RESULTS_NAME)
            write_card(folder)


def save_anew(folder: Path, target: Path) -> None:
    """Save a folder's model and image processor as the present code does: weights, configurations and the code."""
    try:
        AutoModelForImageClassification.from_pretrained(folder).save_pretrained(target)
        AutoImageProcessor.from_pretrained(folder).save_pretrained(target)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadInputError(f"`{folder}` does not load by the present code: {str(error).splitlines()[0]}") from None


def _logits(folder: Path, of: Path, code: str) -> torch.Tensor:
    """Of the model of a folder, or of what was made of it."""
    try:
        return logits_in_clean_process(of)
    except DoesNotLoadError as reason:
        raise BadInputError(f"`{folder}` does not load by {code}: {reason}") from None


def _check_same(folder: Path, before: FixedImages, logits: torch.Tensor) -> None:
    made = how_made(AutoConfig.from_pretrained(folder))
    if before.made != made:
        raise BadInputError(f"The logits of `{folder}` are of other images, {before.made}, than now, {made}.")
    expected = torch.tensor(before.logits)
    if expected.shape != logits.shape or not torch.allclose(logits, expected, rtol=TOLERANCE, atol=TOLERANCE):
        differ = f"by {float((logits - expected).abs().max()):.2g}" if expected.shape == logits.shape else "in number"
        raise BadInputError(
            f"The present code changes what `{folder}` answers: its logits differ {differ}. Mend the code, or train and "
            "publish the model anew."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Update all folders of one folder; a wrong one ends the process with one line, and all stay as they are."""
    parser = argparse.ArgumentParser(description="Bring the folders of published models to the present code.")
    parser.add_argument("models", type=Path, help="folder with a folder for each model")
    given = parser.parse_args(arguments)
    try:
        folders = sorted(path for path in given.models.iterdir() if path.is_dir())
        update_models(folders)
    except (BadInputError, OSError) as error:
        parser.error(str(error))
    sys.stdout.write(f"{len(folders)} models have the present code.\n")


if __name__ == "__main__":
    main(sys.argv[1:])
