"""How a Trainer saves models and checkpoints."""

from pathlib import Path

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tailmoe.training.trainer.checkpoints import finish_checkpoint, whole_or_not_there
from tailmoe.training.trainer.sharding import own_class


class SavingTrainer(Trainer):
    """Writes checkpoints that are whole or not there, with all that `LongTailTrainer` resumes by."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in transformers; a sharded model is saved as one of its own class."""
        with own_class(self.model):
            super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        # overridden: nothing public is around all that transformers writes
        self.training_loss.check_finite(self.state.global_step + 1)
        folder = Path(self._get_output_dir(trial))
        with whole_or_not_there(folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        # overridden: of all that a process writes by itself it is the last, then comes the state that makes a checkpoint whole
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            finish_checkpoint(output_dir, self)
