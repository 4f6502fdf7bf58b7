"""Losses, terms, state and training steps compute what Python loops compute."""

import copy

import pytest
import torch

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.evaluation.inference import with_fast_layout
from tailmoe.training.objectives import ICLObjective
from tailmoe.training.objectives.losses import (
    adaptive_diversity_loss,
    collaboration_loss,
    competition_loss,
    confusion_contrastive_loss,
    soft_nearest_neighbor_loss,
)

from .reference import (
    LoopedICL,
    looped_collaboration,
    looped_competition,
    looped_contrast,
    looped_diversity,
    looped_forward,
    looped_soft_nearest_neighbor,
)

B, M, C, D, K = 24, 3, 7, 16, 3
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def competition_of_means(logits, labels):
    losses = [torch.nn.functional.cross_entropy(logits[:, m], labels) for m in range(M)]
    return competition_loss(torch.stack(losses))


LABELS = torch.arange(B) % (C - 1)  # the last class is absent
NEGATIVES = (torch.arange(C)[:, None] + torch.arange(1, K + 1)) % C
LOSSES = {
    "diversity": (adaptive_diversity_loss, looped_diversity, (B, M, D), ()),
    "collaboration": (collaboration_loss, looped_collaboration, (B, M, C), ()),
    "competition": (competition_of_means, looped_competition, (B, M, C), (LABELS,)),
    "contrast": (
        confusion_contrastive_loss,
        looped_contrast,
        (B, D),
        (LABELS, torch.randn(C, D, generator=torch.Generator().manual_seed(1)), NEGATIVES, 0.3),
    ),
    "snnl, cosine": (soft_nearest_neighbor_loss, looped_soft_nearest_neighbor, (B, D), (LABELS, 0.5, "cosine")),
    "snnl, euclidean": (soft_nearest_neighbor_loss, looped_soft_nearest_neighbor, (B, D), (LABELS, 5.0, "euclidean")),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_equal_the_loops(name):
    fast, looped, shape, arguments = LOSSES[name]
    values, gradients = [], []
    for loss_function in (fast, looped):
        torch.manual_seed(0)
        tensor = torch.randn(shape).requires_grad_()
        loss = loss_function(tensor, *arguments)
        loss.backward()
        values.append(loss.detach())
        gradients.append(tensor.grad)
    torch.testing.assert_close(*values, **CLOSE)
    torch.testing.assert_close(*gradients, **CLOSE)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("at_once", [B * B, 7 * B, 1])
def test_snnl_in_blocks_has_the_value_and_gradients_of_one_block(distance, at_once, monkeypatch):
    features, temperature = torch.randn(B, D, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    results = []
    for pairs in (B * B, at_once):
        monkeypatch.setattr("tailmoe.training.objectives.losses.contrastive.SIMILARITIES_AT_ONCE", pairs)
        x, t = features.clone().requires_grad_(), temperature.clone().requires_grad_()
        loss = soft_nearest_neighbor_loss(x, LABELS, t, distance)
        loss.backward()
        results.append((loss.detach(), x.grad, t.grad))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.fixture
def network():
    """A narrow ICL-MoE, yet wide enough to be laid out channels last, and its objective."""
    config = ICLMoEConfig(
        image_size=16,
        hidden_sizes=[16, 16, 32],
        depths=[1, 1, 1],
        num_experts=M,
        num_labels=C,
        logit_scale=5.0,
        class_counts=[50, 40, 30, 20, 10, 5, 2],
    )
    return ICLMoEForImageClassification(config), ICLObjective(config, num_hard_negatives=K)


def test_the_forward_pass_equals_one_expert_after_the_other(network):
    model, images = network[0].eval(), torch.randn(5, 3, 16, 16)
    ours, looped = with_fast_layout(model)(images), looped_forward(model, images)
    for name in ("logits", "expert_logits", "representation_logits", "expert_features"):
        torch.testing.assert_close(ours[name], looped[name], **CLOSE)


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7])
def test_the_terms_of_icl_and_their_gradients_equal_the_loops(network, progress):
    model, objective = network[0].double(), network[1].double()
    images = torch.randn(B, 3, 16, 16, dtype=torch.float64)
    objective.update_state(model(images), LABELS)
    gradients = []
    for terms_of in (objective, LoopedICL(objective)):
        outputs = model(images)
        terms = terms_of(outputs, LABELS, progress)
        model.zero_grad()
        sum(terms.values()).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        gradients[-1] |= {name: term.detach() for name, term in terms.items()}
    torch.testing.assert_close(*gradients, **CLOSE)


def test_prototypes_confusion_and_hard_negatives_equal_the_loops(network):
    model, objective = network
    looped = copy.deepcopy(objective)
    for step in range(4):
        outputs = model(torch.randn(B, 3, 16, 16))
        labels = (LABELS + step) % C
        objective.update_state(outputs, labels)
        LoopedICL(looped).update_state(outputs, labels)
    torch.testing.assert_close(objective.state_dict(), looped.state_dict(), **CLOSE)


@pytest.mark.parametrize(("dtype", "rate", "tolerance"), [(torch.float64, 0.02, 1e-9), (torch.float32, 0.0003, 1e-4)])
def test_twenty_training_steps_follow_the_same_curve(network, dtype, rate, tolerance):
    """In float32 with small steps: large ones multiply the rounding of the first step at every further one."""
    model, objective = (module.to(dtype) for module in network)
    slow_model, slow_objective = copy.deepcopy(model), copy.deepcopy(objective)
    looped = LoopedICL(slow_objective)
    model = with_fast_layout(model)
    fast_sgd, slow_sgd = (
        torch.optim.SGD(m.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, fused=fused)
        for m, fused in ((model, True), (slow_model, False))
    )
    curves = []
    for step in range(20):
        images, labels = torch.randn(B, 3, 16, 16, dtype=dtype), torch.randint(C, (B,))
        losses = []
        for forward, terms_of, sgd in (
            (model, objective, fast_sgd),
            (lambda x: looped_forward(slow_model, x), looped, slow_sgd),
        ):
            outputs = forward(images)
            loss = sum(terms_of(outputs, labels, step / 20).values())
            loss.backward()
            sgd.step()
            sgd.zero_grad()
            terms_of.update_state(outputs, labels)
            losses.append(loss.item())
        curves.append(losses)
    fast, slow = torch.tensor(curves, dtype=torch.float64).T
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
