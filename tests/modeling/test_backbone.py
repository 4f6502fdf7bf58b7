"""Backbones: pretrained weights in every expert, saved without their repository, every architecture that transformers has."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForImageClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES, MODEL_MAPPING_NAMES

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
)
from tailmoe.modeling.backbone import Backbone, ExpertCopies, stage_names
from tailmoe.modeling.backbone_config import CLASS_TOKEN_FIRST, PATCH_FIRST, QUERY_FIRST, UNSUITABLE

STAGES = {"depths": [1, 1, 1, 1]}
BLOCKS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
SMALL = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], **STAGES},
    "convnextv2": {"hidden_sizes": [8, 16, 24, 32], "image_size": 64, **STAGES},
    "swin": {"embed_dim": 8, "num_heads": [1, 2, 2, 2], "image_size": 64, "window_size": 2, **STAGES},
    "dinov2": {"image_size": 56, "patch_size": 14, **BLOCKS},
    "dinov3_vit": {"image_size": 64, "patch_size": 16, **BLOCKS},
    "vit": {"image_size": 64, "patch_size": 16, **BLOCKS},
}
NEEDS_MORE = {"dinat", "timm_backbone"}  # natten, timm
ELSEWHERE = """
import sys
sys.modules["tailmoe"] = None  # as if it were not installed
import torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
images = torch.load(sys.argv[1] + "/images.pt")
assert torch.equal(model(images).logits, torch.load(sys.argv[1] + "/logits.pt"))
"""


@pytest.fixture(params=SMALL)
def checkpoint(request, tmp_path):
    """A small backbone with weights, in a folder."""
    AutoModel.from_config(CONFIG_MAPPING[request.param](**SMALL[request.param])).save_pretrained(tmp_path / "backbone")
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


@pytest.mark.parametrize("kind", ["swin", "dinov2", "dinov3_vit", "vit"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    config = ICLMoEConfig(backbone_config=CONFIG_MAPPING[kind](**SMALL[kind]), num_labels=5)
    model = ICLMoEForImageClassification(config).train()
    images, labels = some_images(config), torch.tensor([0, 1])

    def gradients():
        model.zero_grad()
        torch.manual_seed(0)  # of dropped paths
        model(images, labels=labels).loss.backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    expected = gradients()
    model.gradient_checkpointing_enable()
    for gradient, before in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(gradient, before)


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
    config = CONFIG_MAPPING["vit"](**SMALL["vit"])
    model = Backbone(config, num_experts=2, expert_depth=2).eval()
    copies = [module for module in model.modules() if isinstance(module, ExpertCopies)]
    assert [each.first for each in copies] == [True, False]
    images = torch.randn(2, 3, 64, 64)
    before, _ = model(images)
    with torch.no_grad():
        for weight in [*copies[0].experts[1].parameters(), *copies[1].experts[1].parameters()]:
            weight.add_(0.1)
    after, _ = model(images)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


@pytest.mark.parametrize("kind", [*sorted(set(MODEL_FOR_BACKBONE_MAPPING_NAMES) & set(MODEL_MAPPING_NAMES)), "vit"])
def test_every_backbone_of_transformers_has_experts_or_is_refused(kind):
    if kind in NEEDS_MORE or kind == "tipsv2":  # which reads text, too
        pytest.skip("needs another package, or texts")
    config = ICLMoEConfig(backbone_config=CONFIG_MAPPING[kind](), num_labels=5)
    with torch.device("meta"):  # shapes alone
        try:
            model = Backbone(config.backbone_config, num_experts=3)
        except ValueError as error:
            assert "Experts cannot have copies of parts" in str(error)  # noqa: PT017
            return
        features, _ = model(some_images(config))
    assert features.shape == (2, 3, config.feature_size)


def small_config(kind, **fields):
    """A configuration of a token model, smaller where its fields allow it."""
    config = CONFIG_MAPPING[kind]()
    fields |= {"num_hidden_layers": 3, "image_size": 64, "patch_size": 16}
    fields |= {} if kind == "pvt" else {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    given = {
        name: value for name, value in fields.items() if isinstance(getattr(config, name, None), int | list | bool)
    }
    sides = ("image_size", "patch_size")
    return CONFIG_MAPPING[kind](
        **{n: [v] * 2 if n in sides and isinstance(getattr(config, n), list) else v for n, v in given.items()}
    )


@torch.no_grad()
def first_tokens(config):
    """The tokens of two images (2, tokens, D) before any of them has seen another."""
    model, tokens = AutoModel.from_config(config).eval(), []
    shape = model(torch.randn(2, 3, 64, 64)).last_hidden_state.shape[1:]
    for module in model.modules():
        module.register_forward_pre_hook(lambda _, given: tokens.extend(given[:1]))
    model(torch.randn(2, 3, 64, 64))
    return next(each for each in tokens if isinstance(each, torch.Tensor) and each.shape[1:] == shape)


@pytest.mark.parametrize("kind", CLASS_TOKEN_FIRST)
def test_the_token_that_is_taken_is_the_class_token(kind):
    """Before the first block, a class token alone is the same for any image."""
    tokens = first_tokens(small_config(kind))
    assert torch.equal(tokens[0, 0], tokens[1, 0])
    assert not torch.equal(tokens[0], tokens[1])
    config = ICLMoEConfig(backbone_config=small_config(kind), num_labels=5, num_experts=2)
    assert ICLMoEForImageClassification(config)(torch.randn(2, 3, 64, 64)).logits.shape == (2, 5)


@pytest.mark.parametrize("kind", PATCH_FIRST[:2] + PATCH_FIRST[3:])  # the other's first block is given a map
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
    config = CONFIG_MAPPING["vit_mae"](**SMALL["vit"], mask_ratio=0.0)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    for form in ({"backbone": str(tmp_path)}, {"backbone_config": config}, {"backbone_config": config.to_dict()}):
        with pytest.raises(ValueError, match="it hides most patches of an image at random"):
            ICLMoEConfig(**form)
    with pytest.raises(ValueError, match="it hides most patches"):
        SNNLMoEForImageClassification.from_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "head"), [("aimv2_vision_model", "use_head"), ("siglip_vision_model", "vision_use_head")]
)
def test_tokens_without_a_head_that_pools_them_are_refused(kind, head):
    images = torch.randn(2, 3, 64, 64)
    assert Backbone(small_config(kind))(images)[0].shape == (2, 1, 32)
    config = small_config(kind)
    setattr(config, head, False)
    with pytest.raises(ValueError, match=f"A backbone of type {kind} cannot be used: it is not known which"):
        Backbone(config)(images)


def test_each_token_model_of_transformers_is_in_one_list():
    kinds = [*CLASS_TOKEN_FIRST, *PATCH_FIRST, *QUERY_FIRST]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) <= set(MODEL_MAPPING_NAMES)


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
        ICLMoEConfig(backbone_config=CONFIG_MAPPING["vit"](**SMALL["vit"]), **fields)


def test_too_deep_experts_and_a_depth_without_a_backbone_are_refused():
    config = ICLMoEConfig(backbone_config=CONFIG_MAPPING["vit"](**SMALL["vit"]), expert_depth=3)
    with pytest.raises(
        ValueError, match="`expert_depth` must be below 3, the stages or blocks of a vit backbone, got 3"
    ):
        ICLMoEForImageClassification(config)
    with pytest.raises(ValueError, match="`expert_depth` is for a backbone, and there is none; got 1"):
        ICLMoEConfig(expert_depth=1)


def test_weights_of_another_network_are_refused():
    model = Backbone(CONFIG_MAPPING["vit"](**SMALL["vit"]), num_experts=2)
    with pytest.raises(ValueError, match="The backbone has no weight `embeddings"):
        model.load_weights(AutoModel.from_config(CONFIG_MAPPING["swin"](**SMALL["swin"])))


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
