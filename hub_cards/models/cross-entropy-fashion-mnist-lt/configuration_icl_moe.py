"""Configuration of ICL-MoE."""

import math
from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .backbone_config import resolve_backbone
from .backbone_features import backbone_feature_size
from .configuration_tailmoe import TailMoEConfig
from .label_prior import check_label_prior
from .validation import (
    check_at_least,
    check_class_counts,
    check_early_exit_threshold,
    check_stages,
    reject_misspelt,
)


@strict
class ICLMoEConfig(TailMoEConfig):
    r"""Configuration of [`ICLMoEForImageClassification`].

    The defaults are the paper's CIFAR network: a ResNet-32 of standard width with three experts.

    Args:
        num_channels: Channels of the images: 3 for colour, 1 for grey. A backbone has its own.
        image_size: Height and width in pixels that the image processor produces; the network takes any size. None for
            32, or what the backbone was made for.
        hidden_sizes: Width of each stage. The last stage is replicated once per expert, the others are shared.
        depths: Residual blocks of two convolutions in each stage; (n, n, n) is a ResNet-(6n + 2).
        num_experts: Number of experts, at least 1.
        backbone: A checkpoint of transformers or timm, on the Hub or in a folder, whose network is taken instead of the
            ResNet of `hidden_sizes` and `depths`; [`ICLMoEForImageClassification.from_backbone`] takes its weights too.
        backbone_config: The network's own configuration; that of `backbone` if None, of whose folder then the
            name alone is kept.
        expert_depth: How many of the backbone's last stages each expert has of its own, or of its last blocks if it has
            no stages; None for a sixth of them: 1 of 4 stages, 2 of 12 blocks.
        shallow_fusion: Multiply each expert's last map by a projection of an earlier, shared map
            (self-heterogeneous fusion of SHIKE, CVPR 2023), so that experts see different depths. None for True,
            or False with a backbone, which does not have it.
        classifier: `"cosine"` (normalised features and weights, times `logit_scale`) or `"linear"` (with a bias).
        logit_scale: Factor on cosine similarities, above 0.
        balanced_heads: Give each expert a second classifier, on detached features, that predicts; the first one
            then only shapes the features. Without it the first classifier predicts.
        class_counts: Training images of each class, if known. The model's own loss then uses Balanced Softmax
            for the balanced heads, and readers of the model learn how rare each class was.
        training_logit_adjustment: tau of the log class counts that training added to the logits that predict: 1 if they
            assume that all classes are equally frequent, 0 if they assume the training frequencies. The Trainer sets it;
            None for what the model's own loss does: 1 for balanced heads with `class_counts`, else 0.
        label_prior: How frequent the classes are where the model predicts, as probabilities or counts; see
            [`~ICLMoEForImageClassification.set_label_prior`]. None leaves the logits as trained.
        early_exit_threshold: In (0, 1]: experts are asked in order, and an image stops when the largest probability of
            the mean of their logits so far is at least this. None asks every expert. It acts on predictions alone: in
            evaluation mode, without labels, hidden states and gradients.

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
        "num_experts_used",
    ]
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}

    num_channels: int = 3
    image_size: int | None = None
    hidden_sizes: list[int] | tuple[int, ...] = (16, 32, 64)
    depths: list[int] | tuple[int, ...] = (5, 5, 5)
    num_experts: int = 3
    backbone: str | None = None
    backbone_config: dict | PreTrainedConfig | None = None
    expert_depth: int | None = None
    shallow_fusion: bool | None = None
    classifier: Literal["cosine", "linear"] = "cosine"
    logit_scale: float | int = 30.0
    balanced_heads: bool = True
    class_counts: list[int] | tuple[int, ...] | None = None
    training_logit_adjustment: float | int | None = None
    label_prior: list[float | int] | tuple[float | int, ...] | None = None
    early_exit_threshold: float | int | None = None

    def __post_init__(self, **kwargs):
        reject_misspelt(type(self), kwargs)
        resolve_backbone(self)
        if self.backbone_config is not None and self.shallow_fusion:
            raise ValueError("`shallow_fusion` is not for a backbone: leave it out.")
        if self.shallow_fusion is None:
            self.shallow_fusion = self.backbone_config is None
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
        check_label_prior(self)
        check_early_exit_threshold(self.early_exit_threshold)
        if not 0 < self.logit_scale < math.inf:
            raise ValueError(f"`logit_scale` must be a number above 0, got {self.logit_scale}.")

    @property
    def feature_size(self) -> int:
        """Number of features D of each expert."""
        if self.backbone_config is None:
            return self.hidden_sizes[-1]
        return backbone_feature_size(self.backbone_config, self.image_size)

    @property
    def own_logit_adjustment(self) -> float:
        """What `training_logit_adjustment` is of the model's own loss."""
        return 1.0 if self.balanced_heads and self.class_counts is not None else 0.0


__all__ = ["ICLMoEConfig"]
