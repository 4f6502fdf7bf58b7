"""Backbones: pretrained weights in every expert, saved without their repository, every architecture that transformers has."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForImageClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_BACKBONE_MAPPING_NAMES,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
)
from tailmoe.modeling.backbone import Backbone, ExpertCopies, stage_names
from tailmoe.modeling.backbone_config import UNSUITABLE, WITH_TEXT
from tailmoe.modeling.backbone_features import CLASS_TOKEN_FIRST, PATCHES_ALONE

from .backbones import ALL, small_config

SOME = ("resnet", "convnextv2", "swin", "dinov2", "dinov3_vit", "vit")
NEEDS_MORE = ("dinat", "edgetam", "timm_backbone", "timm_wrapper")  # natten, timm
OTHERS = set(MODEL_MAPPING_NAMES) - {*ALL, *WITH_TEXT, *NEEDS_MORE}
OF_IMAGES = OTHERS & {*MODEL_FOR_BACKBONE_MAPPING_NAMES, *MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, *UNSUITABLE}
OF_IMAGES_AND_MORE = OTHERS & set(IMAGE_PROCESSOR_MAPPING_NAMES) - OF_IMAGES
ELSEWHERE = """
import sys
sys.modules["tailmoe"] = None  # as if it were not installed
import torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
images = torch.load(sys.argv[1] + "/images.pt")
assert torch.equal(model(images).logits, torch.load(sys.argv[1] + "/logits.pt"))
"""


@pytest.fixture(params=SOME)
def checkpoint(request, tmp_path):
    """A small backbone with weights, in a folder."""
    AutoModel.from_config(small_config(request.param)).save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def some_images(config):
    return torch.randn(2, 3, config.image_size, config.image_size)


def test_each_expert_starts_as_the_pretrained_backbone(checkpoint):
    model = ICLMoEForImageClassification.from_backbone(str(checkpoint), num_labels=5).eval()
    plain = Backbone(model.config.backbone_config).eval()
    plain.load_weights(AutoModel.from_pretrained(checkpoint))
    images = some_images(model.config)
    features = model(images).expert_features
    assert features.shape == (2, 3, model.config.feature_size)
    expected, _ = plain(images)
    torch.testing.assert_close(features, expected.expand(-1, 3, -1))


@pytest.mark.parametrize("model_class", [ICLMoEForImageClassification, SNNLMoEForImageClassification])
def test_a_saved_model_needs_neither_the_backbones_folder_nor_tailmoe(checkpoint, model_class, tmp_path):
    model = model_class.from_backbone(str(checkpoint), num_labels=5).eval()
    images = some_images(model.config)
    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    checkpoint.rename(tmp_path / "elsewhere")
    loaded = AutoModelForImageClassification.from_pretrained(saved)
    assert torch.equal(loaded(images).logits, model(images).logits)
    if model.config.backbone_config.model_type == "swin":  # one is enough for a process of its own
        torch.save(images, saved / "images.pt")
        torch.save(model(images).logits, saved / "logits.pt")
        subprocess.run([sys.executable, "-c", ELSEWHERE, str(saved)], check=True)


def test_without_pretrained_weights_experts_start_differently_and_share_all_but_their_copies(checkpoint):
    config = ICLMoEConfig(backbone=str(checkpoint), num_labels=5)
    model = ICLMoEForImageClassification(config).train()
    images = some_images(config)
    outputs = model(images)
    assert (outputs.expert_features[:, 0] - outputs.expert_features[:, 1]).abs().max() > 1e-3
    outputs.representation_logits[:, 1].sum().backward()
    touched = {name for name, weight in model.backbone.named_parameters() if weight.grad is not None}
    assert any(".experts.1." in name for name in touched)
    assert any(".experts." not in name for name in touched), "nothing is shared"
    for name in touched:
        if ".experts.0." in name or ".experts.2." in name:
            assert not dict(model.backbone.named_parameters())[name].grad.any(), name


def test_hidden_states_are_those_that_experts_share(checkpoint):
    config = ICLMoEConfig(backbone=str(checkpoint), num_labels=5)
    states = ICLMoEForImageClassification(config)(some_images(config), output_hidden_states=True).hidden_states
    length = len(stage_names(AutoModel.from_config(config.backbone_config)))
    assert len(states) == length, "the embeddings and all but the last"
    assert all(len(state) == 2 for state in states)
    config = SNNLMoEConfig(backbone=str(checkpoint), num_labels=5)
    states = SNNLMoEForImageClassification(config)(some_images(config), output_hidden_states=True).hidden_states
    assert len(states) >= length + 2, "of the extractor all, and its features"
    assert states[-1].shape == (2, config.feature_size)


def test_several_blocks_are_copied_and_run_for_the_same_expert():
    model = Backbone(small_config("vit"), num_experts=2, expert_depth=2).eval()
    copies = [module for module in model.modules() if isinstance(module, ExpertCopies)]
    assert len(copies) == 2
    images = torch.randn(2, 3, 64, 64)
    before, _ = model(images)
    with torch.no_grad():
        for weight in [*copies[0].experts[1].parameters(), *copies[1].experts[1].parameters()]:
            weight.add_(0.1)
    after, _ = model(images)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def expected_features(kind, outputs):
    """What a model's own classifier is given: pooled, the class token, or a mean."""
    if kind == "cvt":
        return outputs.cls_token_value[:, 0]
    if kind == "hgnet_v2":
        return outputs.feature_maps[-1].flatten(2).mean(dim=2)
    if kind == "radio":
        return outputs.summary
    if kind == "data2vec-vision":
        return outputs.last_hidden_state[:, 1:].mean(dim=1)
    if kind in CLASS_TOKEN_FIRST:
        return outputs.last_hidden_state[:, 0]
    if outputs.get("pooler_output") is not None:
        pooled = outputs.pooler_output
        return pooled if pooled.dim() == 2 else pooled.flatten(2).mean(dim=2)
    states = outputs.last_hidden_state
    if states.dim() == 3:
        return states.mean(dim=1)
    return states.flatten(1, 2).mean(dim=1) if kind.startswith("sam2") else states.flatten(2).mean(dim=2)


