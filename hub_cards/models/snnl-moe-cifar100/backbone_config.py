"""What a backbone decides in the configuration of the model that is built on it, and which backbones there cannot be."""

import os

from transformers import AutoConfig, PreTrainedConfig

# they find objects, segments or matches: no output of theirs is of a whole image
FINDERS = (
    *("conditional_detr", "d_fine", "dab-detr", "deformable_detr", "deimv2", "detr", "lw_detr", "mask2former"),
    *("maskformer", "omdet-turbo", "pp_doclayout_v3", "pp_doclayout_v4", "pp_ocrv6_medium_det", "pp_ocrv6_small_det"),
    *("rf_detr", "rt_detr", "rt_detr_v2", "sam", "sam2", "sam3_tracker", "sam_hq", "table-transformer", "uvdoc"),
)
# models of images and texts, whose image part is taken
WITH_TEXT = ("chinese_clip", "clip", "siglip", "tipsv2")
# which read lines of text, frames of a video, or pairs of images
READERS_OF_TEXT = ("mgp-str", "pp_ocrv5_mobile_rec", "pp_ocrv5_server_rec", "pp_ocrv6_small_rec", "pp_ocrv6_tiny_rec")
OF_VIDEOS = ("edgetam_video", "sam2_video", "sam3_tracker_video", "sam3_video", "timesformer", "videomae", "vivit")
OF_PAIRS = ("efficientloftr", "lightglue")
OF_TEXTS = ("kosmos-2", "sam3", "sam3_lite_text", "sam3_lite_text_text_model")  # too, though none is asked for
UNSUITABLE = {
    **dict.fromkeys(
        ("icl_moe", "snnl_moe"),
        "it has experts itself, `from_pretrained` with `num_labels` and `ignore_mismatched_sizes=True` starts from its features",
    ),
    "vit_mae": "it hides most patches of an image at random, in prediction too",
    "siglip2_vision_model": "it takes patches with their sizes instead of images",
    "depth_pro": "it takes an image in pieces",
    "pixtral": "it joins the patches of all images",
    **dict.fromkeys(FINDERS, "it finds objects or their outlines, and gives no features of a whole image"),
    **dict.fromkeys(READERS_OF_TEXT, "it reads lines of text"),
    **dict.fromkeys(OF_VIDEOS, "it takes videos"),
    **dict.fromkeys(OF_TEXTS, "it takes texts, not images alone"),
    **dict.fromkeys(OF_PAIRS, "it matches pairs of images"),
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
    if own is not None and own.model_type in WITH_TEXT:
        own = config.backbone_config = own.vision_config
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


def check_depth(expert_depth: int, num_stages: int, model_type: str) -> None:
    """Raise `ValueError` unless some of the stages are left to share."""
    if expert_depth >= num_stages:
        raise ValueError(
            f"`expert_depth` must be below {num_stages}, the stages or blocks of a {model_type} backbone, "
            f"got {expert_depth}: the first of them are shared."
        )
