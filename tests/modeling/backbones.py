"""Small configurations of the image models of transformers that can be backbones."""

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

FIELDS = {
    "drop_path_rate": 0.0,
    "embed_dim": 8,
    "embedding_size": 8,
    "hidden_size": 32,
    "image_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "patch_size": 16,
}
SWIN = {"num_heads": [1, 2, 2, 2], "window_size": 2}
HIERA = {
    "hidden_size": 8,
    "image_size": [64, 64],
    "num_attention_heads": 1,
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 4],
    "global_attention_blocks": [3],
    "window_size_per_stage": [4, 4, 4, 2],
}
SAM = {"initializer_range": 0.02, "global_attn_indexes": [2], "window_size": 2}
WIDTHS = {"hidden_sizes": [8, 16, 24, 32]}
PYRAMID = WIDTHS | {"num_attention_heads": [1, 2, 2, 2]}
# by model type, what differs from FIELDS and from shallow stages
ALL = {
    "aimv2_vision_model": {},
    "beit": {},
    "bit": WIDTHS | {"num_groups": 8},
    "chinese_clip_vision_model": {},
    "clip_vision_model": {},
    "convnext": WIDTHS,
    "convnextv2": WIDTHS,
    "cvt": {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3]},
    "data2vec-vision": {},
    "deit": {},
    "dinov2": {},
    "dinov2_with_registers": {},
    "dinov3_convnext": WIDTHS,
    "dinov3_vit": {},
    "donut-swin": SWIN,
    "dpt": {},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    "focalnet": {},
    "glpn": PYRAMID,
    "hgnet_v2": WIDTHS
    | {
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 8, 16, 24],
        "stage_mid_channels": [4, 8, 8, 8],
        "stage_out_channels": [8, 16, 24, 32],
        "stage_num_blocks": [1, 1, 1, 1],
    },
    "hiera": {"num_heads": [1, 2, 4, 8], "image_size": [64, 64], "embed_dim": 8},
    "ijepa": {},
    "internvl_vision": {},
    "levit": {
        "hidden_sizes": [16, 24, 32],
        "num_attention_heads": [1, 2, 2],
        "key_dim": [8, 8, 8],
        "drop_path_rate": 0,
    },
    "maskformer-swin": SWIN,
    "mlcd": {},
    "mlcd_vision_model": {},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "mobilevit": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]},
    "mobilevitv2": {"patch_size": 2, "width_multiplier": 0.25},
    "pixio": {},
    "poolformer": WIDTHS,
    "pvt": PYRAMID,
    "pvt_v2": PYRAMID,
    "qianfan_ocr_vision": {},
    "radio": {},
    "regnet": WIDTHS | {"groups_width": 8},
    "resnet": WIDTHS,
    "sam2_hiera_det_model": HIERA,
    "sam2_vision_model": {
        "backbone_config": {"model_type": "sam2_hiera_det_model"} | HIERA,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "backbone_channel_list": [64, 32, 16, 8],
    },
    "sam3_vision_model": {"backbone_config": {"model_type": "sam3_vit_model"} | FIELDS},
    "sam3_vit_model": {},
    "sam_hq_vision_model": SAM,
    "sam_vision_model": SAM,
    "sapiens2": {},
    "segformer": PYRAMID,
    "siglip_vision_model": {},
    "swiftformer": {"embed_dims": [8, 16, 24, 32]},
    "swin": SWIN,
    "swin2sr": {"embed_dim": 12, "num_heads": [2, 2], "depths": [1, 1], "window_size": 4, "patch_size": 1},
    "swinv2": SWIN,
    "textnet": WIDTHS
    | {"hidden_sizes": [8, 8, 16, 24, 32], "stem_out_channels": 8}
    | {f"conv_layer_{name}": [each] * 4 for name, each in (("kernel_sizes", [[3, 3]]), ("strides", [2]))},
    "tipsv2_vision_model": {},
    "vit": {},
    "vit_msn": {},
    "vitdet": {},
    "yolos": {},
}


def small_config(kind: str, **fields: object) -> PreTrainedConfig:
    """A configuration of three narrow blocks or of shallow narrow stages, for images of 64 pixels."""
    default, given = CONFIG_MAPPING[kind](), {}
    for name, value in FIELDS.items():
        before = getattr(default, name, None)
        if isinstance(before, int | float) and not isinstance(before, bool):
            given[name] = value
        elif isinstance(before, list | tuple) and name in ("image_size", "patch_size"):
            given[name] = [value, value]
    stages = getattr(default, "depths", None) or getattr(default, "depth", None)
    if isinstance(stages, list | tuple):
        given = {name: value for name, value in given.items() if name in ("drop_path_rate", "embed_dim", "image_size")}
        given |= (
            {"depths": [1] * len(stages)} if hasattr(default, "depths") else {"drop_path_rate": [0.0] * len(stages)}
        )
    return CONFIG_MAPPING[kind](**(given | ALL.get(kind, {}) | fields))
