"""Fine-tuning on a backbone: its image processor, and training little of its shared part."""

import logging
import re

from torch import nn
from transformers import AutoImageProcessor, PreTrainedConfig
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.modeling.modeling_tailmoe import TailMoEPreTrainedModel
from tailmoe.training.errors import BadInputError
from tailmoe.training.families import FAMILIES

logger = logging.getLogger(__name__)
ADAPTER = "shared"
HEADS = ("classifier.", "balanced_classifier.", "gate.", "expert_hidden.", "expert_classifier.")
NOT_OF_THE_NETWORK = {"class_counts", "training_logit_adjustment", "label_prior", "early_exit_threshold"}
COPY_OF_ONE = re.compile(r"\.experts\.0(?=\.)")  # a network with one expert has no copies


def published_network(backbone: str, model_type: str) -> dict | None:
    """The fields of the network of one of our models, published or a run's, that `backbone` names; None for another model.

    Raises:
        ValueError: If it is of another type than the model that is to start from its features.
    """
    content, _ = PreTrainedConfig.get_config_dict(backbone)
    kind = content.get("model_type")
    if kind not in FAMILIES:
        return None
    if kind != model_type:
        raise ValueError(f"`backbone` {backbone} is of type {kind}: make `model_type` {kind}, got {model_type}.")
    fields = [name for name in FAMILIES[kind].config_fields if name not in NOT_OF_THE_NETWORK]
    return {name: content[name] for name in fields if name in content}


def load_features(model: TailMoEPreTrainedModel, published: str) -> None:
    """Take all weights of one of our models but those of its classes, in place; of its experts the first, if there are more.

    Raises:
        ValueError: If a weight is missing or has another shape.
    """
    source = type(model).from_pretrained(published).state_dict()
    source = {COPY_OF_ONE.sub("", name): weight for name, weight in source.items()} | source
    own = {name: weight for name, weight in model.state_dict().items() if not name.startswith(HEADS)}
    for name, weight in own.items():
        if name not in source or source[name].shape != weight.shape:
            raise ValueError(
                f"`backbone` {published} has no weight `{name}` of shape {tuple(weight.shape)}: leave out of `model` what "
                "describes another network."
            )
    model.load_state_dict(model.state_dict() | {name: source[name] for name in own})


def backbone_processor(backbone: str, image_size: int, num_channels: int = 3) -> TailMoEImageProcessor:
    """The image processor of a model on `backbone`: whole images, in the colours that the backbone was trained with.

    Args:
        backbone: Checkpoint on the Hub or in a folder; without an image processor, ImageNet's colours are taken.
        image_size: Height and width in pixels.
        num_channels: Of the images.
    """
    shape = {"size": {"height": image_size, "width": image_size}, "num_channels": num_channels}
    try:
        own = AutoImageProcessor.from_pretrained(backbone)
    except (OSError, ValueError):
        logger.info("%s has no image processor: images are normalised by ImageNet's mean and deviation.", backbone)
        return TailMoEImageProcessor(**shape, image_mean=IMAGENET_DEFAULT_MEAN, image_std=IMAGENET_DEFAULT_STD)
    return TailMoEImageProcessor(**shape, image_mean=own.image_mean, image_std=own.image_std, resample=own.resample)


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
