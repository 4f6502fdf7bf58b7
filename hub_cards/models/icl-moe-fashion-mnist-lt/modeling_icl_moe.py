"""ICL-MoE: experts that learn independently and collaboratively, for long-tailed image classification.

Chen et al., "Enhancing Mixture of Experts with Independent and Collaborative Learning for Long-Tail Visual
Recognition", IJCAI 2025.
"""

from collections.abc import Generator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .backbone import Backbone
from .configuration_icl_moe import ICLMoEConfig
from .early_exit import Experts, exit_early
from .label_prior import prior_adjusted
from .layers import ExpertCosine, ExpertLinear, conv_norm, residual_stage, shallow_projection
from .modeling_tailmoe import TailMoEPreTrainedModel


@dataclass
class ICLMoEImageClassifierOutput(ModelOutput):
    """Output of [`ICLMoEForImageClassification`], for B images, M experts, C classes, D features.

    Args:
        loss: Scalar, when labels are given.
        logits: (B, C), the ensemble's: the mean of `expert_logits`; with early exit, of the experts that were asked.
        expert_logits: (B, M, C), each expert's prediction, in evaluation mode adjusted to `config.label_prior`.
        representation_logits: (B, M, C), from the classifiers that shape the features; the same tensor as
            `expert_logits` in a model without balanced heads and label prior.
        expert_features: (B, M, D), each expert's pooled features.
        hidden_states: The shared maps, the stem's first, each (B, width, H, W), on request; of a backbone with tokens
            (B, tokens, width).
        num_experts_used: (B,), how many experts were asked, with early exit alone. Then there are only this and `logits`,
            for no image knows the experts that it did not ask.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    expert_logits: Tensor | None = None
    representation_logits: Tensor | None = None
    expert_features: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    num_experts_used: Tensor | None = None


class ICLMoEExpert(nn.Module):
    """One expert: its own last stage, multiplied by a projection of one of the shared maps.

    The fused depth alternates over the shared stages from expert to expert: stage 1, 2, 1, ... for three stages.
    """

    def __init__(self, config: ICLMoEConfig, index: int):
        super().__init__()
        widths = list(config.hidden_sizes)
        self.stage = residual_stage(widths[-2], widths[-1], config.depths[-1], stride=2)
        self.source = index % (len(widths) - 1)
        self.projection = shallow_projection(widths[self.source :]) if config.shallow_fusion else None

    def forward(self, shared_maps: list[Tensor]) -> Tensor:
        # list of (B, width, H, W), one per shared stage -> (B, D, H', W')
        expert_map = self.stage(shared_maps[-1])
        return expert_map if self.projection is None else expert_map * self.projection(shared_maps[self.source])


class ICLMoEPreTrainedModel(TailMoEPreTrainedModel):
    config_class = ICLMoEConfig
    base_model_prefix = "icl_moe"
    _no_split_modules = ("ResidualBlock",)


class ICLMoEForImageClassification(ICLMoEPreTrainedModel):
    """A network whose last stage is replicated once per expert, with two classifiers for each expert.

    The network is a CIFAR ResNet, or the backbone that the configuration names.
    """

    def __init__(self, config: ICLMoEConfig):
        super().__init__(config)
        if config.backbone_config is not None:
            self.backbone = Backbone(config.backbone_config, config.num_experts, config.expert_depth)
        else:
            self.backbone = None
            widths, shared_depths = list(config.hidden_sizes), list(config.depths[:-1])
            self.stem = nn.Sequential(conv_norm(config.num_channels, widths[0]), nn.ReLU())
            self.shared_stages = nn.ModuleList(
                residual_stage(widths[max(i - 1, 0)], widths[i], depth, stride=1 if i == 0 else 2)
                for i, depth in enumerate(shared_depths)
            )
            self.experts = nn.ModuleList(ICLMoEExpert(config, index) for index in range(config.num_experts))
        self.classifier = self._make_classifier(config)
        self.balanced_classifier = self._make_classifier(config) if config.balanced_heads else None
        self.post_init()

    @staticmethod
    def _make_classifier(config: ICLMoEConfig) -> nn.Module:
        shape = (config.num_experts, config.feature_size, config.num_labels)
        return ExpertLinear(*shape) if config.classifier == "linear" else ExpertCosine(*shape, config.logit_scale)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        raw_logits: bool = False,
    ) -> ICLMoEImageClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (B, num_channels, H, W), normalised as the image processor does.
            labels: (B,), class ids; gives `loss`. It is the experts' mean cross-entropy, plus that of the balanced
                heads, by Balanced Softmax when `config.class_counts` is known. The full objective of the paper needs
                state and a schedule: see `tailmoe.training.ICLObjective`. It is of the logits as trained and of every
                expert, whatever the label prior and the early exit.
            output_hidden_states: Return the shared maps; the configuration's choice if None. They are given without early exit.
            raw_logits: Every expert's logits without label prior and early exit, as in training mode.
        """
        wants_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if labels is None and not (wants_states or raw_logits) and self._may_exit_early():
            logits, used = exit_early(self.ask_experts(pixel_values), self.config.early_exit_threshold)
            return ICLMoEImageClassifierOutput(logits=logits, num_experts_used=used)
        if self.backbone is None:
            maps = self._shared_maps(pixel_values)
            expert_features = torch.stack([expert(maps[1:]).mean(dim=(-2, -1)) for expert in self.experts], dim=1)
        else:
            expert_features, maps = self.backbone(pixel_values, output_hidden_states=wants_states)
        representation_logits = expert_logits = self.classifier(expert_features)  # (B, M, C)
        if self.balanced_classifier is not None:
            expert_logits = self.balanced_classifier(expert_features.detach())
        loss = None if labels is None else self._loss(representation_logits, expert_logits, labels)
        if not self.training and not raw_logits:
            expert_logits = prior_adjusted(expert_logits, self.config)
        return ICLMoEImageClassifierOutput(
            loss=loss,
            logits=expert_logits.mean(dim=1),
            expert_logits=expert_logits,
            representation_logits=representation_logits,
            expert_features=expert_features,
            hidden_states=tuple(maps) if wants_states else None,
        )

    def ask_experts(self, pixel_values: Tensor) -> Experts:
        """Each expert's prediction (n, C) in order, for the images (B, ...) that go on to it, see `exit_early`."""
        features = self._ask_for_features(pixel_values) if self.backbone is None else self.backbone.ask(pixel_values)
        head, go_on = self.balanced_classifier or self.classifier, None
        for index in range(self.config.num_experts):
            logits = head(features.send(go_on)[:, None], slice(index, index + 1))[:, 0]
            go_on = yield prior_adjusted(logits, self.config)

    def _ask_for_features(self, pixel_values: Tensor) -> Generator[Tensor, Tensor | None, None]:
        maps = self._shared_maps(pixel_values)[1:]
        for expert in self.experts:
            go_on = yield expert(maps).mean(dim=(-2, -1))
            if go_on is not None:
                maps = [each[go_on] for each in maps]

    def _may_exit_early(self) -> bool:
        """In prediction; exported and compiled models ask every expert, for their graph cannot depend on the images."""
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        return self.config.early_exit_threshold is not None and not (
            self.training or torch.is_grad_enabled() or traced
        )

    def is_shared(self, name: str) -> bool:
        return name.startswith(("stem.", "shared_stages.", "backbone.")) and ".experts." not in name

    def modules_of_last_maps(self) -> list[nn.Module]:
        return list(self.experts)

    def differentiable_expert_logits(self, outputs: ICLMoEImageClassifierOutput) -> Tensor:
        # in `forward` the balanced heads read detached features
        return (self.balanced_classifier or self.classifier)(outputs.expert_features)

    def first_expert_weights(self) -> Tensor:
        experts = self.experts if self.backbone is None else self.backbone.last_stages()
        return torch.stack([next(weight for weight in each.parameters() if weight.dim() > 1) for each in experts])

    def _shared_maps(self, pixel_values: Tensor) -> list[Tensor]:
        hidden = self.stem(pixel_values)
        maps = [hidden]
        for stage in self.shared_stages:
            hidden = stage(hidden)
            maps.append(hidden)
        return maps

    def _loss(self, representation_logits: Tensor, expert_logits: Tensor, labels: Tensor) -> Tensor:
        expert_labels = labels[:, None].expand(-1, self.config.num_experts).flatten()
        loss = F.cross_entropy(representation_logits.flatten(0, 1), expert_labels)
        if self.balanced_classifier is None:
            return loss
        if self.config.class_counts is not None:
            counts = torch.tensor(self.config.class_counts, dtype=torch.float, device=expert_logits.device)
            expert_logits = expert_logits + counts.log().to(expert_logits)  # float16 holds no count above 65,504
        return loss + F.cross_entropy(expert_logits.flatten(0, 1), expert_labels)


__all__ = ["ICLMoEForImageClassification", "ICLMoEImageClassifierOutput", "ICLMoEPreTrainedModel"]
