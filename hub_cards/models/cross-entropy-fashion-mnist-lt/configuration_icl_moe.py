"""Configuration of ICL-MoE."""

import math
from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .validation import check_at_least, check_class_counts, check_stages, reject_misspelt


@strict
class ICLMoEConfig(PreTrainedConfig):
    r"""Configuration of [`ICLMoEForImageClassification`].

    The defaults are the paper's CIFAR network: a ResNet-32 of standard width with three experts.

    Args:
        num_channels: Channels of the images: 3 for colour, 1 for grey.
        image_size: Height and width in pixels that the image processor produces; the network takes any size.
        hidden_sizes: Width of each stage. The last stage is replicated once per expert, the others are shared.
        depths: Residual blocks of two convolutions in each stage; (n, n, n) is a ResNet-(6n + 2).
        num_experts: Number of experts, at least 1.
        shallow_fusion: Multiply each expert's last map by a projection of an earlier, shared map
            (self-heterogeneous fusion of SHIKE, CVPR 2023), so that experts see different depths.
        classifier: `"cosine"` (normalised features and weights, times `logit_scale`) or `"linear"` (with a bias).
        logit_scale: Factor on cosine similarities, above 0.
        balanced_heads: Give each expert a second classifier, on detached features, that predicts; the first one
            then only shapes the features. Without it the first classifier predicts.
        class_counts: Training images of each class, if known. The model's own loss then uses Balanced Softmax
            for the balanced heads, and readers of the model learn how rare each class was.

    Example:
        >>> from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
        >>> model = ICLMoEForImageClassification(ICLMoEConfig(num_labels=100))
    """

    model_type = "icl_moe"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "expert_logits",
        "representation_logits",
        "expert_features",
        "hidden_states",
    ]

    num_channels: int = 3
    image_size: int = 32
    hidden_sizes: list[int] | tuple[int, ...] = (16, 32, 64)
    depths: list[int] | tuple[int, ...] = (5, 5, 5)
    num_experts: int = 3
    shallow_fusion: bool = True
    classifier: Literal["cosine", "linear"] = "cosine"
    logit_scale: float | int = 30.0
    balanced_heads: bool = True
    class_counts: list[int] | tuple[int, ...] | None = None

    def __post_init__(self, **kwargs):
        reject_misspelt(type(self), kwargs)
        super().__post_init__(**kwargs)
        check_at_least(
            1,
            num_labels=self.num_labels,
            num_channels=self.num_channels,
            image_size=self.image_size,
            num_experts=self.num_experts,
        )
        check_stages(self.hidden_sizes, self.depths, minimum=2)
        check_class_counts(self.class_counts, self.num_labels)
        if not 0 < self.logit_scale < math.inf:
            raise ValueError(f"`logit_scale` must be a number above 0, got {self.logit_scale}.")


__all__ = ["ICLMoEConfig"]
