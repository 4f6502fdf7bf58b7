"""The optimizer and the schedule of the papers, which transformers does not have."""

import math
from collections.abc import Callable

import torch
from torch import nn

from tailmoe.training.errors import BadInputError
from tailmoe.training.objectives.processes import average_gradients
from tailmoe.training.trainer.arguments import LongTailTrainingArguments


def papers_sgd(model: nn.Module, args: LongTailTrainingArguments, fused: bool = True) -> torch.optim.SGD:
    """SGD with momentum, and weight decay on every parameter that is trained; torch cannot fuse it for sharded weights."""
    return torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=args.learning_rate,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        fused=fused,
    )


def add_objective(optimizer: torch.optim.Optimizer, objective: nn.Module | None) -> None:
    """Let an optimizer train the parameters of an objective too, which the Trainer neither clears nor averages."""
    learned = [] if objective is None else list(objective.parameters())
    if learned:
        optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        optimizer.register_step_pre_hook(lambda *_: average_gradients(objective))
        optimizer.register_step_post_hook(lambda *_: objective.zero_grad())


def papers_scheduler(
    args: LongTailTrainingArguments, num_steps: int, optimizer: torch.optim.Optimizer, last_from: float
) -> torch.optim.lr_scheduler.LambdaLR | None:
    """The scheduler of a run with a decoupled stage, from progress `last_from` below 1 on, or with `lr_milestones`; else None."""
    if last_from < 1:
        return two_stage_scheduler(args, num_steps, optimizer, last_from)
    return None if args.lr_milestones is None else multi_step_scheduler(args, num_steps, optimizer)


def multi_step_scheduler(
    args: LongTailTrainingArguments, num_steps: int, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LambdaLR:
    """The scheduler of a run with `lr_milestones`: warm-up, then a factor of `lr_gamma` from each milestone on."""
    warmup_steps = args.get_warmup_steps(num_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        return args.lr_gamma ** sum(step / num_steps >= milestone for milestone in args.lr_milestones)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def two_stage_scheduler(
    args: LongTailTrainingArguments, num_steps: int, optimizer: torch.optim.Optimizer, last_from: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """The scheduler of a run with a decoupled stage, from progress `last_from` on.

    Raises:
        BadInputError: If the arguments ask for another schedule than plain cosine.
    """
    if args.lr_scheduler_type != "cosine":
        raise BadInputError(
            "`lr_scheduler_type` must be cosine with an objective that has a decoupled stage, "
            f"got {args.lr_scheduler_type.value}."
        )
    if args.lr_scheduler_kwargs:
        raise BadInputError(
            "`lr_scheduler_kwargs` must be left out with an objective that has a decoupled stage, "
            f"got {args.lr_scheduler_kwargs}."
        )
    restart = args.decoupled_learning_rate / args.learning_rate
    factor = two_stage_cosine(num_steps, args.get_warmup_steps(num_steps), last_from, restart)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def two_stage_cosine(num_steps: int, warmup_steps: int, last_from: float, restart: float) -> Callable[[int], float]:
    """Factor on the learning rate at each step: warm-up, cosine to 0, then another cosine for the decoupled stage.

    Args:
        num_steps: Of the whole run.
        warmup_steps: Over which the factor rises from 0 to 1.
        last_from: Progress, in [0, 1), from which the decoupled stage runs.
        restart: Factor at the start of the decoupled stage.
    """
    warmup = warmup_steps / num_steps

    def factor(step: int) -> float:
        progress = step / num_steps  # the very number that the Trainer compares
        if progress >= last_from:
            return restart * _cosine((progress - last_from) / (1 - last_from))
        if progress < warmup:
            return progress / warmup
        return _cosine((progress - warmup) / (last_from - warmup))

    return factor


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
