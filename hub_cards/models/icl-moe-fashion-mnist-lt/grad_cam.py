"""Where each expert looks: Grad-CAM (Selvaraju et al., ICCV 2017).

Shape letters: B batch, M experts, D features, H' and W' height and width of the maps.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


@torch.enable_grad()
def grad_cam(model: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, ModelOutput]:
    """See `TailMoEPreTrainedModel.grad_cam`."""
    with _maps_of(model) as maps:
        outputs = model(pixel_values=pixel_values)
        expert_logits = model.differentiable_expert_logits(outputs)
        answers = outputs.expert_logits.argmax(dim=-1, keepdim=True)
        best = expert_logits.gather(-1, answers)[..., 0]  # (B, M)
    num_experts = best.shape[1]
    maps = maps * (num_experts // len(maps))  # one alone is that of all experts
    heat = torch.stack([_heat(best[:, m], maps[m]) for m in range(num_experts)], dim=1)
    return heat / heat.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12), outputs


@contextlib.contextmanager
def _maps_of(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """The maps of a forward pass while the context is open: each expert's, or one alone that they share.

    They are the experts' last maps, or what the last stage or block of a backbone is given.
    """
    maps: list[Tensor] = []

    def start_of_graph(hidden: Tensor) -> Tensor:
        maps.append(hidden.detach().requires_grad_())
        return maps[-1].clone()  # a stage may change in place what it is given

    if model.backbone is None:
        modules = model.modules_of_last_maps()
        hooks = [module.register_forward_hook(lambda _, given, hidden: start_of_graph(hidden)) for module in modules]
    else:
        stages = model.backbone.last_stages()
        hooks = [
            stage.register_forward_pre_hook(lambda _, given: (start_of_graph(given[0]), *given[1:]))
            for stage in stages
        ]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _heat(best: Tensor, hidden: Tensor) -> Tensor:
    """One expert's best logits (B,) and its maps -> (B, H', W'): the channels, weighed by what each adds to the answer."""
    (gradient,) = torch.autograd.grad(best.sum(), hidden, retain_graph=True)
    weights = _as_map(gradient).float().mean(dim=(-2, -1), keepdim=True)
    return (weights * _as_map(hidden.detach())).sum(dim=1).relu()


def _as_map(hidden: Tensor) -> Tensor:
    """(B, D, H', W') as it is; of tokens (B, tokens, D) those of the places: class and register tokens come first."""
    if hidden.dim() == 4:
        return hidden
    side = math.isqrt(hidden.shape[1])
    return hidden[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
