"""Checkpoints: what they tell of themselves, which of them are whole, and which run can go on from them."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, sort_checkpoints
from transformers.utils import SAFE_WEIGHTS_NAME

from tailmoe.training.errors import BadInputError, FaultError
from tailmoe.training.evaluation.weights import check_weights
from tailmoe.training.faults import in_one_line, room_in
from tailmoe.training.trainer.same_data import check_same_data, describe_data

logger = logging.getLogger(__name__)
MANIFEST_NAME = "manifest.json"
OBJECTIVE_NAME = "objective.safetensors"
UNFINISHED = "it was not written to its end"
NO_MANIFEST = " (`save_only_model`, or another Trainer wrote it)"
TORCH_FILES = (".bin", ".pt", ".pth")


def finish_checkpoint(checkpoint: str | os.PathLike, trainer: Trainer) -> None:
    """Write the state of a `LongTailTrainer`'s objective, and a manifest, beside all files but the Trainer's state.

    The manifest has the sizes of the files, the data that must be the same on resume, and precision and seconds so far.
    """
    folder = Path(checkpoint)
    if trainer.objective is not None and (state := trainer.objective.state_dict()):
        save_file(state, folder / OBJECTIVE_NAME)
    later = (MANIFEST_NAME, TRAINER_STATE_NAME)  # there already where a step is saved twice
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name not in later}
    manifest = {"data": describe_data(trainer), "precision": trainer.precision, "seconds": trainer.train_seconds}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest | {"files": sizes}, indent=1))


def fault_of(checkpoint: str | os.PathLike) -> str | None:
    """What keeps training from continuing at a checkpoint; None if it is whole."""
    folder = Path(checkpoint)
    if not (folder / TRAINER_STATE_NAME).exists():
        return UNFINISHED
    name = TRAINER_STATE_NAME
    try:
        json.loads((folder / name).read_text())
        name = MANIFEST_NAME
        sizes = json.loads((folder / name).read_text())["files"]
        for name, size in sizes.items():
            if (folder / name).stat().st_size != size or not _opens(folder / name):
                return f"{name} is damaged"
    except FileNotFoundError:
        return f"{name} is missing" + (NO_MANIFEST if name == MANIFEST_NAME else "")
    except (OSError, ValueError, KeyError, SafetensorError, BadZipFile):
        return f"{name} is damaged"
    return None


def _opens(path: Path) -> bool:
    """Whether a file of tensors is one; torch's are archives with a checksum of each part."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):
            return True
    if path.suffix in TORCH_FILES:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    return True


def checkpoint_to_resume(given: str | bool | None, run: str | os.PathLike) -> str | None:
    """The whole checkpoint that `resume_from_checkpoint` means; None to start anew.

    Args:
        given: A folder, or True for the newest whole checkpoint of the folder `run`, if there is one.
        run: The output folder.

    Raises:
        BadInputError: If it is damaged, or all in `run` that were written to their end are.
    """
    if given is True:
        return last_complete_checkpoint(run)
    if given and (fault := fault_of(given)):
        raise BadInputError(f"{given} cannot be resumed: {fault}. Give another checkpoint.")
    return given or None


def last_complete_checkpoint(run: str | os.PathLike) -> str | None:
    """The newest whole checkpoint of the folder `run`; None if none was written to its end.

    Raises:
        BadInputError: If all that were written to their end are damaged.
    """
    damaged = {}
    for checkpoint in reversed(sort_checkpoints(str(run))):
        if (fault := fault_of(checkpoint)) is None:
            return checkpoint
        logger.warning("Skipping %s: %s.", checkpoint, fault)
        damaged |= {} if fault == UNFINISHED else {checkpoint: fault}
    for checkpoint, fault in damaged.items():
        raise BadInputError(
            f"{checkpoint} cannot be resumed: {fault}, and no whole checkpoint lies beside it. Delete it to start anew."
        )
    return None


