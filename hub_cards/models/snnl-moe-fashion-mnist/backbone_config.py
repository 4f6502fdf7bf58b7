"""What a backbone decides in the configuration of the model that is built on it, and which backbones there can be."""

import os

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig

# models that give tokens and nothing pooled, the first of which is the class token
CLASS_TOKEN_FIRST = (
    *("data2vec-vision", "deit", "dpt", "internvl_vision", "pvt", "qianfan_ocr_vision", "radio", "vit", "vit_msn"),
    "yolos",
)
PATCH_FIRST = ("idefics3_vision", "ijepa", "sam3_vit_model", "smolvlm_vision")
QUERY_FIRST = (
    *("conditional_detr", "d_fine", "dab-detr", "deformable_detr", "deimv2", "detr", "lw_detr", "pp_doclayout_v3"),
    *("pp_doclayout_v4", "rf_detr", "rt_detr", "rt_detr_v2", "table-transformer"),
)
# models whose output holds no features of a whole image
UNSUITABLE = {
    "vit_mae": "it hides most patches of an image at random, in prediction too",
    **dict.fromkeys(PATCH_FIRST, "it has no class token, and its first token is of one patch of the image"),
    **dict.fromkeys(QUERY_FIRST, "it finds objects, and its first token is of one query"),
}


def resolve_backbone(config: PreTrainedConfig) -> None:
    """Complete the fields of a configuration that a backbone decides, in place.

    Raises:
        ValueError: If a field contradicts the backbone, or describes the network that it takes the place of, or the backbone
            gives no features of a whole image.
    """
    if isinstance(config.backbone_config, dict):
        config.backbone_config = AutoConfig.for_model(**config.backbone_config)
    elif config.backbone_config is None and config.backbone is not None:
        config.backbone_config = AutoConfig.from_pretrained(config.backbone)
        if os.path.isdir(config.backbone):  # a saved model does not need it, and tells nobody where it was
            config.backbone = os.path.basename(os.path.abspath(config.backbone))
            config.backbone_config._name_or_path = ""
    own = config.backbone_config
    if own is None:
        if getattr(config, "expert_depth", None) is not None:
            raise ValueError(f"`expert_depth` is for a backbone, and there is none; got {config.expert_depth}.")
        config.image_size = 32 if config.image_size is None else config.image_size
        return
    if own.model_type in UNSUITABLE:
        raise ValueError(f"A backbone of type {own.model_type} cannot be used: {UNSUITABLE[own.model_type]}.")
    for name in ("hidden_sizes", "depths"):
        if tuple(getattr(config, name)) != tuple(getattr(type(config), name)):
            raise ValueError(f"`{name}` is of the network that a backbone takes the place of: leave it out.")
    num_channels = getattr(own, "num_channels", 3)
    if config.num_channels not in (num_channels, type(config).num_channels):
        raise ValueError(f"`num_channels` must be {num_channels}, the backbone's, got {config.num_channels}.")
    config.num_channels = num_channels
    if config.image_size is None:
        size = getattr(own, "image_size", None) or 224
        config.image_size = size if isinstance(size, int) else size[0]


def backbone_feature_size(backbone_config: PreTrainedConfig) -> int:
    """Number of features that the backbone ends with."""
    if getattr(backbone_config, "hidden_sizes", None):
        return backbone_config.hidden_sizes[-1]
    if hasattr(backbone_config, "hidden_size"):
        return backbone_config.hidden_size
    with torch.device("meta"):  # timm's models alone know
        return AutoModel.from_config(backbone_config).timm_model.num_features
