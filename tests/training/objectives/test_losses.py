"""Each loss: against a naive double loop, in a known limit, in its direction, and where numbers are extreme."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import NCALoss

from tailmoe.training.objectives.losses import (
    adaptive_diversity_loss,
    balanced_softmax_loss,
    collaboration_loss,
    competition_loss,
    confusion_contrastive_loss,
    hardest_negative_suppression_loss,
    soft_nearest_neighbor_loss,
)

B, M, C, D, K = 6, 3, 5, 4, 2


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def assert_close(loss, reference):
    assert loss.shape == ()
    assert loss.item() == pytest.approx(float(reference), abs=1e-6, rel=1e-6)


def assert_finite_with_gradient(loss_function, *inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    loss = loss_function(*inputs)
    loss.backward()
    assert torch.isfinite(loss)
    for tensor in inputs:
        assert torch.isfinite(tensor.grad).all()
    return [tensor.grad for tensor in inputs]


def descend(loss_function, tensor, rate=0.1):
    tensor = tensor.clone().requires_grad_()
    loss_function(tensor).backward()
    return (tensor - rate * tensor.grad).detach()


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


# adaptive diversity


def test_diversity_equals_the_double_loop_over_pairs():
    features = torch.randn(B, M, D, dtype=torch.float64)
    pairs = [cosine(x[m], x[n]) for x in features for m in range(M) for n in range(M) if m != n]
    assert_close(adaptive_diversity_loss(features), sum(pairs) / B)


def test_diversity_of_equal_experts_is_the_number_of_pairs_and_of_one_expert_is_zero():
    same = torch.randn(B, 1, D).expand(B, M, D)
    assert adaptive_diversity_loss(same).item() == pytest.approx(M * (M - 1), abs=1e-5)
    assert adaptive_diversity_loss(torch.randn(B, 1, D)).item() == pytest.approx(0, abs=1e-6)


def test_descending_the_diversity_pushes_experts_apart():
    features = torch.randn(1, 2, D) * 0.1 + torch.randn(1, 1, D)
    moved = descend(adaptive_diversity_loss, features)
    assert cosine(*moved[0]) < cosine(*features[0])


@pytest.mark.parametrize("scale", [1e4, 1e-4])
@pytest.mark.parametrize("batch", [1, B])
def test_diversity_is_finite_at_any_scale(scale, batch):
    assert_finite_with_gradient(adaptive_diversity_loss, scale * torch.randn(batch, M, D))


# confusion contrastive


def naive_contrast(features, labels, prototypes, hard_negatives, temperature):
    total = 0.0
    for h, c in zip(features, labels.tolist(), strict=True):
        own = math.exp(cosine(h, prototypes[c]) / temperature)
        others = sum(math.exp(cosine(h, prototypes[n]) / temperature) for n in hard_negatives[c].tolist())
        total -= math.log(own / (own + others))
    return total / len(features)


def contrast_inputs(dtype=torch.float32):
    negatives = torch.tensor([[(c + 1) % C, (c + 2) % C] for c in range(C)])
    return torch.randn(B, D, dtype=dtype), torch.randint(C, (B,)), torch.randn(C, D, dtype=dtype), negatives


def test_contrast_equals_the_loop_over_samples_and_negatives():
    inputs = contrast_inputs(torch.float64)
    assert_close(confusion_contrastive_loss(*inputs, 0.5), naive_contrast(*inputs, 0.5))


def test_contrast_with_equal_prototypes_is_the_logarithm_of_the_number_of_candidates():
    features, labels, _, negatives = contrast_inputs()
    loss = confusion_contrastive_loss(features, labels, torch.ones(C, D), negatives)
    assert loss.item() == pytest.approx(math.log(1 + K), abs=1e-5)


def test_descending_the_contrast_draws_features_to_their_own_prototype():
    features, labels, prototypes, negatives = contrast_inputs()
    moved = descend(lambda x: confusion_contrastive_loss(x, labels, prototypes, negatives, 0.5), features)
    before = sum(cosine(h, prototypes[c]) for h, c in zip(features, labels, strict=True))
    after = sum(cosine(h, prototypes[c]) for h, c in zip(moved, labels, strict=True))
    assert after > before


@pytest.mark.parametrize("batch", [1, B])
def test_contrast_is_finite_at_any_scale_and_with_unseen_prototypes(batch):
    features, labels, prototypes, negatives = contrast_inputs()
    prototypes[0] = 0
    assert_finite_with_gradient(
        lambda x: confusion_contrastive_loss(x, labels[:batch], 1e4 * prototypes, negatives), 1e4 * features[:batch]
    )


# competition


def test_competition_equals_the_parallel_circuit_per_sample_and_per_batch():
    losses = torch.rand(B, M, dtype=torch.float64) + 0.1
    naive = sum(1 / sum(1 / (value + 1e-8) for value in row.tolist()) for row in losses) / B
    assert_close(competition_loss(losses), naive)
    assert_close(competition_loss(losses[0]), 1 / sum(1 / (value + 1e-8) for value in losses[0].tolist()))


def test_competition_of_equal_experts_divides_the_loss_and_one_expert_keeps_it():
    assert competition_loss(torch.full((M,), 0.6)).item() == pytest.approx(0.2, abs=1e-6)
    assert competition_loss(torch.tensor([0.6])).item() == pytest.approx(0.6, abs=1e-6)


def test_the_better_expert_receives_the_larger_gradient_and_it_is_the_papers():
    losses = torch.tensor([0.2, 0.5, 1.0], requires_grad=True)
    competition_loss(losses).backward()
    with torch.no_grad():
        stated = (1 / (losses + 1e-8)).sum() ** -2 * (losses + 1e-8) ** -2
    torch.testing.assert_close(losses.grad, stated)
    assert losses.grad[0] > losses.grad[1] > losses.grad[2] > 0


@pytest.mark.parametrize("losses", [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1e4, 1e4, 1e4], [0.0, 1e4, 1e-8]])
def test_competition_is_finite_for_perfect_and_for_hopeless_experts(losses):
    assert_finite_with_gradient(competition_loss, torch.tensor(losses))
    assert_finite_with_gradient(competition_loss, torch.tensor([losses]))


# collaboration


def test_collaboration_equals_the_double_loop_over_pairs():
    logits = torch.randn(B, M, C, dtype=torch.float64)
    total = 0.0
    for z in logits:
        for m in range(M):
            for n in range(m + 1, M):
                p, q = z[m].softmax(0), z[n].softmax(0)
                total += float((p * (p / q).log()).sum())
    assert_close(collaboration_loss(logits), 2 / (M * (M - 1)) * total / B)


def test_collaboration_of_agreeing_experts_and_of_one_expert_is_zero():
    assert collaboration_loss(torch.randn(B, 1, C).expand(B, M, C)).item() == pytest.approx(0, abs=1e-6)
    assert collaboration_loss(torch.randn(B, 1, C)).item() == 0


def test_descending_the_collaboration_brings_experts_together():
    logits = torch.randn(B, M, C)
    moved = descend(collaboration_loss, logits, rate=1.0)
    assert moved.softmax(-1).std(dim=1).sum() < logits.softmax(-1).std(dim=1).sum()


@pytest.mark.parametrize("batch", [1, B])
def test_collaboration_is_finite_at_any_scale(batch):
    assert_finite_with_gradient(collaboration_loss, 1e4 * torch.randn(batch, M, C))


# balanced softmax


def suppression_loop(logits, labels):
    """Sum over experts of KL(teacher || expert), averaged over images and classes."""
    total = 0.0
    for z, label in zip(logits, labels.tolist(), strict=True):
        wrong = [c for c in range(C) if c != label]
        hardest = max(wrong, key=lambda c: float(z[:, c].mean()))
        teacher = [0.0 if c == label else float(z[:, c].mean() if c == hardest else z[:, c].max()) for c in range(C)]
        p = torch.tensor(teacher, dtype=torch.float64).softmax(0)
        for expert in z:
            kept = torch.tensor([-30.0 if c == label else float(expert[c]) for c in range(C)], dtype=torch.float64)
            total += float((p * (p.log() - kept.log_softmax(0))).sum())
    return total / (len(logits) * C)


def test_suppression_equals_the_loop_over_images_and_experts():
    logits, labels = 3 * torch.randn(B, M, C, dtype=torch.float64), torch.arange(B) % C
    assert_close(hardest_negative_suppression_loss(logits, labels), suppression_loop(logits, labels))


def test_suppression_of_agreeing_experts_is_what_the_true_class_costs_alone():
    # their teacher is themselves, with a logit of 0 for the true class in place of -30
    logits, labels = torch.zeros(B, M, C), torch.zeros(B, dtype=torch.long)
    wrong = 1 / C * (math.log(1 / C) - math.log(1 / (C - 1)))
    true = 1 / C * (math.log(1 / C) + 30 + math.log(C - 1))
    assert_close(hardest_negative_suppression_loss(logits, labels), M * ((C - 1) * wrong + true) / C)


def test_descending_the_suppression_brings_an_expert_that_alone_prefers_a_wrong_class_nearer_to_the_others():
    logits, labels = torch.zeros(1, M, C), torch.tensor([0])
    logits[0, 0, 2] = 6.0
    moved = descend(lambda z: hardest_negative_suppression_loss(z, labels), logits, rate=1.0)
    assert moved[0, 0, 2] - moved[0, 1, 2] < 6.0


@pytest.mark.parametrize("batch", [1, B])
def test_suppression_is_finite_at_any_scale(batch):
    for scale in (1e4, 1e-4):
        logits, labels = scale * torch.randn(batch, M, C), torch.arange(batch) % C
        assert_finite_with_gradient(lambda z, y=labels: hardest_negative_suppression_loss(z, y), logits)


def test_balanced_softmax_equals_its_definition():
    logits, labels = torch.randn(B, C, dtype=torch.float64), torch.randint(C, (B,))
    counts = torch.tensor([100.0, 50.0, 20.0, 5.0, 1.0])
    total = 0.0
    for z, c in zip(logits.tolist(), labels.tolist(), strict=True):
        weights = [n * math.exp(value) for n, value in zip(counts.tolist(), z, strict=True)]
        total -= math.log(weights[c] / sum(weights))
    assert_close(balanced_softmax_loss(logits, labels, counts), total / B)


def test_balanced_softmax_with_equal_counts_is_the_cross_entropy_also_over_experts():
    logits, labels = torch.randn(B, M, C), torch.randint(C, (B, M))
    loss = balanced_softmax_loss(logits, labels, torch.full((C,), 7.0))
    assert_close(loss, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))


def test_balanced_softmax_pulls_harder_for_a_rare_class():
    labels, counts = torch.tensor([0, 1]), torch.tensor([100.0, 1.0])
    (gradient,) = assert_finite_with_gradient(lambda z: balanced_softmax_loss(z, labels, counts), torch.zeros(2, 2))
    assert -gradient[1, 1] > -gradient[0, 0] > 0


@pytest.mark.parametrize("batch", [1, B])
def test_balanced_softmax_is_finite_at_any_scale(batch):
    labels, counts = torch.randint(C, (batch,)), torch.tensor([1e6, 1e3, 10.0, 2.0, 1.0])
    assert_finite_with_gradient(lambda z: balanced_softmax_loss(z, labels, counts), 1e4 * torch.randn(batch, C))


# soft nearest neighbour


def naive_snnl(features, labels, temperature, distance):
    features, labels = features.flatten(1), labels.tolist()

    def closeness(i, j):
        if distance == "cosine":
            return math.exp(-(1 - cosine(features[i], features[j])) / temperature)
        return math.exp(-float((features[i] - features[j]).square().sum()) / temperature)

    terms = []
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if j != i]
        positives = sum(closeness(i, j) for j in others if labels[j] == label)
        if any(labels[j] == label for j in others):
            terms.append(math.log(positives / sum(closeness(i, j) for j in others)))
    return -sum(terms) / len(terms)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_snnl_equals_the_double_loop_and_leaves_out_samples_without_a_positive(distance, temperature):
    features, labels = torch.randn(8, 2, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 1, 2, 3, 0])
    loss = soft_nearest_neighbor_loss(features, labels, temperature, distance)
    assert_close(loss, naive_snnl(features, labels, temperature, distance))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_snnl_agrees_with_the_nca_loss_of_pytorch_metric_learning(temperature):
    features, labels = torch.randn(64, D, dtype=torch.float64), torch.randint(5, (64,))
    cosine_nca = NCALoss(1 / temperature, distance=CosineSimilarity())
    assert_close(soft_nearest_neighbor_loss(features, labels, temperature), cosine_nca(features, labels))
    squared = LpDistance(power=2, normalize_embeddings=False)
    euclidean_nca = NCALoss(1 / temperature, distance=squared)(features, labels)
    assert_close(soft_nearest_neighbor_loss(features, labels, temperature, "euclidean"), euclidean_nca)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_snnl_of_one_class_is_zero_and_of_equal_features_counts_the_neighbours(distance):
    assert soft_nearest_neighbor_loss(
        torch.randn(B, D), torch.zeros(B, dtype=torch.long), 1.0, distance
    ).item() == pytest.approx(0)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    loss = soft_nearest_neighbor_loss(torch.ones(6, D), labels, 1.0, distance)
    assert loss.item() == pytest.approx(math.log(5 / 2), abs=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_descending_the_snnl_untangles_the_classes(distance):
    features, labels = torch.randn(20, D), torch.arange(20) % 2

    def gap(x):
        x = F.normalize(x, dim=1) if distance == "cosine" else x
        apart, same = torch.cdist(x, x), labels[:, None] == labels
        return float(apart[~same].mean() - apart[same].mean())

    moved = descend(lambda x: soft_nearest_neighbor_loss(x, labels, 1.0, distance), features)
    assert gap(moved) > gap(features)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_snnl_is_finite_at_any_scale_and_temperature(distance, temperature, scale):
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    for features in (scale * torch.randn(B, D), scale * torch.ones(B, D)):
        assert_finite_with_gradient(lambda x: soft_nearest_neighbor_loss(x, labels, temperature, distance), features)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_snnl_is_never_nan_in_half_precision(distance, temperature, dtype):
    for scale in (1e4, 1.0, 1e-4):
        features = (scale * torch.randn(B, D)).to(dtype).requires_grad_()
        loss = soft_nearest_neighbor_loss(features, torch.tensor([0, 0, 1, 1, 2, 2]), temperature, distance)
        loss.backward()
        assert torch.isfinite(loss)
        assert not features.grad.isnan().any()  # infinite where it is above 65,504


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("labels", [[0], [0, 1, 2]])
def test_snnl_without_a_positive_is_exactly_zero_with_zero_gradient(distance, labels):
    features = torch.randn(len(labels), D, requires_grad=True)
    loss = soft_nearest_neighbor_loss(features, torch.tensor(labels), 0.5, distance)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_snnl_gives_a_learned_temperature_its_gradient():
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    features, labels = torch.randn(B, D, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda t: soft_nearest_neighbor_loss(features, labels, t), (temperature,))


# all of them


def test_losses_are_computed_in_float32_on_half_precision_features():
    features = torch.randn(B, M, D).half()
    assert adaptive_diversity_loss(features).dtype == torch.float32
    assert collaboration_loss(features).dtype == torch.float32
    assert soft_nearest_neighbor_loss(features, torch.tensor([0, 0, 1, 1, 2, 2]), 1.0).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adaptive_diversity_loss(torch.ones(2, 3)), r"`expert_features` must have shape \(B, M, D\)"),
        (lambda: collaboration_loss(torch.ones(2, 3)), r"`expert_logits` must have shape \(B, M, C\)"),
        (lambda: competition_loss(torch.ones(1, 2, 3)), r"`expert_losses` must have shape .* got \(1, 2, 3\)"),
        (lambda: competition_loss(torch.ones(2), eps=0), "`eps` must be above 0, got 0"),
        (
            lambda: balanced_softmax_loss(torch.ones(2, 3), torch.ones(2), torch.ones(4)),
            r"`class_counts` must have shape \(3,\), got \(4,\)",
        ),
        (
            lambda: balanced_softmax_loss(torch.ones(2, 3), torch.ones(3), torch.ones(3)),
            r"`labels` must have shape \(2,\), got \(3,\)",
        ),
        (
            lambda: soft_nearest_neighbor_loss(torch.ones(2, 3), torch.ones(2), 0.0),
            "`temperature` must be above 0, got 0.0",
        ),
        (
            lambda: soft_nearest_neighbor_loss(torch.ones(2, 3), torch.ones(2), 1.0, "manhattan"),
            '`distance` must be "cosine" or "euclidean", got "manhattan"',
        ),
        (
            lambda: confusion_contrastive_loss(torch.ones(2, 3), torch.ones(3), torch.ones(4, 3), torch.ones(4, 2)),
            r"`labels` must have shape \(B,\) = \(2,\), got \(3,\)",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: collaboration_loss(x),
        lambda x: soft_nearest_neighbor_loss(x, torch.arange(B) % 2, 0.1),
        lambda x: soft_nearest_neighbor_loss(x, torch.arange(B) % 2, 0.1, "euclidean"),
        lambda x: confusion_contrastive_loss(
            x[:, 0], torch.arange(B) % M, x[:M, 1], torch.tensor([[1, 2], [0, 2], [0, 1]])
        ),
    ],
)
def test_under_autocast_a_loss_stays_in_single_precision(loss):
    values = torch.randn(B, M, C)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(values)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(values))