def share_done(run: str | os.PathLike) -> float:
    """The share of a run that its newest whole checkpoint holds; 0 without one."""
    for checkpoint in reversed(sort_checkpoints(str(run))):
        if (state := Path(checkpoint) / TRAINER_STATE_NAME).exists():
            content = json.loads(state.read_text())
            return content["global_step"] / content["max_steps"]
    return 0.0


def check_network(checkpoint: str | os.PathLike, model: nn.Module) -> None:
    """Raise `BadInputError` if the checkpoint's weights, where they are in one file, are not those of the model."""
    path = Path(checkpoint) / SAFE_WEIGHTS_NAME
    if path.is_file():
        with safe_open(path, framework="pt") as weights:
            saved, own = set(weights.keys()), set(model.state_dict())
        check_weights(str(checkpoint), own - saved, saved - own)


def check_processes(checkpoint: str | os.PathLike, world_size: int) -> None:
    """Raise `BadInputError` unless as many processes wrote the checkpoint: the Trainer keeps random states of each."""
    written = len(list(Path(checkpoint).glob("rng_state*.pth")))
    if written != world_size:
        raise BadInputError(
            f"{checkpoint} was written by {written} {'process' if written == 1 else 'processes'}, now there "
            f"{'is 1' if world_size == 1 else f'are {world_size}'}: batches and steps would differ. Resume with {written}."
        )


def take_up(checkpoint: str | os.PathLike, trainer: Trainer) -> tuple[str, float]:
    """Restore of a `LongTailTrainer` what transformers does not, once it is clear that it can go on from there.

    Returns:
        The precision of the whole run, such as `float32, bfloat16` if it changes, and the seconds that it has trained.

    Raises:
        BadInputError: If the checkpoint is of another network, another objective, other images or another number of processes.
    """
    check_processes(checkpoint, trainer.args.world_size)
    check_network(checkpoint, trainer.model)
    manifest = json.loads((Path(checkpoint) / MANIFEST_NAME).read_text())
    check_same_data(manifest["data"], describe_data(trainer), str(checkpoint))
    _restore_objective(Path(checkpoint) / OBJECTIVE_NAME, trainer.objective)
    precision, now = manifest["precision"], trainer.args.precision
    if precision.split(", ")[-1] != now:
        told = "%s was written in %s, training goes on in %s: it ends otherwise than without a break."
        logger.warning(told, checkpoint, precision, now)
        precision = f"{precision}, {now}"
    return precision, manifest["seconds"]


def _restore_objective(path: Path, objective: nn.Module | None) -> None:
    saved = load_file(path) if path.exists() else {}
    own = {} if objective is None else objective.state_dict()
    if saved.keys() != own.keys():
        raise BadInputError(f"{path.parent} was written with another objective: resume with the same, or train anew.")
    if own:
        objective.load_state_dict(saved)


@contextlib.contextmanager
def whole_or_not_there(trainer: Trainer, run: Path) -> Iterator[None]:
    """Delete the checkpoint of a Trainer's step, in the folder of its run, that an error kept from being written to its end.

    Raises:
        FaultError: In place of what the libraries raise when a file cannot be written.
    """
    checkpoint = run / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
    try:
        with _own_names(trainer.model):
            yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if fault_of(checkpoint) is None:
            raise  # something that came after it
        room = room_in(checkpoint.parent)
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise FaultError(
            f"{checkpoint} cannot be written: {in_one_line(error)}.{room} The checkpoint before it is kept: make room, then "
            "--resume continues."
        ) from error


@contextlib.contextmanager
def _own_names(model: nn.Module) -> Iterator[None]:
    """Let weights be saved under the names that they have in the model, by which the Trainer loads them again.

    transformers saves those of some backbones, such as ViT, under the names of an earlier version.
    """
    before = getattr(model, "_weight_conversions", None)
    model._weight_conversions = []
    try:
        yield
    finally:
        model._weight_conversions = before
