"""Weights that FSDP spreads over processes: what goes with it, and the whole model again."""

import contextlib
import os
from collections.abc import Iterator

from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, Trainer

from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.arguments import LongTailTrainingArguments


def asks_for_sharding(args: LongTailTrainingArguments) -> bool:
    """Whether the arguments or `accelerate launch --use_fsdp` ask for FSDP."""
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def check_sharding(trainer: Trainer, objective: nn.Module | None) -> None:
    """Raise `BadInputError` if FSDP is asked for and could not do, or not do all, of what the trainer is to do."""
    args = trainer.args
    if not asks_for_sharding(args):
        return
    if not trainer.is_fsdp_enabled:  # accelerate would train unsharded and not tell
        raise BadInputError(
            f"`fsdp` spreads weights over several accelerators, there {'is' if args.world_size == 1 else 'are'} "
            f"{args.world_size} {args.device.type}: leave it out, or launch with `torchrun --nproc-per-node N` on N GPUs."
        )
    plugin = trainer.accelerator.state.fsdp_plugin
    kind = str(plugin.state_dict_type)
    if plugin.fsdp_version != 2 or "FULL_STATE_DICT" not in kind:
        raise BadInputError(
            f"`fsdp` must be of version 2 with state_dict_type FULL_STATE_DICT, got version {plugin.fsdp_version} with "
            f"{kind.rpartition('.')[2]}: `training.fsdp=true` alone is both."
        )
    hindrances = {
        "`lora_rank`": args.lora_rank > 0,
        # torch 2.13 loads no optimizer in which a parameter that trains later has no state yet
        "an objective's decoupled stage (`balanced_heads: decoupled`)": objective is not None
        and objective.decoupled_from() < 1,
        "parameters of the objective, such as a learned temperature": objective is not None
        and any(True for _ in objective.parameters()),
    }
    for name, hinders in hindrances.items():
        if hinders:
            raise BadInputError(f"`fsdp` does not go with {name}: give one of them.")


@contextlib.contextmanager
def own_class(model: nn.Module) -> Iterator[None]:
    """Let a sharded model be of its own class, whose files are saved beside its weights, not of the one FSDP made of it."""
    sharded = type(model)
    if isinstance(model, FSDPModule):
        model.__class__ = _unsharded_class(model)
    try:
        yield
    finally:
        model.__class__ = sharded


def _unsharded_class(model: FSDPModule) -> type[PreTrainedModel]:
    return next(base for base in type(model).__mro__ if base is not FSDPModule and not issubclass(base, FSDPModule))


def whole_model(trainer: Trainer) -> PreTrainedModel:
    """The trained model as the main process can run it by itself; all processes must ask, and others get theirs."""
    if not trainer.is_fsdp_enabled:
        return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # without autocast
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return trainer.model
    model = _unsharded_class(trainer.model)(trainer.model.config)
    model.load_state_dict(weights)
    return model.to(trainer.args.device)
