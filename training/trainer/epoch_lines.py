"""What a training run shows of itself: one line an epoch, below it a progress bar on a terminal."""

import sys
import time

from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

NO_TERMS = ("loss", "learning_rate", "grad_norm", "epoch")
NO_METRICS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")  # of what is measured


class EpochLines(TrainerCallback):
    """Writes a line whenever the training loss is logged, or a split evaluated, in place of transformers' dictionaries.

    It has the epoch, the share of the run that is done, the loss, the learning rate, images per second and the time left since
    training began or was resumed, and the terms of the loss.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._start, self._first_step = time.perf_counter(), state.global_step

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        if state.is_world_process_zero and "loss" in logs:
            tqdm.write(self._line(args, state, logs), file=sys.stderr)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics, **kwargs):
        if state.is_world_process_zero:
            shown = [(name, value) for name, value in metrics.items() if name.startswith("eval_")]
            shown = [f"{name[5:]} {value:.4g}" for name, value in shown if not name.endswith(NO_METRICS)]
            tqdm.write(f"evaluation   {', '.join(shown)}", file=sys.stderr)

    def _line(self, args: TrainingArguments, state: TrainerState, logs: dict[str, float]) -> str:
        of_a_step = (time.perf_counter() - self._start) / max(state.global_step - self._first_step, 1)
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        terms = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name not in NO_TERMS)
        epochs = f"{state.num_train_epochs:g}"
        return (
            f"epoch {logs['epoch']:{len(epochs)}.3g}/{epochs} {state.global_step / state.max_steps:5.0%}   "
            f"loss {logs['loss']:<9.4g}  learning rate {logs['learning_rate']:<9.3g}{batch / of_a_step:9,.0f} images/s "
            f"{duration((state.max_steps - state.global_step) * of_a_step):>6} left   {terms}"
        )


class ProgressBar(ProgressCallback):
    """The bar of transformers, without its dictionaries."""

    on_log = TrainerCallback.on_log


def show_epochs(trainer: Trainer) -> None:
    """Let a new Trainer show lines of epochs; below them the bar, on a terminal, unless `disable_tqdm` is set.

    A notebook keeps the table of transformers.
    """
    default = trainer.callback_handler.callbacks[-1]  # those that were given come before it
    if type(default) not in (PrinterCallback, ProgressCallback):
        return
    trainer.remove_callback(default)
    if not trainer.args.disable_tqdm and sys.stderr.isatty():
        trainer.add_callback(ProgressBar)
    trainer.add_callback(EpochLines)


def duration(seconds: float) -> str:
    """Seconds in words, such as 45s, 12m, 2h05m or 3d04h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 59.5:
        return f"{seconds:.0f}s"
    if minutes < 60:
        return f"{minutes}m"
    return f"{minutes // 60}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"
