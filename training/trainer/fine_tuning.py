"""Fine-tuning on a backbone: its image processor, and training little of its shared part."""

import logging

from torch import nn
from transformers import AutoImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.modeling.modeling_tailmoe import TailMoEPreTrainedModel
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
ADAPTER = "shared"


def backbone_processor(backbone: str, image_size: int) -> TailMoEImageProcessor:
    """The image processor of a model on `backbone`: whole images, in the colours that the backbone was trained with.

    Args:
        backbone: Checkpoint on the Hub or in a folder; without an image processor, ImageNet's colours are taken.
        image_size: Height and width in pixels.
    """
    size = {"height": image_size, "width": image_size}
    try:
        own = AutoImageProcessor.from_pretrained(backbone)
    except (OSError, ValueError):
        logger.info("%s has no image processor: images are normalised by ImageNet's mean and deviation.", backbone)
        return TailMoEImageProcessor(size=size, image_mean=IMAGENET_DEFAULT_MEAN, image_std=IMAGENET_DEFAULT_STD)
    return TailMoEImageProcessor(size=size, image_mean=own.image_mean, image_std=own.image_std, resample=own.resample)


def add_lora(model: TailMoEPreTrainedModel, rank: int) -> None:
    """Train low-rank changes of the shared part instead of the part itself (LoRA, Hu et al., ICLR 2022), in place.

    Linear layers, and convolutions that are not depthwise, get an update of rank `rank`, scaled by 2.

    Raises:
        BadInputError: If peft is not installed, or the shared part has no such layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise BadInputError("`lora_rank` needs the package peft: pip install 'tailmoe[peft]'.") from None
    own = [name for name, _ in model.named_parameters() if not model.is_shared(name)]
    names = [
        name
        for name, module in model.named_modules()
        if model.is_shared(name)
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if not names:
        raise BadInputError(f"`lora_rank` {rank}: the shared part has no layer that LoRA can change.")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), model, ADAPTER)
    for name in own:  # peft froze them with the rest
        model.get_parameter(name).requires_grad_(True)


def merge_lora(model: nn.Module) -> None:
    """Put the changes of `add_lora` into the weights, so that the model needs no peft, in place."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    model.requires_grad_(True)
