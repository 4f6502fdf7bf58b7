"""Where each expert looks: Grad-CAM (Selvaraju et al., ICCV 2017) of our models."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tailmoe.training.errors import BadInputError


def grad_cam(model: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of what speaks for each expert's own first answer.

    Args:
        model: An ICL-MoE or SNNL-MoE, in evaluation mode.
        pixel_values: (B, channels, H, W), normalised.

    Returns:
        The maps (B, M, H', W') in [0, 1], of the size of the experts' last maps; and the answers (B, M), class ids.

    Raises:
        BadInputError: If the model is of another type.
    """
    kind = model.config.model_type
    if kind not in ("icl_moe", "snnl_moe"):
        raise BadInputError(f"Grad-CAM is for models of type icl_moe and snnl_moe, got {kind}.")
    with torch.no_grad():
        states = model(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        if kind == "icl_moe":
            maps = torch.stack([expert(list(states[1:])) for expert in model.experts], dim=1)  # (B, M, D, H', W')
        else:
            maps = states[-2][:, None].expand(-1, model.config.num_experts, -1, -1, -1)
    with torch.enable_grad():
        features = maps.mean(dim=(-2, -1)).requires_grad_()
        if kind == "icl_moe":
            logits = (model.balanced_classifier or model.classifier)(features)
        else:
            logits = model.expert_classifier(model.expert_hidden(features).relu())
        best, answers = logits.max(dim=-1)
        # an average over places follows: each place of a channel has the same gradient
        (weights,) = torch.autograd.grad(best.sum(), features)
    heat = (weights[..., None, None] * maps).sum(dim=2).relu()
    return heat / heat.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12), answers
