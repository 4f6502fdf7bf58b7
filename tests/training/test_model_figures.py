"""Figures of a trained model: Grad-CAM as it is defined, and pictures of both kinds of model."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig

from tailmoe.modeling import ICLMoEForImageClassification, SNNLMoEForImageClassification
from tailmoe.training.data import DecodedImages
from tailmoe.training.errors import BadInputError
from tailmoe.training.figures.model import write_model_figures
from tailmoe.training.grad_cam import grad_cam


@pytest.fixture(params=["icl", "snnl"])
def model(request):
    return request.getfixturevalue(request.param)[0].eval()


def test_a_map_is_the_gradient_of_the_answer_by_each_place_averaged_over_places(model):
    images = torch.randn(2, 1, 28, 28)
    heat, answers = grad_cam(model, images)
    outputs = model(images, output_hidden_states=True)
    icl = model.config.model_type == "icl_moe"
    assert torch.equal(answers, outputs.expert_logits.argmax(dim=-1))
    for expert in range(2):
        states = outputs.hidden_states
        place = (model.experts[expert](list(states[1:])) if icl else states[-2]).detach().requires_grad_()
        features = place.mean(dim=(-2, -1))[:, None].expand(-1, 2, -1)
        if icl:
            logits = model.balanced_classifier(features)
        else:
            logits = model.expert_classifier(model.expert_hidden(features).relu())
        (gradient,) = torch.autograd.grad(logits[:, expert].amax(dim=-1).sum(), place)
        expected = (gradient.mean(dim=(-2, -1), keepdim=True) * place).sum(dim=1).relu()
        expected = expected / expected.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
        torch.testing.assert_close(heat[:, expert], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", [ICLMoEForImageClassification, SNNLMoEForImageClassification])
@pytest.mark.parametrize(
    "config",
    [
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"),
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        ),
    ],
    ids=["maps", "tokens"],
)
def test_a_map_of_a_backbone_is_that_of_what_its_last_stage_is_given(model_class, config):
    model = model_class(model_class.config_class(backbone_config=config, num_labels=5, image_size=32)).eval()
    images = torch.randn(2, 3, 32, 32)
    heat, answers = grad_cam(model, images)
    outputs = model(images)
    assert torch.equal(answers, outputs.expert_logits.argmax(dim=-1))
    side = 8 if config.model_type == "resnet" else 4
    assert heat.shape == (2, model.config.num_experts, side, side)
    assert torch.isfinite(heat).all()
    assert (heat.amax(dim=(-2, -1)) == 1).any(), "nothing speaks for any answer"
    assert not torch.equal(heat[:, 0], heat[:, 1]), "the experts' maps are one and the same"


def test_grad_cam_of_another_model_is_refused():
    config = ResNetConfig(num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    with pytest.raises(BadInputError, match="Grad-CAM is for models of type icl_moe and snnl_moe, got resnet"):
        grad_cam(ResNetForImageClassification(config), torch.randn(1, 1, 28, 28))


def test_figures_are_drawn_with_a_baseline_beside_and_change_with_the_model(model, fashion, processor, tmp_path):
    images = DecodedImages.from_dataset(fashion["test"], processor)
    names = fashion["test"].features["label"].names
    alone = write_model_figures({"model": model}, processor, images, names, tmp_path / "alone")
    assert [path.name for path in alone] == ["features.png", "grad_cam.png"]
    both = write_model_figures({"baseline": model, "model": model}, processor, images, names, tmp_path / "both")
    widths = [Image.open(path).width for path in (alone[0], both[0])]
    assert widths[1] > 1.5 * widths[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    changed = write_model_figures({"model": model}, processor, images, names, tmp_path / "changed")
    for before, after in zip(alone, changed, strict=True):
        assert not np.array_equal(np.asarray(Image.open(before)), np.asarray(Image.open(after)))


def test_few_images_and_a_single_class_are_drawn_as_far_as_they_can_be(icl, fashion, processor, tmp_path):
    one_class = fashion["test"].filter(lambda label: label == 3, input_columns="label")
    images = DecodedImages.from_dataset(one_class.select(range(2)), processor)
    names = fashion["test"].features["label"].names
    written = write_model_figures({"model": icl[0]}, processor, images, names, tmp_path)
    assert [path.name for path in written] == ["grad_cam.png"]
