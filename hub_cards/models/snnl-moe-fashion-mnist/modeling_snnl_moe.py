"""SNNL-MoE: a mixture of expert MLPs on features untangled by the soft nearest neighbour loss.

Agarap & Azcarraga, "Mixture of Experts with Soft Nearest Neighbor Loss: Resolving Expert Collapse via Representation
Disentanglement", arXiv 2603.26734, 2026.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .backbone import Backbone
from .configuration_snnl_moe import SNNLMoEConfig
from .label_prior import prior_adjusted
from .layers import ExpertLinear, conv_norm
from .modeling_tailmoe import TailMoEPreTrainedModel


@dataclass
class SNNLMoEImageClassifierOutput(ModelOutput):
    """Output of [`SNNLMoEForImageClassification`], for B images, K experts, C classes.

    Args:
        loss: Scalar, when labels are given: the mixture's negative log-likelihood.
        logits: (B, C), log-probabilities of the mixture, in evaluation mode adjusted to `config.label_prior`.
        expert_logits: (B, K, C), each expert's own logits, as trained.
        gate_probs: (B, K), the gate's weights; each row sums to 1.
        hidden_states: The extractor's hidden layers, each (B, width, H, W), or (B, tokens, width) of a backbone with
            tokens, and the pooled features (B, D), on request.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    expert_logits: Tensor | None = None
    gate_probs: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class ExtractorStage(GradientCheckpointingLayer, nn.Sequential):
    """`depth` convolutions with batch normalisation and ReLU, then a maximum over 2x2 pixels."""

    def __init__(self, in_channels: int, out_channels: int, depth: int):
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [conv_norm(in_channels if index == 0 else out_channels, out_channels), nn.ReLU()]
        super().__init__(*layers, nn.MaxPool2d(2))


class SNNLMoEPreTrainedModel(TailMoEPreTrainedModel):
    config_class = SNNLMoEConfig
    base_model_prefix = "snnl_moe"
    _no_split_modules = ()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):  # the gate starts close to uniform, so that every expert is trained
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)


class SNNLMoEForImageClassification(SNNLMoEPreTrainedModel):
    """A feature extractor, a CNN or a backbone, whose output feeds a softmax gate and every expert MLP."""

    def __init__(self, config: SNNLMoEConfig):
        super().__init__(config)
        if config.backbone_config is not None:
            self.backbone = Backbone(config.backbone_config)
        else:
            self.backbone = None
            widths = [config.num_channels, *config.hidden_sizes]
            self.extractor = nn.ModuleList(
                ExtractorStage(widths[i], widths[i + 1], depth) for i, depth in enumerate(config.depths)
            )
        self.gate = nn.Linear(config.feature_size, config.num_experts)
        self.expert_hidden = ExpertLinear(config.num_experts, config.feature_size, config.expert_hidden_size)
        self.expert_classifier = ExpertLinear(config.num_experts, config.expert_hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SNNLMoEImageClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (B, num_channels, H, W), normalised as the image processor does.
            labels: (B,), class ids; gives `loss`, of the logits as trained, whatever the label prior. The soft nearest
                neighbour terms are added in training by `tailmoe.training.SNNLObjective`.
            output_hidden_states: Return the extractor's hidden layers; the configuration's choice if None.
        """
        wants_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if self.backbone is None:
            features, hidden_states = self._extract(pixel_values)
        else:
            features, hidden_states = self.backbone(pixel_values, output_hidden_states=wants_states)
            features = features[:, 0]
        log_gate = F.log_softmax(self.gate(features), dim=-1)  # (B, K)
        features_BED = features[:, None].expand(-1, self.config.num_experts, -1)
        expert_logits = self.expert_classifier(F.relu(self.expert_hidden(features_BED)))  # (B, K, C)
        # log of sum_k g_k p_k, without leaving log space
        logits = torch.logsumexp(log_gate[..., None] + F.log_softmax(expert_logits, dim=-1), dim=1)
        return SNNLMoEImageClassifierOutput(
            loss=None if labels is None else F.cross_entropy(logits, labels),
            logits=self._adjusted(logits),
            expert_logits=expert_logits,
            gate_probs=log_gate.exp(),
            hidden_states=(*hidden_states, features) if wants_states else None,
        )

    def _adjusted(self, logits: Tensor) -> Tensor:
        if self.training or self.config.label_prior is None:
            return logits
        return F.log_softmax(prior_adjusted(logits, self.config), dim=-1)  # log-probabilities again

    def is_shared(self, name: str) -> bool:
        return name.startswith(("extractor.", "backbone."))

    def modules_of_last_maps(self) -> list[nn.Module]:
        return [self.extractor[-1]]

    def first_expert_weights(self) -> Tensor:
        return self.expert_hidden.weight

    def _extract(self, pixel_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        # (B, channels, H, W) -> features (B, D), and each stage's maps
        hidden, maps = pixel_values, []
        for stage in self.extractor:
            hidden = stage(hidden)
            maps.append(hidden)
        return hidden.mean(dim=(-2, -1)), maps


__all__ = ["SNNLMoEForImageClassification", "SNNLMoEImageClassifierOutput", "SNNLMoEPreTrainedModel"]
