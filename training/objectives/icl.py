"""The objective of ICL-MoE."""

from typing import ClassVar, Literal

import torch
from accelerate.utils import gather
from torch import Tensor
from transformers import PreTrainedConfig

from tailmoe.modeling import ICLMoEImageClassifierOutput
from tailmoe.modeling.validation import check_at_least
from tailmoe.training.objectives.checks import check_choice, check_class_counts, check_model_type, check_share
from tailmoe.training.objectives.experts import expert_balanced_softmax, expert_cross_entropies
from tailmoe.training.objectives.losses import (
    adaptive_diversity_loss,
    at_least_float32,
    collaboration_loss,
    competition_loss,
    confusion_contrastive_loss,
)
from tailmoe.training.objectives.objective import Objective
from tailmoe.training.objectives.processes import gather_with_gradient


def _class_shares(labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The matrix (B, B) that averages each class of the batch, a row per image, and the first image (B,) of its class."""
    same_class = labels[:, None] == labels
    return same_class.to(dtype) / same_class.sum(dim=1, keepdim=True), same_class.int().argmax(dim=1)


class ICLObjective(Objective):
    """Independent and collaborative learning: the whole loss of ICL-MoE (Chen et al., IJCAI 2025).

    `competition` (or plain `cross_entropy`) and `collaboration` act on the logits that shape the features, `diversity` and `contrast` on the
    features, `balance` on the balanced heads alone. Times are shares of the run done.

    Args:
        config: Configuration of the model; its `class_counts` must be known.
        diversity_until: The diversity term acts before this progress (paper: 30 of 200 epochs).
        contrast_from: The contrastive term acts from this progress on (paper: 120 of 200 epochs).
        balanced_heads: `"joint"` trains the balanced heads on detached features during the whole run; `"decoupled"` trains
            them alone, on frozen features, from `balance_from` on, as the authors' code does. Short runs were better
            with the first (FashionMNIST-LT, 16 epochs, validation images: 77.8 against 71.7 %).
        balance_from: Start of the decoupled stage (paper: the last tenth); ignored with `"joint"`.
        competition: Whether experts compete for the mean of the `"batch"` or for each `"sample"`. The first was
            better (likewise: 77.8 against 70.3 %): experts that win single samples leave the others untrained. `"none"`:
            each expert has its own cross-entropy, whose gradients `competition_weight` M^2 equals for equal experts.
        contrast_alone: From `contrast_from` on the contrastive term shapes the features alone, as in the authors' code.
        contrast_anchor: Whether each `"sample"`'s feature is drawn to its prototype, or the `"class_mean"` of the batch.
        diversity_of: Whether the experts' `"features"` are pushed apart, as the paper says, or their `"deviations"` from
            the mean feature of the batch, which have both signs in every expert.
        num_hard_negatives: Classes contrasted with the true one; at most all others.
        temperature: Of the contrastive term, above 0.
        ema_decay: Share kept of prototypes and confusion when their class appears in a batch.
        competition_weight, collaboration_weight, diversity_weight, contrast_weight: Factors of the terms, at least 0.
            The paper's are all 1. The competition of M equal experts gives each the gradient of its cross-entropy
            divided by M^2; a weight of M^2 makes up for that, which short schedules need.
    """

    model_options: ClassVar[dict[str, bool]] = {"raw_logits": True}  # the decoupled stage is in evaluation mode

    def __init__(
        self,
        config: PreTrainedConfig,
        diversity_until: float = 0.15,
        contrast_from: float = 0.6,
        contrast_alone: bool = False,
        balanced_heads: Literal["joint", "decoupled"] = "joint",
        balance_from: float = 0.9,
        competition: Literal["batch", "sample", "none"] = "batch",
        contrast_anchor: Literal["sample", "class_mean"] = "sample",
        diversity_of: Literal["features", "deviations"] = "features",
        num_hard_negatives: int = 7,
        temperature: float = 0.07,
        ema_decay: float = 0.9,
        competition_weight: float = 1.0,
        collaboration_weight: float = 1.0,
        diversity_weight: float = 1.0,
        contrast_weight: float = 1.0,
    ):
        super().__init__()
        check_model_type(self, config, "icl_moe")
        check_class_counts(config)
        check_share(
            diversity_until=diversity_until,
            contrast_from=contrast_from,
            balance_from=balance_from,
            ema_decay=ema_decay,
        )
        if contrast_alone and contrast_weight == 0:
            raise ValueError("`contrast_alone` needs a `contrast_weight` above 0, got 0: no term would be left.")
        check_choice("balanced_heads", balanced_heads, ("joint", "decoupled"))
        check_choice("competition", competition, ("batch", "sample", "none"))
        check_choice("contrast_anchor", contrast_anchor, ("sample", "class_mean"))
        check_choice("diversity_of", diversity_of, ("features", "deviations"))
        check_at_least(
            0,
            competition_weight=competition_weight,
            collaboration_weight=collaboration_weight,
            diversity_weight=diversity_weight,
            contrast_weight=contrast_weight,
        )
        if num_hard_negatives < 1 or temperature <= 0:
            raise ValueError(
                "`num_hard_negatives` must be at least 1 and `temperature` above 0, "
                f"got {num_hard_negatives} and {temperature}."
            )
        self.diversity_until, self.contrast_from, self.balance_from = diversity_until, contrast_from, balance_from
        self.contrast_alone = contrast_alone
        self.balanced_heads = balanced_heads if config.balanced_heads else None
        self.competition, self.contrast_anchor = competition, contrast_anchor
        self.diversity_of = diversity_of
        self.num_hard_negatives = min(num_hard_negatives, config.num_labels - 1)
        self.temperature, self.ema_decay = temperature, ema_decay
        self.competition_weight, self.collaboration_weight = competition_weight, collaboration_weight
        self.diversity_weight, self.contrast_weight = diversity_weight, contrast_weight
        self.training_logit_adjustment = config.own_logit_adjustment
        classes, experts, features = config.num_labels, config.num_experts, config.feature_size
        self.register_buffer("class_counts", torch.tensor(config.class_counts, dtype=torch.float))
        self.register_buffer("prototypes", torch.zeros(experts, classes, features))
        self.register_buffer("confusion", torch.zeros(experts, classes, classes))
        self.register_buffer("observed", torch.zeros(classes, dtype=torch.bool))
        # until a class was seen: those that follow it
        following = torch.arange(1, self.num_hard_negatives + 1) + torch.arange(classes)[:, None]
        self.register_buffer("hard_negatives", (following % classes).repeat(experts, 1, 1))  # (M, C, k)

    def decoupled_from(self) -> float:
        """Progress from which only the balanced heads train; 1 when there is no such stage."""
        return self.balance_from if self.balanced_heads == "decoupled" else 1.0

    def active_terms(self, progress: float) -> tuple[str, ...]:
        """Names of the loss terms that act at `progress`."""
        if progress >= self.decoupled_from():
            return ("balance",)
        together = not (self.contrast_alone and progress >= self.contrast_from)
        acts = {
            "competition": together and self.competition != "none",
            "cross_entropy": together and self.competition == "none",
            "collaboration": together and self.collaboration_weight > 0,
            "diversity": together and self.diversity_weight > 0 and progress < self.diversity_until,
            "contrast": self.contrast_weight > 0 and progress >= self.contrast_from,
            "balance": self.balanced_heads == "joint",
        }
        return tuple(name for name, acting in acts.items() if acting)

    def forward(
        self,
        outputs: ICLMoEImageClassifierOutput,
        labels: Tensor,
        progress: float | Tensor,
        active_terms: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted loss terms by name; the total loss is their sum.

        Args:
            outputs: Of the model, for B images.
            labels: (B,).
            progress: Share of the run done, in [0, 1].
            active_terms: The terms that act, where `progress` is a tensor that must not be waited for.
        """
        logits, features = outputs.representation_logits, outputs.expert_features
        terms = {}
        for name in self.active_terms(progress) if active_terms is None else active_terms:
            if name == "competition":
                terms[name] = self.competition_weight * self._compete(logits, labels)
            elif name == "cross_entropy":
                terms[name] = expert_cross_entropies(logits, labels).mean(dim=0).sum()
            elif name == "collaboration":
                terms[name] = self.collaboration_weight * collaboration_loss(logits)
            elif name == "diversity":
                terms[name] = self.diversity_weight * self._diversify(features)
            elif name == "contrast":
                terms[name] = self.contrast_weight * self._contrast(features, labels)
            else:
                terms[name] = expert_balanced_softmax(outputs.expert_logits, labels, self.class_counts)
        return terms

    @torch.no_grad()
    def update_state(self, outputs: ICLMoEImageClassifierOutput, labels: Tensor) -> None:
        """Move the state of the classes in this batch, of all processes, towards the batch's mean.

        The confusion matrix holds mean probabilities and not counts of mistakes, so that a class with few images, or
        without a mistake so far, still has an order among the others. The hard negatives of a class are the others to
        which it gives the most probability.
        """
        probs = outputs.representation_logits.to(self.prototypes).softmax(dim=-1)
        labels, features, probs = gather((labels, outputs.expert_features.to(self.prototypes), probs))
        share, first = _class_shares(labels, self.prototypes.dtype)
        # a class seen for the first time takes the batch's mean, not a mixture with zeros
        kept = self.ema_decay * self.observed[labels, None].to(self.prototypes)  # (B, 1)
        for state, values in ((self.prototypes, features), (self.confusion, probs)):  # (M, C, .), (B, M, .)
            means = torch.einsum("ab,bmd->mad", share, values)
            moved = kept * state[:, labels] + (1 - kept) * means
            state.index_copy_(1, labels, moved[:, first])  # images of one class write one and the same row
        others = self.confusion[:, labels].scatter(2, labels.expand(len(probs[0]), -1)[..., None], -1.0)
        negatives = others.topk(self.num_hard_negatives, dim=-1).indices  # (M, B, k)
        self.hard_negatives.index_copy_(1, labels, negatives[:, first])
        self.observed.index_fill_(0, labels, True)

    def _compete(self, logits: Tensor, labels: Tensor) -> Tensor:
        # (B, M, C) -> scalar
        losses = expert_cross_entropies(logits, labels)
        if self.competition == "sample":
            return competition_loss(losses)
        return competition_loss(gather_with_gradient(losses).mean(dim=0))

    def _diversify(self, features: Tensor) -> Tensor:
        if self.diversity_of == "deviations":
            features = at_least_float32(features)
            features = features - gather_with_gradient(features).mean(dim=0)
        return adaptive_diversity_loss(features)

    def _contrast(self, expert_features: Tensor, labels: Tensor) -> Tensor:
        # (B, M, D) -> scalar, summed over the experts
        experts, classes = self.confusion.shape[:2]
        weights = None
        if self.contrast_anchor == "class_mean":  # each image stands for its class's mean, with a share of its weight
            expert_features = gather_with_gradient(at_least_float32(expert_features))
            labels = gather(labels)
            share, first = _class_shares(labels, expert_features.dtype)
            expert_features = torch.einsum("ab,bmd->amd", share, expert_features)
            weights = share.diagonal() / (first == torch.arange(len(first), device=first.device)).sum()
            weights = weights.repeat(experts) / experts
        # one call for all experts: the classes of expert m are numbered from m C on
        first_class = classes * torch.arange(experts, device=labels.device)
        return experts * confusion_contrastive_loss(
            expert_features.transpose(0, 1).flatten(0, 1),
            (labels + first_class[:, None]).flatten(),
            self.prototypes.flatten(0, 1),
            (self.hard_negatives + first_class[:, None, None]).flatten(0, 1),
            self.temperature,
            weights,
        )
