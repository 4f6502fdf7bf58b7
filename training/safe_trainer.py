"""Checkpoints of a Trainer: whole or not there, resumed with the same images and processes or not at all."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from tailmoe.training.checkpoints import (
    check_data,
    check_network,
    check_processes,
    check_whole,
    fault_of,
    last_complete_checkpoint,
    precision_so_far,
    seconds_so_far,
    write_manifest,
)
from tailmoe.training.data import DecodedImages, EncodedImages
from tailmoe.training.errors import FaultError
from tailmoe.training.faults import naming_faults, room_in
from tailmoe.training.hub_trainer import HubTrainer
from tailmoe.training.sharding import own_class


class SafeTrainer(HubTrainer):
    """What `LongTailTrainer` does about checkpoints; see there.

    A checkpoint tells what it consists of and which images it was trained on. One that could not be written to its end is
    deleted, and the one before it stays; one that is damaged, or that other images or another number of processes would
    continue, is refused.
    """

    _began: float | None = None  # on the clock of `time.perf_counter`

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """As in transformers; `True` resumes from the last whole checkpoint, or starts without one.

        Raises:
            BadInputError: If the checkpoint is damaged, or of another network, other images or another number of processes.
            FaultError: If a process or the disk fails; the last whole checkpoint stays.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
        elif resume_from_checkpoint:
            check_whole(resume_from_checkpoint)
        self.precision, self._seconds_before, self._ended = self.args.precision, 0.0, None
        if resume_from_checkpoint:
            check_processes(resume_from_checkpoint, self.args.world_size)
            check_network(resume_from_checkpoint, self.model)
            check_data(resume_from_checkpoint, self._training_data())
            self.precision = precision_so_far(resume_from_checkpoint, self.args.precision)
            self._seconds_before = seconds_so_far(resume_from_checkpoint)
        self._began = time.perf_counter()
        with naming_faults(self.args.output_dir):
            output = super().train(resume_from_checkpoint, **kwargs)
        self._ended = time.perf_counter()
        return output

    @property
    def train_seconds(self) -> float | None:
        """Time of the steps so far, those before a resume among them; None before training and where it is not known."""
        if self._began is None or self._seconds_before is None:
            return None
        return self._seconds_before + (self._ended or time.perf_counter()) - self._began

    def kept_parts(self) -> dict[str, object]:
        """What has a state beside the model that a checkpoint must hold, by the name of its file there."""
        return {}

    def _training_data(self) -> dict | None:
        """What of the training images must be the same on resume."""
        if not isinstance(self.train_dataset, DecodedImages | EncodedImages):
            return None
        labels, processor = self.train_dataset.labels.cpu().numpy(), self.processing_class
        return {
            "num_train": len(labels),
            "label_names": [str(name) for _, name in sorted(self.model.config.id2label.items())],
            "class_counts": self.class_counts,
            "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
            "image_mean": list(processor.image_mean),  # measured on the images, where no backbone gives it
            "image_std": list(processor.image_std),
        }

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with own_class(self.model):
            super()._save(output_dir, state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            for name, part in self.kept_parts().items():
                safetensors.torch.save_file(part.state_dict(), os.path.join(output_dir, name))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            for name, part in self.kept_parts().items():
                part.load_state_dict(safetensors.torch.load_file(os.path.join(checkpoint, name)))

    def _save_rng_state(self, output_dir: str) -> None:
        """As in transformers; of all that a process writes by itself it is the last."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_manifest(output_dir, self._training_data(), self.precision, self.train_seconds)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with _whole_or_not_there(folder):
            super()._save_checkpoint(model, trial)


@contextlib.contextmanager
def _whole_or_not_there(checkpoint: Path) -> Iterator[None]:
    """Delete a checkpoint that an error kept from being written to its end.

    Raises:
        FaultError: In place of what the libraries raise when a file cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if checkpoint.exists() and fault_of(checkpoint) is None:
            raise  # something that came after it
        room = room_in(checkpoint.parent)
        shutil.rmtree(checkpoint, ignore_errors=True)
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):  # torch's writer of files
            raise
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise FaultError(
            f"{checkpoint} cannot be written: {reason}.{room} The checkpoint before it is kept: make room, then "
            "--resume continues."
        ) from error
