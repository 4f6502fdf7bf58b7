"""The features of a whole image in what a backbone gives.

Where a model pools by itself, its pooled output is taken; maps are averaged; of tokens, the class token is taken or, where there
is none, their mean, as the models' own classifiers in transformers do.
"""

import inspect
import json
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig
from transformers.utils import ModelOutput

# tokens and nothing pooled, the first of which is the class token
CLASS_TOKEN_FIRST = ("deit", "dpt", "internvl_vision", "pvt", "qianfan_ocr_vision", "vit", "vit_msn", "yolos")
# tokens of patches alone
PATCHES_ALONE = (
    *("aimv2_vision_model", "idefics3_vision", "ijepa", "sam3_vision_model", "sam3_vit_model", "siglip_vision_model"),
    "smolvlm_vision",
)


def _of_cvt(outputs: ModelOutput, config: PreTrainedConfig) -> Tensor:
    token = outputs.cls_token_value
    return outputs.last_hidden_state.mean(dim=(-2, -1)) if token is None else token[:, 0]


def _of_data2vec(outputs: ModelOutput, config: PreTrainedConfig) -> Tensor:
    tokens = outputs.last_hidden_state  # the class token first
    return tokens[:, 1:].mean(dim=1) if config.use_mean_pooling else tokens[:, 0]


def _of_channels_last(outputs: ModelOutput, config: PreTrainedConfig) -> Tensor:
    return outputs.last_hidden_state.mean(dim=(1, 2))


# families whose output has its own form
READERS: dict[str, Callable[[ModelOutput, PreTrainedConfig], Tensor]] = {
    "cvt": _of_cvt,
    "data2vec-vision": _of_data2vec,
    "hgnet_v2": lambda outputs, config: outputs.feature_maps[-1].mean(dim=(-2, -1)),
    "radio": lambda outputs, config: outputs.summary,  # its class tokens, one for each teacher
    "sam2_hiera_det_model": _of_channels_last,
    "sam2_vision_model": _of_channels_last,
}


def pooled_features(outputs: ModelOutput, config: PreTrainedConfig) -> Tensor:
    """Features (B, D) of whole images.

    Raises:
        ValueError: If it is not known which of the outputs to take.
    """
    kind = config.model_type
    if kind in READERS:
        return READERS[kind](outputs, config)
    pooled = outputs.get("pooler_output")
    if pooled is None:
        pooled = outputs.get("last_hidden_state")
    if pooled is None:
        raise ValueError(f"A backbone of type {kind} cannot be used: its output holds no features of a whole image.")
    if pooled.dim() == 4:  # maps (B, D, H, W)
        return pooled.mean(dim=(-2, -1))
    if pooled.dim() == 3 and kind in PATCHES_ALONE:
        return pooled.mean(dim=1)
    if pooled.dim() == 3 and kind not in CLASS_TOKEN_FIRST:
        raise ValueError(f"A backbone of type {kind} cannot be used: it is not known which of its tokens to take.")
    return pooled[:, 0] if pooled.dim() == 3 else pooled


def _other_inputs(config: PreTrainedConfig) -> list[str]:
    """What a model needs beside the pixels of images."""
    model_class = MODEL_MAPPING[type(config)]
    needed = [
        name
        for name, parameter in inspect.signature(model_class.forward).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and name not in ("self", "pixel_values")
    ]
    main = model_class.main_input_name
    return sorted({*needed, *([main] if isinstance(main, str) else main)} - {"pixel_values"})


def backbone_feature_size(config: PreTrainedConfig, image_size: int) -> int:
    """Number of features that a backbone ends with, found by running it without weights.

    Args:
        config: The backbone's.
        image_size: Height and width of the images in pixels.

    Raises:
        ValueError: If it does not run on images alone, or gives no features of each.
    """
    return _feature_size(config.to_json_string(use_diff=False), image_size)


@lru_cache(maxsize=64)
def _feature_size(description: str, image_size: int) -> int:
    config = AutoConfig.for_model(**json.loads(description))
    kind, num_channels = config.model_type, getattr(config, "num_channels", 3)
    if others := _other_inputs(config):
        raise ValueError(f"A backbone of type {kind} cannot be used: it takes {', '.join(others)}, not images alone.")
    try:
        with torch.device("meta"), torch.no_grad():
            outputs = AutoModel.from_config(config).eval()(torch.empty(2, num_channels, image_size, image_size))
    except ImportError:
        raise
    except Exception as error:  # any model of transformers, any error
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"A backbone of type {kind} cannot be used: it does not run on images of {image_size} pixels alone: {reason}"
        ) from error
    features = pooled_features(outputs, config)
    if features.shape[:-1] != (2,):
        raise ValueError(f"A backbone of type {kind} cannot be used: it gives no features of each image by itself.")
    return features.shape[-1]
