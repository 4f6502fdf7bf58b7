import pytest
import torch
import torch.nn.functional as F

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.modeling.layers import shallow_projection

LABELS = torch.tensor([0, 1, 2, 0])


def test_the_default_network_is_the_papers_resnet_32_with_three_experts():
    model = ICLMoEForImageClassification(ICLMoEConfig(num_labels=100))
    assert model.num_parameters() == 1_277_008
    convolutions = [
        m for m in (*model.stem.modules(), *model.shared_stages.modules()) if isinstance(m, torch.nn.Conv2d)
    ]
    last_stage = [m for m in model.experts[0].stage.modules() if isinstance(m, torch.nn.Conv2d)]
    # 6n + 2 layers: the stem, 3 stages of n blocks of two 3x3 convolutions, the classifier
    assert sum(m.kernel_size == (3, 3) for m in (*convolutions, *last_stage)) + 1 == 32


def test_the_fused_depth_alternates_over_the_shared_stages():
    model = ICLMoEForImageClassification(ICLMoEConfig(num_experts=5))
    assert [expert.source for expert in model.experts] == [0, 1, 0, 1, 0]


def test_a_projection_ends_with_a_relu_over_one_step_and_without_over_two_as_published():
    def layers(widths):
        return [type(each).__name__ for each in shallow_projection(widths)]

    assert layers([8, 16]) == ["Sequential", "ReLU"]
    assert layers([4, 8, 16]) == ["Sequential", "ReLU", "Sequential"]
    assert layers([4, 8, 16, 32]) == ["Sequential", "ReLU", "Sequential", "ReLU", "Sequential"]
    features = ICLMoEForImageClassification(ICLMoEConfig())(torch.randn(4, 3, 32, 32)).expert_features  # (B, 3, D)
    assert features[:, [0, 2]].min() < 0  # of maps projected over two steps
    assert features[:, 1].min() >= 0


@pytest.mark.parametrize("num_experts", [1, 2, 4])
@pytest.mark.parametrize(("hidden_sizes", "depths"), [([4, 8], [1, 2]), ([4, 4, 8, 8], [1, 1, 2, 1])])
def test_any_depth_width_and_number_of_experts_gives_outputs_of_the_stated_shapes(
    make_icl, images, num_experts, hidden_sizes, depths
):
    model = make_icl(num_experts=num_experts, hidden_sizes=hidden_sizes, depths=depths)
    outputs = model(images, output_hidden_states=True)
    assert outputs.logits.shape == (4, 3)
    assert outputs.expert_logits.shape == outputs.representation_logits.shape == (4, num_experts, 3)
    assert outputs.expert_features.shape == (4, num_experts, 8)
    assert [hidden.shape[1] for hidden in outputs.hidden_states] == [hidden_sizes[0], *hidden_sizes[:-1]]
    assert outputs.loss is None


def test_the_ensemble_is_the_mean_of_the_balanced_heads(make_icl, images):
    outputs = make_icl()(images)
    torch.testing.assert_close(outputs.logits, outputs.expert_logits.mean(dim=1))
    assert not torch.equal(outputs.expert_logits, outputs.representation_logits)


def test_cosine_logits_stay_within_the_scale_and_ignore_the_length_of_features(make_icl, images):
    model = make_icl(logit_scale=5.0)
    assert model(images).expert_logits.abs().max() <= 5.0
    features = torch.randn(4, 2, 8)
    torch.testing.assert_close(model.classifier(features), model.classifier(100 * features))


def test_balanced_heads_never_shape_the_features(make_icl, images):
    model = make_icl()
    model(images).expert_logits.sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"balanced_classifier.weight"}


def test_without_balanced_heads_the_classifiers_that_shape_the_features_predict(make_icl, images):
    model = make_icl(balanced_heads=False)
    outputs = model(images)
    assert outputs.expert_logits is outputs.representation_logits
    outputs.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_one_expert_without_fusion_and_with_a_linear_classifier_is_a_plain_resnet(make_icl, images):
    model = make_icl(num_experts=1, shallow_fusion=False, balanced_heads=False, classifier="linear")
    hidden = model.stem(images)
    for stage in (*model.shared_stages, model.experts[0].stage):
        hidden = stage(hidden)
    logits = F.linear(hidden.mean(dim=(2, 3)), model.classifier.weight[0], model.classifier.bias[0])
    torch.testing.assert_close(model(images).logits, logits)


def test_the_models_own_loss_is_cross_entropy_of_both_classifiers_over_experts(make_icl, images):
    outputs = make_icl()(images, labels=LABELS)
    parts = [
        F.cross_entropy(z[:, m], LABELS)
        for z in (outputs.representation_logits, outputs.expert_logits)
        for m in (0, 1)
    ]
    torch.testing.assert_close(outputs.loss, sum(parts) / 2)


def test_known_class_counts_make_the_balanced_heads_loss_a_balanced_softmax(make_icl, images):
    model = make_icl(class_counts=[100, 10, 1])
    outputs = model(images, labels=LABELS)
    prior = torch.tensor([100.0, 10.0, 1.0]).log()
    parts = [F.cross_entropy(outputs.representation_logits[:, m], LABELS) for m in (0, 1)]
    parts += [F.cross_entropy(outputs.expert_logits[:, m] + prior, LABELS) for m in (0, 1)]
    torch.testing.assert_close(outputs.loss, sum(parts) / 2)
    same, plain = make_icl(class_counts=[7, 7, 7]), make_icl()
    same.load_state_dict(plain.state_dict())
    torch.testing.assert_close(same(images, labels=LABELS).loss, plain(images, labels=LABELS).loss)


def test_outputs_come_as_a_tuple_when_asked(make_icl, images):
    logits, expert_logits, *_ = make_icl()(images, return_dict=False)
    assert (logits.shape, expert_logits.shape) == ((4, 3), (4, 2, 3))


def test_counts_above_the_range_of_half_precision_leave_the_loss_finite():
    config = ICLMoEConfig(hidden_sizes=[4, 8], depths=[1, 1], num_labels=2, class_counts=[100_000, 5])
    model = ICLMoEForImageClassification(config).half()
    loss = model(torch.randn(2, 3, 8, 8, dtype=torch.half), labels=torch.tensor([0, 1])).loss
    assert torch.isfinite(loss)