@pytest.mark.parametrize("kind", ALL)
def test_an_image_model_is_a_backbone(kind, tmp_path):
    config = ICLMoEConfig(backbone_config=small_config(kind), num_labels=3, num_experts=2)
    model, images = ICLMoEForImageClassification(config), some_images(config)
    plain = AutoModel.from_config(config.backbone_config).eval()
    model.backbone.load_weights(plain)
    with torch.no_grad():
        features = model.eval()(images).expert_features
        expected = expected_features(kind, plain(images, **model.backbone.options))
    assert features.shape[2] == config.feature_size
    torch.testing.assert_close(features, expected[:, None].expand(-1, 2, -1))
    train_a_step(model, torch.cat([images, images.flip(3)]))
    with torch.no_grad():
        outputs = model.eval()(images)
        assert not torch.equal(outputs.expert_features[:, 0], outputs.expert_features[:, 1])
        config.early_exit_threshold = 1.0
        torch.testing.assert_close(model(images).logits, outputs.logits, rtol=1e-6, atol=1e-6)
        config.early_exit_threshold = None
        model.save_pretrained(tmp_path)
        loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(loaded(images).logits, outputs.logits, rtol=1e-6, atol=1e-6)


def train_a_step(model, images):
    """A step, whose gradients are the same with checkpoints where the model can have them."""
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def gradients():
        torch.manual_seed(0)  # of what a backbone does at random
        loss = model(images, labels=torch.arange(len(images)) % 3).loss
        return torch.autograd.grad(loss, weights, allow_unused=True)

    expected = gradients()
    if model.supports_gradient_checkpointing:
        model.gradient_checkpointing_enable()
        for gradient, before in zip(gradients(), expected, strict=True):
            if before is not None:
                torch.testing.assert_close(gradient, before)
        model.gradient_checkpointing_disable()
    with torch.no_grad():
        for weight, gradient in zip(weights, expected, strict=True):
            if gradient is not None:
                weight -= 0.01 * gradient / (gradient.norm() + 1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_nothing_shared_is_left_to_train_when_it_is_frozen(kind):
    with torch.device("meta"):
        model = ICLMoEForImageClassification(ICLMoEConfig(backbone_config=small_config(kind), num_labels=3))
    model.freeze_shared()
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained
    assert all(".experts." in name or "classifier" in name for name in trained)


@pytest.mark.parametrize(
    "kind", [*sorted(OF_IMAGES), *(pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(OF_IMAGES_AND_MORE))]
)
def test_any_other_image_model_is_refused_with_the_reason(kind):
    with pytest.raises(ValueError, match=f"A backbone of type {kind} cannot be used: it "):
        ICLMoEConfig(backbone_config=CONFIG_MAPPING[kind](), num_labels=5).feature_size  # noqa: B018


@pytest.mark.parametrize("kind", WITH_TEXT)
def test_of_a_model_of_images_and_texts_the_image_part_is_taken(kind, tmp_path):
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    parts = {"vision_config": small | {"image_size": 32, "patch_size": 16}, "text_config": small | {"vocab_size": 99}}
    whole = AutoModel.from_config(CONFIG_MAPPING[kind](**parts))
    whole.save_pretrained(tmp_path)
    model = SNNLMoEForImageClassification.from_backbone(str(tmp_path), num_labels=5).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = whole.vision_model.eval()(images).pooler_output
    torch.testing.assert_close(model.backbone(images)[0][:, 0], expected)


def test_a_checkpoint_without_a_weight_is_refused(tmp_path):
    model = AutoModel.from_config(small_config("convnextv2"))
    weights = model.state_dict()
    weights.pop("encoder.stages.1.layers.0.grn.weight")
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"The backbone has no weight `encoder.stages.1.layers.0.grn.weight`"):
        ICLMoEForImageClassification.from_backbone(str(tmp_path), num_labels=5)


