"""Configuration of SNNL-MoE."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .backbone_config import resolve_backbone
from .backbone_features import backbone_feature_size
from .configuration_tailmoe import TailMoEConfig
from .label_prior import check_label_prior
from .validation import check_at_least, check_class_counts, check_stages, reject_misspelt


@strict
class SNNLMoEConfig(TailMoEConfig):
    r"""Configuration of [`SNNLMoEForImageClassification`].

    Args:
        num_channels: Channels of the images: 3 for colour, 1 for grey. A backbone has its own.
        image_size: Height and width in pixels that the image processor produces; at least 2 per stage to halve. None
            for 32, or what the backbone was made for.
        hidden_sizes: Width of each stage of the feature extractor; each stage ends by halving the map.
        depths: Convolutions in each stage.
        num_experts: Number of expert MLPs, at least 1.
        expert_hidden_size: Width of the one hidden layer of each expert.
        backbone: A checkpoint of transformers or timm, on the Hub or in a folder, whose network is the feature extractor
            instead of the one of `hidden_sizes` and `depths`; [`SNNLMoEForImageClassification.from_backbone`] takes its
            weights too.
        backbone_config: The network's own configuration; that of `backbone` if None, of whose folder then the
            name alone is kept.
        class_counts: Training images of each class, if known; for readers of the model, the loss ignores it.
        training_logit_adjustment: tau of the log class counts that training added to the logits: 1 if they assume that all
            classes are equally frequent, 0 if they assume the training frequencies. The Trainer sets it; None for 0, as
            the model's own loss does.
        label_prior: How frequent the classes are where the model predicts, as probabilities or counts; see
            [`~SNNLMoEForImageClassification.set_label_prior`]. None leaves the logits as trained.

    Example:
        >>> from tailmoe.modeling import SNNLMoEConfig, SNNLMoEForImageClassification
        >>> model = SNNLMoEForImageClassification(SNNLMoEConfig(num_labels=10, num_channels=1, image_size=28))
    """

    model_type = "snnl_moe"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["expert_logits", "gate_probs", "hidden_states"]
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}

    num_channels: int = 3
    image_size: int | None = None
    hidden_sizes: list[int] | tuple[int, ...] = (32, 64, 128)
    depths: list[int] | tuple[int, ...] = (1, 1, 1)
    num_experts: int = 4
    expert_hidden_size: int = 128
    backbone: str | None = None
    backbone_config: dict | PreTrainedConfig | None = None
    class_counts: list[int] | tuple[int, ...] | None = None
    training_logit_adjustment: float | int | None = None
    label_prior: list[float | int] | tuple[float | int, ...] | None = None

    def __post_init__(self, **kwargs):
        reject_misspelt(type(self), kwargs)
        resolve_backbone(self)
        super().__post_init__(**kwargs)
        check_at_least(
            1,
            num_labels=self.num_labels,
            num_channels=self.num_channels,
            num_experts=self.num_experts,
            expert_hidden_size=self.expert_hidden_size,
        )
        check_stages(self.hidden_sizes, self.depths, minimum=1)
        check_class_counts(self.class_counts, self.num_labels)
        check_label_prior(self)
        check_at_least(1 if self.backbone_config else 2 ** len(self.depths), image_size=self.image_size)

    @property
    def feature_size(self) -> int:
        """Number of features D that the gate and the experts read."""
        if self.backbone_config is None:
            return self.hidden_sizes[-1]
        return backbone_feature_size(self.backbone_config, self.image_size)

    @property
    def own_logit_adjustment(self) -> float:
        """What `training_logit_adjustment` is of the model's own loss."""
        return 0.0


__all__ = ["SNNLMoEConfig"]
