"""Losses, terms and forward pass in Python loops over experts, samples, classes and pairs, for tests to compare with."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmoe.modeling import ICLMoEForImageClassification, ICLMoEImageClassifierOutput
from tailmoe.modeling.layers import ExpertCosine
from tailmoe.training.objectives import ICLObjective


def looped_forward(model: ICLMoEForImageClassification, pixel_values: Tensor) -> ICLMoEImageClassifierOutput:
    """The model's forward pass, one expert after the other."""
    hidden = model.stem(pixel_values)
    maps = []
    for stage in model.shared_stages:
        hidden = stage(hidden)
        maps.append(hidden)
    features, shaping, balanced = [], [], []
    for m, expert in enumerate(model.experts):
        features.append(expert(maps).mean(dim=(2, 3)))
        shaping.append(_classify(model.classifier, m, features[m]))
        if model.balanced_classifier is not None:
            balanced.append(_classify(model.balanced_classifier, m, features[m].detach()))
    representation_logits = torch.stack(shaping, dim=1)
    expert_logits = torch.stack(balanced, dim=1) if balanced else representation_logits
    return ICLMoEImageClassifierOutput(
        logits=sum(expert_logits.unbind(dim=1)) / len(model.experts),
        expert_logits=expert_logits,
        representation_logits=representation_logits,
        expert_features=torch.stack(features, dim=1),
    )


def _classify(classifier: torch.nn.Module, m: int, features: Tensor) -> Tensor:
    weight = classifier.weight[m]
    if isinstance(classifier, ExpertCosine):
        return classifier.logit_scale * F.linear(F.normalize(features, dim=-1), F.normalize(weight, dim=-1))
    return F.linear(features, weight, classifier.bias[m])


class LoopedICL:
    """The terms of an `ICLObjective` with competition per batch, contrast on samples and balanced heads along.

    Its state is the objective's own: prototypes, confusion, hard negatives.
    """

    def __init__(self, objective: ICLObjective):
        self.objective = objective

    def __call__(self, outputs: ICLMoEImageClassifierOutput, labels: Tensor, progress: float) -> dict[str, Tensor]:
        o = self.objective
        terms = {"competition": o.competition_weight * looped_competition(outputs.representation_logits, labels)}
        terms["collaboration"] = o.collaboration_weight * looped_collaboration(outputs.representation_logits)
        if progress < o.diversity_until:
            terms["diversity"] = o.diversity_weight * looped_diversity(outputs.expert_features)
        if progress >= o.contrast_from:
            contrasts = [
                looped_contrast(features, labels, o.prototypes[m], o.hard_negatives[m], o.temperature)
                for m, features in enumerate(outputs.expert_features.unbind(dim=1))
            ]
            terms["contrast"] = o.contrast_weight * sum(contrasts)
        experts = outputs.expert_logits.unbind(dim=1)
        prior = o.class_counts.log()
        terms["balance"] = sum(F.cross_entropy(logits + prior, labels) for logits in experts) / len(experts)
        return terms

    @torch.no_grad()
    def update_state(self, outputs: ICLMoEImageClassifierOutput, labels: Tensor) -> None:
        """Update the objective's state, class after class and expert after expert."""
        o = self.objective
        for c in sorted(set(labels.tolist())):
            members = labels == c
            kept = o.ema_decay if o.observed[c].item() else 0.0
            for m in range(len(o.prototypes)):
                feature = outputs.expert_features[members, m].mean(dim=0)
                probs = outputs.representation_logits[members, m].softmax(dim=-1).mean(dim=0)
                o.prototypes[m, c] = kept * o.prototypes[m, c] + (1 - kept) * feature
                o.confusion[m, c] = kept * o.confusion[m, c] + (1 - kept) * probs
                others = o.confusion[m, c].clone()
                others[c] = -1
                o.hard_negatives[m, c] = others.topk(o.num_hard_negatives).indices
            o.observed[c] = True


def looped_competition(logits: Tensor, labels: Tensor, eps: float = 1e-8) -> Tensor:
    """`competition_loss` of the experts' mean cross-entropies, logits (B, M, C)."""
    return 1 / sum(1 / (F.cross_entropy(logits[:, m], labels) + eps) for m in range(logits.shape[1]))


def looped_collaboration(logits: Tensor) -> Tensor:
    """`collaboration_loss`, logits (B, M, C), pair after pair."""
    experts = logits.shape[1]
    total = logits.new_zeros(())
    for m in range(experts):
        for n in range(m + 1, experts):
            log_p, log_q = F.log_softmax(logits[:, m], dim=-1), F.log_softmax(logits[:, n], dim=-1)
            total = total + F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return total * (2 / max(experts * (experts - 1), 1))


def looped_diversity(features: Tensor) -> Tensor:
    """`adaptive_diversity_loss`, features (B, M, D), pair after pair."""
    experts = features.unbind(dim=1)
    pairs = [F.cosine_similarity(a, b, dim=-1) for a in experts for b in experts if a is not b]
    return sum(pairs, features.new_zeros(len(features))).mean()


def looped_contrast(
    features: Tensor, labels: Tensor, prototypes: Tensor, hard_negatives: Tensor, temperature: float = 0.07
) -> Tensor:
    """`confusion_contrastive_loss`, sample after sample."""
    losses = []
    for feature, label in zip(features, labels.tolist(), strict=True):
        candidates = [label, *hard_negatives[label].tolist()]
        similarities = [F.cosine_similarity(feature, prototypes[c], dim=0) / temperature for c in candidates]
        losses.append(torch.logsumexp(torch.stack(similarities), dim=0) - similarities[0])
    return torch.stack(losses).mean()


def looped_soft_nearest_neighbor(
    features: Tensor, labels: Tensor, temperature: float, distance: str = "cosine"
) -> Tensor:
    """`soft_nearest_neighbor_loss`, sample after sample; 0 when no sample has another one of its class."""
    features = F.normalize(features, dim=1) if distance == "cosine" else features
    losses = []
    for i in range(len(features)):
        others = torch.arange(len(features), device=features.device) != i
        positive = others & (labels == labels[i])
        if not positive.any():
            continue
        away = 1 - features @ features[i] if distance == "cosine" else (features - features[i]).square().sum(dim=1)
        closeness = (-away / temperature).masked_fill(~others, -math.inf)
        losses.append(torch.logsumexp(closeness, dim=0) - torch.logsumexp(closeness[positive], dim=0))
    return torch.stack(losses).mean() if losses else 0 * features.sum()