def test_parts_that_are_shared_are_computed_once_and_those_after_the_experts_for_each():
    model = Backbone(small_config("efficientnet"), num_experts=3)
    calls = []
    for name, module in model.model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(torch.randn(2, 3, 64, 64))
    assert calls.count("embeddings") == calls.count(model.stages[0][0]) == 1
    assert calls.count("encoder.top_bn") == 3


@torch.no_grad()
def first_tokens(config):
    """The tokens of two images (2, tokens, D) before any of them has seen another."""
    model, tokens = AutoModel.from_config(config).eval(), []
    shape = model(torch.randn(2, 3, 64, 64)).last_hidden_state.shape[1:]
    for module in model.modules():
        module.register_forward_pre_hook(lambda _, given: tokens.extend(given[:1]))
    model(torch.randn(2, 3, 64, 64))
    return next(each for each in tokens if isinstance(each, torch.Tensor) and each.shape == (2, *shape))


@pytest.mark.parametrize("kind", [*CLASS_TOKEN_FIRST, "data2vec-vision"])
def test_the_first_token_is_the_class_token(kind):
    """Before the first block, a class token alone is the same for any image."""
    tokens = first_tokens(small_config(kind))
    assert torch.equal(tokens[0, 0], tokens[1, 0])
    assert not torch.equal(tokens[0], tokens[1])


@pytest.mark.parametrize("kind", [kind for kind in PATCHES_ALONE if not kind.startswith("sam3")])  # maps at first
def test_the_first_token_of_a_model_without_class_token_is_a_patch(kind):
    tokens = first_tokens(small_config(kind))
    assert not torch.equal(tokens[0, 0], tokens[1, 0])


@pytest.mark.parametrize("config_class", [ICLMoEConfig, SNNLMoEConfig])
@pytest.mark.parametrize("kind", UNSUITABLE)
def test_a_backbone_without_features_of_the_whole_image_is_refused_with_the_reason(kind, config_class):
    message = rf"A backbone of type {kind} cannot be used: {UNSUITABLE[kind]}"
    for experts in (1, 3):
        with pytest.raises(ValueError, match=message):
            config_class(backbone_config={"model_type": kind}, num_experts=experts, num_labels=5)


def test_a_masked_autoencoder_is_refused_in_any_form(tmp_path):
    config = small_config("vit_mae", mask_ratio=0.0)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    for form in ({"backbone": str(tmp_path)}, {"backbone_config": config}, {"backbone_config": config.to_dict()}):
        with pytest.raises(ValueError, match="it hides most patches of an image at random"):
            ICLMoEConfig(**form)
    with pytest.raises(ValueError, match="it hides most patches"):
        SNNLMoEForImageClassification.from_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "head"), [("aimv2_vision_model", "use_head"), ("siglip_vision_model", "vision_use_head")]
)
def test_without_a_head_that_pools_them_the_mean_of_the_patches_is_taken(kind, head):
    config = small_config(kind)
    setattr(config, head, False)
    model, images = Backbone(config).eval(), torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(images)[0][:, 0], model.model(images).last_hidden_state.mean(dim=1))


def test_an_image_size_that_the_backbone_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"A backbone of type radio .* does not run on images of 70 pixels alone"):
        ICLMoEForImageClassification(ICLMoEConfig(backbone_config=small_config("radio"), image_size=70))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_sizes": [8, 8, 8]}, "`hidden_sizes` is of the network that a backbone takes the place of"),
        ({"shallow_fusion": True}, "`shallow_fusion` is not for a backbone"),
        ({"num_channels": 1}, "`num_channels` must be 3, the backbone's, got 1"),
    ],
)
def test_a_field_that_contradicts_the_backbone_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ICLMoEConfig(backbone_config=small_config("vit"), **fields)


def test_too_deep_experts_and_a_depth_without_a_backbone_are_refused():
    config = ICLMoEConfig(backbone_config=small_config("vit"), expert_depth=3)
    with pytest.raises(
        ValueError, match="`expert_depth` must be below 3, the stages or blocks of a vit backbone, got 3"
    ):
        ICLMoEForImageClassification(config)
    with pytest.raises(ValueError, match="`expert_depth` is for a backbone, and there is none; got 1"):
        ICLMoEConfig(expert_depth=1)


def test_weights_of_another_network_are_refused():
    model = Backbone(small_config("vit"), num_experts=2)
    with pytest.raises(ValueError, match="The backbone has no weight `embeddings"):
        model.load_weights(AutoModel.from_config(small_config("swin")))


def test_a_frozen_shared_part_keeps_its_weights_and_the_statistics_of_its_batch_normalisation(checkpoint):
    model = ICLMoEForImageClassification.from_backbone(str(checkpoint), num_labels=5)
    model.freeze_shared()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model(some_images(model.config), labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(".experts." in name or "classifier" in name for name in changed)
    assert any(".experts.2." in name for name in changed)
