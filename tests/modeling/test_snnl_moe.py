import pytest
import torch
import torch.nn.functional as F

from tailmoe.modeling import SNNLMoEConfig, SNNLMoEForImageClassification

LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(("num_channels", "image_size"), [(1, 28), (3, 32), (3, 28)])
@pytest.mark.parametrize("depths", [[1], [2, 1], [1, 1, 1]])
def test_grey_and_colour_of_any_size_and_depth_give_outputs_of_the_stated_shapes(num_channels, image_size, depths):
    config = SNNLMoEConfig(
        num_channels=num_channels, image_size=image_size, depths=depths, hidden_sizes=[8] * len(depths), num_labels=3
    )
    images = torch.randn(4, num_channels, image_size, image_size)
    outputs = SNNLMoEForImageClassification(config)(images, output_hidden_states=True)
    assert outputs.logits.shape == (4, 3)
    assert outputs.expert_logits.shape == (4, 4, 3)
    assert outputs.gate_probs.shape == (4, 4)
    sizes = [image_size // 2 ** (i + 1) for i in range(len(depths))]
    assert [hidden.shape for hidden in outputs.hidden_states] == [*((4, 8, s, s) for s in sizes), (4, 8)]


def test_the_mixture_is_the_gate_weighted_sum_of_the_experts_probabilities(make_snnl, images):
    outputs = make_snnl()(images)
    naive = sum(outputs.gate_probs[:, k, None] * outputs.expert_logits[:, k].softmax(-1) for k in range(2))
    torch.testing.assert_close(outputs.logits.exp(), naive)
    torch.testing.assert_close(outputs.logits.exp().sum(dim=-1), torch.ones(4))
    torch.testing.assert_close(outputs.gate_probs.sum(dim=-1), torch.ones(4))


def test_the_loss_is_the_negative_log_likelihood_of_the_mixture(make_snnl, images):
    outputs = make_snnl()(images, labels=LABELS)
    torch.testing.assert_close(outputs.loss, F.nll_loss(outputs.logits, LABELS))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_gates_and_experts_stay_finite_with_their_gradient(make_snnl, images, scale):
    model = make_snnl()
    with torch.no_grad():
        model.gate.weight.fill_(scale)
        model.gate.weight[0].neg_()
        model.expert_classifier.weight.mul_(1e4)
    outputs = model(images, labels=LABELS)
    outputs.loss.backward()
    assert torch.isfinite(outputs.loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_the_gate_starts_close_to_uniform_so_that_every_expert_is_trained(make_snnl, images):
    gate_probs = make_snnl(num_experts=4)(images).gate_probs
    torch.testing.assert_close(gate_probs, torch.full((4, 4), 0.25), atol=0.05, rtol=0)


def test_one_expert_predicts_alone(make_snnl, images):
    outputs = make_snnl(num_experts=1)(images)
    torch.testing.assert_close(outputs.logits, outputs.expert_logits[:, 0].log_softmax(-1))
