"""Whole training steps as CUDA graphs: one launch for each step, where there were a thousand.

The kernels of a small network take microseconds, less than the host needs to launch them. A recorded step runs at the
speed of the device instead (torch.cuda.CUDAGraph).
"""

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

logger = logging.getLogger(__name__)
# on a stream of their own, before the recording: they make the state of the optimizer and choose the algorithms
EAGER_STEPS = 3


def can_record(args: TrainingArguments, papers_sgd: bool = True) -> bool:
    """Whether steps can be recorded with these arguments; on a CUDA device one line of the log says why not.

    Args:
        args: Of the Trainer.
        papers_sgd: Whether the optimizer is that of `optimization.papers_sgd`.
    """
    if args.device.type != "cuda":
        return False
    hindrances = {
        f"`optim` is {args.optim}, not sgd": args.optim != "sgd",
        "the optimizer was given": args.optim == "sgd" and not papers_sgd,
        "`gradient_accumulation_steps` is above 1": args.gradient_accumulation_steps > 1,
        "`max_grad_norm` is above 0": args.max_grad_norm > 0,
        "float16 scales its gradients": args.fp16,
        "there are several processes or devices": args.world_size > 1 or args.n_gpu > 1,
    }
    reasons = [reason for reason, hinders in hindrances.items() if hinders]
    if reasons:
        logger.info("Training without CUDA graphs: %s.", "; ".join(reasons))
    return not reasons


def graphs_of(trainer: Trainer, papers_sgd: bool) -> "StepGraphs | None":
    """What runs the steps of a `LongTailTrainer` as CUDA graphs; None where they cannot be recorded."""
    if not can_record(trainer.args, papers_sgd):
        return None
    return StepGraphs(functools.partial(whole_step, trainer), trainer.args.device)


def recorded_step(trainer: Trainer, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """A training step of a `LongTailTrainer` with graphs: it updates the parameters itself and leaves no gradient."""
    rates = {f"learning_rate_{i}": group["lr"] for i, group in enumerate(trainer.optimizer.param_groups)}
    active = trainer.training_loss.begin_step(model, trainer.progress)
    loss = trainer.graphs({**inputs, **rates, "progress": trainer.progress}, active)
    trainer.training_loss.end_step(active, trainer.state.global_step + 1)
    return loss


def whole_step(trainer: Trainer, inputs: dict[str, Tensor], active: tuple[str, ...]) -> Tensor:
    """Everything from the pixels to the update, for inputs on the device: what a CUDA graph records."""
    rates = [inputs.pop(f"learning_rate_{i}") for i in range(len(trainer.optimizer.param_groups))]
    progress = inputs.pop("progress")
    trained = [trainer.model_wrapped] if trainer.objective is None else [trainer.model_wrapped, trainer.objective]
    for module in trained:
        module.zero_grad()
    with trainer.compute_loss_context_manager():
        loss, _ = trainer.training_loss(trainer.model_wrapped, trainer.batches.finish(inputs), progress, active)
    loss.backward()
    with tensor_learning_rates(trainer.optimizer.param_groups, rates):
        trainer.optimizer.optimizer.step()
    for module in trained:  # the Trainer's own update then finds no gradient and changes nothing
        module.zero_grad()
    return loss.detach()


@contextlib.contextmanager
def tensor_learning_rates(param_groups: list[dict], rates: list[Tensor]) -> Iterator[None]:
    """The learning rates of an optimizer's groups as tensors, which a recorded step reads anew each time it runs."""
    numbers = [group["lr"] for group in param_groups]
    for group, rate in zip(param_groups, rates, strict=True):
        group["lr"] = rate
    try:
        yield
    finally:
        for group, number in zip(param_groups, numbers, strict=True):
            group["lr"] = number


@dataclass(frozen=True)
class Recording:
    """One recorded variant: what is copied in, what is launched, what comes out."""

    inputs: dict[str, Tensor]
    graph: "torch.cuda.CUDAGraph"
    loss: Tensor

    def __call__(self, inputs: dict[str, Tensor | float]) -> Tensor:
        for name, value in inputs.items():
            if isinstance(value, Tensor):
                self.inputs[name].copy_(value, non_blocking=True)
            else:
                self.inputs[name].fill_(value)
        self.graph.replay()
        return self.loss


class StepGraphs:
    """Runs training steps, each variant of them recorded after its first `EAGER_STEPS` runs.

    A variant is what the host decides about a step: the loss terms that act and the shapes of the inputs, such as that
    of an epoch's last batch. Where a variant cannot be recorded, one line of the log says why and all steps run eagerly.

    Args:
        step: Forward, backward and update for inputs that are tensors on the device, and a variant; returns the loss.
            It must clear gradients that it finds, as a recording that failed may leave them.
        device: The CUDA device.
    """

    def __init__(self, step: Callable[[dict[str, Tensor], Hashable], Tensor], device: torch.device):
        self.step, self.device = step, device
        self.recordings: dict[Hashable, Recording] = {}
        self.eager_runs: Counter[Hashable] = Counter()
        self.recordable = True
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, inputs: dict[str, Tensor | float], variant: Hashable) -> Tensor:
        """Run the step; numbers among the inputs reach it as scalar tensors."""
        shapes = tuple(tuple(value.shape) for value in inputs.values() if isinstance(value, Tensor))
        key = (variant, shapes)
        if self.recordable and key not in self.recordings and self.eager_runs[key] >= EAGER_STEPS:
            try:
                self.recordings[key] = self._record(self._on_device(inputs), variant)
            except RuntimeError as error:
                self.recordable = False
                logger.warning("Training without CUDA graphs: %s", str(error).strip().splitlines()[0])
        if key in self.recordings:
            return self.recordings[key](inputs)
        self.eager_runs[key] += 1
        return self._run_eagerly(self._on_device(inputs), variant)

    def _on_device(self, inputs: dict[str, Tensor | float]) -> dict[str, Tensor]:
        return {
            name: value.clone() if isinstance(value, Tensor) else torch.full((), value, device=self.device)
            for name, value in inputs.items()
        }

    def _run_eagerly(self, inputs: dict[str, Tensor], variant: Hashable) -> Tensor:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            loss = self.step(inputs, variant)
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        loss.record_stream(torch.cuda.current_stream(self.device))
        return loss

    def _record(self, inputs: dict[str, Tensor], variant: Hashable) -> Recording:
        graph = torch.cuda.CUDAGraph()
        # other threads may pin memory meanwhile
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            loss = self.step(dict(inputs), variant)
        return Recording(inputs, graph, loss)
