"""The objectives: which terms act when, what their state holds, and the faults of published code they must not have."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
)
from tailmoe.training.objectives import BalancedSoftmaxObjective, ICLObjective, SHIKEObjective, SNNLObjective
from tailmoe.training.objectives.losses import (
    adaptive_diversity_loss,
    balanced_softmax_loss,
    hardest_negative_suppression_loss,
    soft_nearest_neighbor_loss,
)

CLASSES, EXPERTS = 4, 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def labels():
    return torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture
def model():
    config = ICLMoEConfig(
        hidden_sizes=[4, 8], depths=[1, 1], num_experts=EXPERTS, num_labels=CLASSES, class_counts=[40, 20, 10, 5]
    )
    return ICLMoEForImageClassification(config)


@pytest.fixture
def outputs(model):
    return model(torch.randn(6, 3, 8, 8))


def snnl_model(**kwargs):
    return SNNLMoEForImageClassification(
        SNNLMoEConfig(hidden_sizes=[4, 8], depths=[1, 1], num_labels=CLASSES, **kwargs)
    )


# which terms act when


@pytest.mark.parametrize(
    ("progress", "names"),
    [
        (0.0, {"competition", "collaboration", "diversity"}),
        (0.15, {"competition", "collaboration"}),
        (0.59, {"competition", "collaboration"}),
        (0.6, {"competition", "collaboration", "contrast"}),
        (0.9, {"balance"}),
    ],
)
def test_terms_follow_the_papers_schedule(model, outputs, labels, progress, names):
    assert set(ICLObjective(model.config, balanced_heads="decoupled")(outputs, labels, progress)) == names


def test_the_contrast_acts_alone_where_asked_for_as_in_the_authors_code(model, outputs, labels):
    objective = ICLObjective(model.config, contrast_alone=True, diversity_until=1.0)
    assert set(objective(outputs, labels, 0.59)) == {"competition", "collaboration", "diversity", "balance"}
    assert set(objective(outputs, labels, 0.6)) == {"contrast", "balance"}
    with pytest.raises(ValueError, match="`contrast_alone` needs a `contrast_weight` above 0"):
        ICLObjective(model.config, contrast_alone=True, contrast_weight=0)


def test_balanced_heads_along_train_during_the_whole_run_without_a_last_stage(model, outputs, labels):
    objective = ICLObjective(model.config, balanced_heads="joint")
    for progress in (0.0, 0.5, 0.99):
        assert {"balance", "competition"} <= set(objective(outputs, labels, progress))
    assert objective.decoupled_from() == 1


def test_the_contrastive_stage_keeps_the_classification_loss(model, outputs, labels):
    objective = ICLObjective(model.config)
    before, after = objective(outputs, labels, 0.5), objective(outputs, labels, 0.7)
    assert after["competition"] == before["competition"] > 0
    after["competition"].backward()
    assert model.classifier.weight.grad.abs().sum() > 0


def test_descending_the_diversity_term_pushes_the_experts_of_the_model_apart(model, labels):
    model.eval()
    images = torch.randn(6, 3, 8, 8)
    before = adaptive_diversity_loss(model(images).expert_features)
    ICLObjective(model.config)(model(images), labels, 0.0)["diversity"].backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    assert adaptive_diversity_loss(model(images).expert_features) < before


def test_diversity_of_deviations_is_about_how_experts_differ_between_images(model, labels):
    features = torch.rand(6, EXPERTS, 5)  # not negative: orthogonal only where no channel is used by two experts
    centred = features - features.mean(dim=0)
    objective = ICLObjective(model.config, diversity_of="deviations")

    def term(expert_features):
        logits = torch.randn(6, EXPERTS, CLASSES)
        output = {"representation_logits": logits, "expert_logits": logits, "expert_features": expert_features}
        return objective(SimpleNamespace(**output), labels, 0.0)["diversity"]

    torch.testing.assert_close(term(features), adaptive_diversity_loss(centred))
    torch.testing.assert_close(term(features + 3 * torch.rand(EXPERTS, 5)), term(features))


def test_the_balance_term_moves_the_balanced_heads_alone(model, outputs, labels):
    ICLObjective(model.config, balanced_heads="decoupled")(outputs, labels, 0.95)["balance"].backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {"balanced_classifier.weight"}


def test_experts_compete_per_sample_or_for_the_mean_of_the_batch(model, outputs, labels):
    losses = torch.stack(
        [F.cross_entropy(outputs.representation_logits[:, m], labels, reduction="none") for m in range(EXPERTS)], dim=1
    )
    for competition, reference in (
        ("sample", (1 / (1 / losses).sum(dim=1)).mean()),
        ("batch", 1 / (1 / losses.mean(dim=0)).sum()),
    ):
        term = ICLObjective(model.config, competition=competition)(outputs, labels, 0.5)["competition"]
        torch.testing.assert_close(term, reference)


def test_without_competition_each_expert_has_its_own_cross_entropy(model, outputs, labels):
    terms = ICLObjective(model.config, competition="none", competition_weight=9.0)(outputs, labels, 0.5)
    assert "competition" not in terms
    expected = sum(F.cross_entropy(outputs.representation_logits[:, m], labels) for m in range(EXPERTS))
    torch.testing.assert_close(terms["cross_entropy"], expected)


def test_competition_of_equal_experts_weighed_by_their_number_squared_has_the_gradient_of_cross_entropy(model):
    logits, labels = torch.randn(6, 1, CLASSES), torch.tensor([0, 1, 2, 3, 0, 1])
    gradients = []
    for options in ({"competition": "none"}, {"competition_weight": EXPERTS**2}):
        same = logits.repeat(1, EXPERTS, 1).requires_grad_()
        output = type("Output", (), {"representation_logits": same, "expert_features": None, "expert_logits": same})
        objective = ICLObjective(model.config, collaboration_weight=0, balanced_heads="decoupled", **options)
        (gradient,) = torch.autograd.grad(sum(objective(output, labels, 0.5).values()), same)
        gradients.append(gradient)
    torch.testing.assert_close(*gradients)


def test_balanced_softmax_trains_each_expert_by_itself(labels):
    config = ICLMoEConfig(
        hidden_sizes=[4, 8],
        depths=[1, 1],
        num_experts=EXPERTS,
        num_labels=CLASSES,
        class_counts=[40, 20, 10, 5],
        balanced_heads=False,
    )
    outputs = ICLMoEForImageClassification(config)(torch.randn(6, 3, 8, 8))
    (term,) = BalancedSoftmaxObjective(config)(outputs, labels, 0.5).values()
    shifted = outputs.expert_logits + torch.tensor(config.class_counts).log()
    expected = sum(F.cross_entropy(shifted[:, m], labels) for m in range(EXPERTS))
    torch.testing.assert_close(term, expected)
    with pytest.raises(ValueError, match=r"`config\.balanced_heads` must be False"):
        BalancedSoftmaxObjective(ICLMoEConfig(num_labels=CLASSES, class_counts=[1] * CLASSES))


def test_weights_scale_their_terms_and_a_weight_of_zero_removes_its_term(model, outputs, labels):
    plain = ICLObjective(model.config)(outputs, labels, 0.0)
    double = ICLObjective(model.config, diversity_weight=2.0)(outputs, labels, 0.0)
    torch.testing.assert_close(double["diversity"], 2 * plain["diversity"])
    without = ICLObjective(model.config, diversity_weight=0.0, collaboration_weight=0.0)
    assert set(without(outputs, labels, 0.0)) == {"competition", "balance"}


def test_class_mean_anchors_contrast_the_mean_feature_of_each_class(model, outputs, labels):
    by_sample = ICLObjective(model.config)
    by_mean = ICLObjective(model.config, contrast_anchor="class_mean")
    for objective in (by_sample, by_mean):
        objective.update_state(outputs, labels)
    outputs.expert_features = outputs.expert_features[::2].repeat_interleave(2, dim=0)  # both of a class alike
    torch.testing.assert_close(
        by_mean(outputs, labels, 0.7)["contrast"], by_sample(outputs, labels, 0.7)["contrast"], rtol=1e-4, atol=1e-5
    )
    outputs.expert_features = torch.randn_like(outputs.expert_features)
    assert by_mean(outputs, labels, 0.7)["contrast"] != by_sample(outputs, labels, 0.7)["contrast"]


# state


def test_prototypes_are_the_class_means_at_first_and_keep_ninety_percent_later(model, outputs, labels):
    objective = ICLObjective(model.config)
    objective.update_state(outputs, labels)
    first = outputs.expert_features[:2].mean(dim=0).detach()  # (M, D)
    torch.testing.assert_close(objective.prototypes[:, 0], first)
    outputs.expert_features = torch.randn_like(outputs.expert_features)
    objective.update_state(outputs, labels)
    second = outputs.expert_features[:2].mean(dim=0)
    torch.testing.assert_close(objective.prototypes[:, 0], 0.9 * first + 0.1 * second)


def test_confusion_is_the_running_mean_probability_given_the_true_class_and_keeps_ninety_percent(
    model, outputs, labels
):
    objective = ICLObjective(model.config)
    objective.update_state(outputs, labels)
    first = outputs.representation_logits.softmax(-1)[2:4].mean(dim=0).detach()  # (M, C), of class 1
    torch.testing.assert_close(objective.confusion[:, 1], first)
    outputs.representation_logits = torch.randn_like(outputs.representation_logits)
    objective.update_state(outputs, labels)
    second = outputs.representation_logits.softmax(-1)[2:4].mean(dim=0)
    torch.testing.assert_close(objective.confusion[:, 1], 0.9 * first + 0.1 * second)


def test_a_class_absent_from_the_batch_keeps_its_state(model, outputs, labels):
    objective = ICLObjective(model.config)
    objective.update_state(outputs, labels)
    kept = objective.prototypes[:, 2].clone(), objective.confusion[:, 2].clone()
    for _ in range(300):
        objective.update_state(outputs, labels.clamp(max=1))
    assert torch.equal(objective.prototypes[:, 2], kept[0])
    assert torch.equal(objective.confusion[:, 2], kept[1])
    assert objective.observed.tolist() == [True, True, True, False]


def test_hard_negatives_are_the_most_confused_classes_and_never_contain_the_class_itself(model, outputs, labels):
    objective = ICLObjective(model.config, num_hard_negatives=2)
    for _ in range(2):
        outputs.representation_logits = 3 * torch.randn_like(outputs.representation_logits)
        objective.update_state(outputs, labels)
    for m in range(EXPERTS):
        for c in labels.tolist():
            others = sorted((k for k in range(CLASSES) if k != c), key=lambda k: -objective.confusion[m, c, k])
            assert objective.hard_negatives[m, c].tolist() == others[:2]


@pytest.mark.parametrize("asked", [3, 7, 100])
def test_hard_negatives_are_at_most_all_other_classes_also_before_a_class_was_seen(model, asked):
    objective = ICLObjective(model.config, num_hard_negatives=asked)
    for c in range(CLASSES):
        assert sorted(objective.hard_negatives[0, c].tolist()) == [k for k in range(CLASSES) if k != c]


def test_the_state_of_the_objective_is_in_its_state_dict(model, outputs, labels):
    objective, restored = ICLObjective(model.config), ICLObjective(model.config)
    objective.update_state(outputs, labels)
    assert {"prototypes", "confusion", "observed"} <= set(objective.state_dict())
    restored.load_state_dict(objective.state_dict())
    assert restored(outputs, labels, 0.7)["contrast"] == objective(outputs, labels, 0.7)["contrast"]


def test_observing_leaves_the_terms_of_the_same_step_and_their_gradient_alone(model, outputs, labels):
    objective = ICLObjective(model.config)
    objective.update_state(outputs, labels)
    terms = objective(outputs, labels, 0.7)
    objective.update_state(outputs, labels)
    terms["contrast"].backward()
    assert not objective.prototypes.requires_grad


# SNNL


def test_snnl_sums_the_layers_and_its_weight_of_zero_is_the_baseline(labels):
    model = snnl_model()
    outputs = model(torch.randn(6, 3, 8, 8), output_hidden_states=True)
    terms = SNNLObjective(model.config, snnl_weight=0.5)(outputs, labels, 0.0)
    double = SNNLObjective(model.config, snnl_weight=1.0)(outputs, labels, 0.0)
    torch.testing.assert_close(double["snnl"], 2 * terms["snnl"])
    torch.testing.assert_close(terms["nll"], F.nll_loss(outputs.logits, labels))
    assert set(SNNLObjective(model.config, snnl_weight=0.0)(outputs, labels, 0.0)) == {"nll"}


def test_snnl_of_chosen_layers_is_the_part_of_those_layers(labels):
    model = snnl_model()
    outputs = model(torch.randn(6, 3, 8, 8), output_hidden_states=True)
    every = SNNLObjective(model.config)(outputs, labels, 0.0)["snnl"]
    parts = [
        SNNLObjective(model.config, layers=[i])(outputs, labels, 0.0)["snnl"]
        for i in range(len(outputs.hidden_states))
    ]
    torch.testing.assert_close(sum(parts), every)
    expected = soft_nearest_neighbor_loss(outputs.hidden_states[-1], labels, 1.0)
    torch.testing.assert_close(SNNLObjective(model.config, layers=[-1])(outputs, labels, 0.0)["snnl"], expected)
    with pytest.raises(ValueError, match=r"`layers` must name hidden states 0 to \d, got 9"):
        SNNLObjective(model.config, layers=[9])


def test_a_mixture_with_logit_adjustment_is_trained_by_balanced_softmax(labels):
    model = snnl_model()
    outputs = model(torch.randn(6, 3, 8, 8), output_hidden_states=True)
    with pytest.raises(ValueError, match="class_counts"):
        SNNLObjective(model.config, logit_adjustment=1.0)
    counts = [2**n for n in range(model.config.num_labels)]
    model.config.class_counts = counts
    terms = SNNLObjective(model.config, logit_adjustment=1.0)(outputs, labels, 0.0)
    torch.testing.assert_close(terms["nll"], balanced_softmax_loss(outputs.logits, labels, torch.tensor(counts)))


def test_the_annealed_temperature_falls_as_the_paper_says():
    objective = SNNLObjective(SNNLMoEConfig(), annealing_epochs=50)
    assert objective.temperature(0.0) == 1
    assert objective.temperature(0.5) == pytest.approx(1 / (1 + 25) ** 0.55)
    assert SNNLObjective(SNNLMoEConfig(), temperature_mode="fixed", temperature=0.3).temperature(0.5) == 0.3


def test_a_learned_temperature_is_a_parameter_that_stays_above_zero(labels):
    model = snnl_model()
    objective = SNNLObjective(model.config, temperature_mode="learned", temperature=0.2)
    optimizer = torch.optim.SGD(objective.parameters(), lr=100.0)
    outputs = model(torch.randn(6, 3, 8, 8), output_hidden_states=True)
    objective(outputs, labels, 0.0)["snnl"].backward()
    assert math.isclose(objective.temperature(0.0).item(), 0.2, rel_tol=1e-6)
    optimizer.step()
    assert objective.temperature(0.0) > 0
    assert "log_temperature" in objective.state_dict()


# errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diversity_until": 30}, r"`diversity_until` must be in \[0, 1\], got 30"),
        ({"ema_decay": -0.1}, "`ema_decay` must be in"),
        ({"competition": "epoch"}, "`competition` must be one of batch, sample, none, got epoch"),
        ({"balanced_heads": "first"}, "`balanced_heads` must be one of joint, decoupled, got first"),
        ({"contrast_anchor": "image"}, "`contrast_anchor` must be one of sample, class_mean, got image"),
        ({"temperature": 0.0}, "`temperature` above 0"),
        ({"contrast_weight": -1.0}, "`contrast_weight` must be at least 0, got -1.0"),
    ],
)
def test_a_wrong_option_of_the_icl_objective_is_named_with_its_value(model, options, message):
    with pytest.raises(ValueError, match=message):
        ICLObjective(model.config, **options)


def test_an_objective_refuses_another_kind_of_model_and_unknown_counts(model):
    with pytest.raises(ValueError, match="`SNNLObjective` trains models of type snnl_moe, got icl_moe"):
        SNNLObjective(model.config)
    with pytest.raises(ValueError, match=r"`config.class_counts` must give the training images"):
        ICLObjective(ICLMoEConfig())


# SHIKE


def test_shike_sums_the_experts_losses_and_distils_every_ordered_pair(model, outputs, labels):
    logits, objective = outputs.representation_logits, SHIKEObjective(model.config)
    terms = objective(outputs, labels, 0.5)
    assert set(terms) == {"cross_entropy", "suppression", "distillation"}
    experts = [logits[:, m] for m in range(EXPERTS)]
    torch.testing.assert_close(terms["cross_entropy"], sum(F.cross_entropy(z, labels) for z in experts))
    pairs = [(z, other) for z in experts for other in experts if z is not other]
    # averaged over batch and classes, as the authors' code does
    divergences = [F.kl_div(z.log_softmax(1), other.softmax(1), reduction="none").mean() for z, other in pairs]
    torch.testing.assert_close(terms["distillation"], sum(divergences))
    torch.testing.assert_close(terms["suppression"], 10 * hardest_negative_suppression_loss(logits, labels))


def test_shike_trains_its_balanced_heads_alone_at_the_end(model, outputs, labels):
    objective = SHIKEObjective(model.config)
    terms = objective(outputs, labels, 0.9)
    counts = torch.tensor(model.config.class_counts)
    heads = [balanced_softmax_loss(outputs.expert_logits[:, m], labels, counts) for m in range(EXPERTS)]
    assert set(terms) == {"balance"}
    torch.testing.assert_close(terms["balance"], sum(heads))
    terms["balance"].backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"balanced_classifier.weight"}


def test_shike_without_balanced_heads_is_refused():
    config = ICLMoEConfig(num_labels=2, class_counts=[2, 1], balanced_heads=False)
    with pytest.raises(ValueError, match=r"`config\.balanced_heads` must be True"):
        SHIKEObjective(config)
