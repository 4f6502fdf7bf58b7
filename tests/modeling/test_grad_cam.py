"""Grad-CAM as it is defined: gradients of an expert's answer by its map, averaged over places."""

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ViTConfig

from tailmoe.modeling import ICLMoEForImageClassification, SNNLMoEForImageClassification


def test_a_map_is_the_gradient_of_the_answer_by_each_place_averaged_over_places(make_model, images):
    model = make_model()
    heat, outputs = model.grad_cam(images)
    plain = model(images, output_hidden_states=True)
    for name in ("logits", "expert_logits"):
        torch.testing.assert_close(outputs[name], plain[name])
    icl, states = model.config.model_type == "icl_moe", plain.hidden_states
    for expert in range(2):
        place = (model.experts[expert](list(states[1:])) if icl else states[-2]).detach().requires_grad_()
        features = place.mean(dim=(-2, -1))[:, None].expand(-1, 2, -1)
        if icl:
            logits = model.balanced_classifier(features)
        else:
            logits = model.expert_classifier(model.expert_hidden(features).relu())
        (gradient,) = torch.autograd.grad(logits[:, expert].amax(dim=-1).sum(), place)
        expected = (gradient.mean(dim=(-2, -1), keepdim=True) * place).sum(dim=1).relu()
        expected = expected / expected.amax(dim=(-2, -1), keepdim=True)
        torch.testing.assert_close(heat[:, expert], expected, rtol=1e-4, atol=1e-5)


BACKBONES = {
    "maps": ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"),
    "tokens": ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    ),
}


@pytest.mark.parametrize("model_class", [ICLMoEForImageClassification, SNNLMoEForImageClassification])
@pytest.mark.parametrize(("kind", "side"), [("maps", 8), ("tokens", 4)])
def test_a_map_of_a_backbone_is_that_of_what_its_last_stage_is_given(model_class, kind, side):
    config = model_class.config_class(backbone_config=BACKBONES[kind], num_labels=5, image_size=32)
    model = model_class(config).eval()
    images = torch.randn(2, 3, 32, 32)
    heat, outputs = model.grad_cam(images)
    torch.testing.assert_close(outputs.expert_logits, model(images).expert_logits)
    assert heat.shape == (2, model.config.num_experts, side, side)
    assert torch.isfinite(heat).all()
    assert (heat.amax(dim=(-2, -1)) == 1).any(), "nothing speaks for any answer"
    assert not torch.equal(heat[:, 0], heat[:, 1]), "the experts' maps are one and the same"


def test_a_stage_that_changes_its_input_in_place_gives_the_same_map():
    """As some of timm's do."""

    def heat_of(first):
        torch.manual_seed(0)
        config = SNNLMoEForImageClassification.config_class(backbone_config=BACKBONES["maps"], num_labels=5)
        model = SNNLMoEForImageClassification(config).eval()
        last = model.backbone.last_stages()[0]
        last.layers.insert(0, first)
        return model.grad_cam(torch.randn(2, 3, 32, 32))[0]

    assert torch.equal(heat_of(nn.Hardtanh(inplace=True)), heat_of(nn.Hardtanh()))


def test_a_label_prior_moves_the_answer_and_early_exit_leaves_no_expert_out(make_icl, images):
    model = make_icl(early_exit_threshold=0.01, class_counts=[10, 10, 10])
    model.set_label_prior([0, 0, 1])
    heat, outputs = model.grad_cam(images)
    assert heat.shape[:2] == (4, 2)
    assert (outputs.expert_logits.argmax(dim=-1) == 2).all()


def test_frozen_weights_and_half_precision_are_no_hindrance(make_model, images):
    model = make_model().requires_grad_(False)
    expected, _ = model.grad_cam(images)
    with torch.no_grad():
        heat, _ = model.bfloat16().grad_cam(images.bfloat16())
    assert heat.dtype == torch.float32
    assert (heat - expected).abs().mean() < 0.02


def test_the_model_is_as_it_was_afterwards(make_model, images):
    model = make_model()
    before = model(images).logits
    model.grad_cam(images)
    assert torch.equal(model(images).logits, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
