"""Where each expert looks: Grad-CAM (Selvaraju et al., ICCV 2017) of our models."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tailmoe.modeling.label_prior import re_aimed
from tailmoe.training.errors import BadInputError


def grad_cam(model: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of what speaks for each expert's own first answer.

    Args:
        model: An ICL-MoE or SNNL-MoE, in evaluation mode.
        pixel_values: (B, channels, H, W), normalised.

    Returns:
        The maps (B, M, H', W') in [0, 1], of the size of the experts' last maps, or of what the last stage or block of a
        backbone is given; and the answers (B, M), class ids.

    Raises:
        BadInputError: If the model is of another type.
    """
    kind = model.config.model_type
    if kind not in ("icl_moe", "snnl_moe"):
        raise BadInputError(f"Grad-CAM is for models of type icl_moe and snnl_moe, got {kind}.")
    if model.backbone is not None:
        return _of_backbone(model, pixel_values)
    with torch.no_grad():
        states = model(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        if kind == "icl_moe":
            maps = torch.stack([expert(list(states[1:])) for expert in model.experts], dim=1)  # (B, M, D, H', W')
        else:
            maps = states[-2][:, None].expand(-1, model.config.num_experts, -1, -1, -1)
    with torch.enable_grad():
        features = maps.mean(dim=(-2, -1)).requires_grad_()
        if kind == "icl_moe":
            logits = re_aimed((model.balanced_classifier or model.classifier)(features), model.config)
        else:
            logits = model.expert_classifier(model.expert_hidden(features).relu())
        best, answers = logits.max(dim=-1)
        # an average over places follows: each place of a channel has the same gradient
        (weights,) = torch.autograd.grad(best.sum(), features)
    return _heat(weights, maps), answers


def _heat(weights: Tensor, maps: Tensor) -> Tensor:
    # (B, M, D) and (B, M, D, H, W) -> (B, M, H, W)
    heat = (weights[..., None, None] * maps).sum(dim=2).relu()
    return heat / heat.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)


def _of_backbone(model: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad(), _inputs_of(model.backbone.last_stages()) as inputs:
        outputs = model(pixel_values=pixel_values.detach().requires_grad_())
        expert_logits = outputs.expert_logits
        if model.config.model_type == "icl_moe":  # its balanced heads read detached features
            expert_logits = (model.balanced_classifier or model.classifier)(outputs.expert_features)
            expert_logits = re_aimed(expert_logits, model.config)
        best, answers = expert_logits.max(dim=-1)  # (B, M)
        inputs = inputs * (best.shape[1] // len(inputs))  # the same for all experts that share the last stage
        gradients = [
            torch.autograd.grad(best[:, m].sum(), hidden, retain_graph=True)[0] for m, hidden in enumerate(inputs)
        ]
    maps = torch.stack([_as_map(hidden.detach()) for hidden in inputs], dim=1)
    weights = torch.stack([_as_map(gradient) for gradient in gradients], dim=1).mean(dim=(-2, -1))
    return _heat(weights, maps), answers


@contextlib.contextmanager
def _inputs_of(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """What each of the modules is given while the context is open."""
    inputs: list[Tensor] = []
    hooks = [module.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for module in modules]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def _as_map(hidden: Tensor) -> Tensor:
    """(B, D, H, W) as it is; of tokens (B, tokens, D) those of the places: class and register tokens come first."""
    if hidden.dim() == 4:
        return hidden
    side = math.isqrt(hidden.shape[1])
    return hidden[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
