"""What early exit costs and what it saves: accuracy against floating-point operations."""

import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import BaseImageProcessor, PreTrainedModel

from tailmoe.modeling.validation import check_early_exit_threshold
from tailmoe.training.errors import BadInputError
from tailmoe.training.families import FAMILIES


def set_early_exit(model: PreTrainedModel, threshold: float) -> None:
    """Set the threshold of a model.

    Raises:
        BadInputError: If it is out of range, or the model is not one that asks its experts in order.
    """
    types = [name for name, family in FAMILIES.items() if family.exits_early]
    if model.config.model_type not in types:
        raise BadInputError(
            f"`--early-exit-threshold` is for models of type {', '.join(types)}, which ask their experts in order; this "
            f"one is of type {model.config.model_type}: leave it out."
        )
    try:
        check_early_exit_threshold(threshold)
    except ValueError as error:
        raise BadInputError(str(error)) from None
    model.config.early_exit_threshold = threshold


@torch.no_grad()
def operations(model: PreTrainedModel, processor: BaseImageProcessor) -> tuple[list[int], int]:
    """Floating-point operations of one image, counted as the model runs.

    Returns:
        Of the first expert, the first two, ... and all M, asked in order, with the part they share; and of the model
        without early exit.
    """
    pixel_values = processor([Image.new("RGB", (32, 32))], return_tensors="pt")["pixel_values"].to(model.device)
    with FlopCounterMode(display=False) as counter:
        asked = [counter.get_total_flops() for _ in model.ask_experts(pixel_values)]
    with FlopCounterMode(display=False) as counter:
        model(pixel_values, raw_logits=True)
    return asked, counter.get_total_flops()


def early_exit_metrics(model: PreTrainedModel, processor: BaseImageProcessor, num_experts_used: Tensor) -> dict:
    """What early exit saved on a split.

    Args:
        model: With an `early_exit_threshold`.
        processor: Its image processor.
        num_experts_used: (N,), of the images of the split.

    Returns:
        `threshold`; `image_shares`, of the images that asked 1, 2, ... M experts; `mean_experts`; `gflops`, of one image
        that asks 1, 2, ... M experts; `gflops_without`, of one image without early exit; `flops_saved`, the share of
        operations on all images.
    """
    asked, without = operations(model, processor)
    images = torch.bincount(num_experts_used.long(), minlength=len(asked) + 1)[1:]
    shares = (images / images.sum()).tolist()
    spent = sum(share * each for share, each in zip(shares, asked, strict=True))
    return {
        "threshold": model.config.early_exit_threshold,
        "image_shares": shares,
        "mean_experts": num_experts_used.double().mean().item(),
        "gflops": [each / 1e9 for each in asked],
        "gflops_without": without / 1e9,
        "flops_saved": 1 - spent / without,
    }
