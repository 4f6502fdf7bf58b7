"""Configuration of SNNL-MoE."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .validation import check_at_least, check_class_counts, check_stages, reject_misspelt


@strict
class SNNLMoEConfig(PreTrainedConfig):
    r"""Configuration of [`SNNLMoEForImageClassification`].

    Args:
        num_channels: Channels of the images: 3 for colour, 1 for grey.
        image_size: Height and width in pixels that the image processor produces; at least 2 per stage to halve.
        hidden_sizes: Width of each stage of the feature extractor; each stage ends by halving the map.
        depths: Convolutions in each stage.
        num_experts: Number of expert MLPs, at least 1.
        expert_hidden_size: Width of the one hidden layer of each expert.
        class_counts: Training images of each class, if known; for readers of the model, the loss ignores it.

    Example:
        >>> from tailmoe.modeling import SNNLMoEConfig, SNNLMoEForImageClassification
        >>> model = SNNLMoEForImageClassification(SNNLMoEConfig(num_labels=10, num_channels=1, image_size=28))
    """

    model_type = "snnl_moe"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["expert_logits", "gate_probs", "hidden_states"]

    num_channels: int = 3
    image_size: int = 32
    hidden_sizes: list[int] | tuple[int, ...] = (32, 64, 128)
    depths: list[int] | tuple[int, ...] = (1, 1, 1)
    num_experts: int = 4
    expert_hidden_size: int = 128
    class_counts: list[int] | tuple[int, ...] | None = None

    def __post_init__(self, **kwargs):
        reject_misspelt(type(self), kwargs)
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
        check_at_least(2 ** len(self.depths), image_size=self.image_size)


__all__ = ["SNNLMoEConfig"]
