"""Early exit: easy images ask few experts, and what is asked answers as it does in the whole ensemble."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.modeling.early_exit import exit_early

from .backbones import small_config
from .test_backbone import SOME

LABELS = torch.tensor([0, 1, 2, 0])
NEVER = 1.0  # no image of these models is so sure


@pytest.fixture
def model(make_icl):
    return make_icl(num_experts=3, logit_scale=3.0)


@pytest.fixture
def images():
    return torch.randn(40, 1, 28, 28)


def middle_confidence(model, images):
    """A threshold that some of the images meet with their first expert."""
    return float(model(images).expert_logits[:, 0].softmax(-1).amax(-1).quantile(0.4))


@torch.no_grad()
def answer(model, images, threshold, **options):
    model.config.early_exit_threshold = threshold
    return model(images, **options)


def test_without_a_threshold_nothing_has_changed(model, images):
    outputs = answer(model, images, None)
    assert outputs.num_experts_used is None
    assert torch.equal(outputs.logits, outputs.expert_logits.mean(dim=1))


@pytest.mark.parametrize("balanced_heads", [True, False])
@pytest.mark.parametrize("classifier", ["cosine", "linear"])
def test_a_threshold_above_every_confidence_gives_the_whole_ensemble(make_icl, images, balanced_heads, classifier):
    model = make_icl(num_experts=3, balanced_heads=balanced_heads, classifier=classifier, logit_scale=3.0)
    outputs = answer(model, images, NEVER)
    assert outputs.num_experts_used.tolist() == [3] * 40
    torch.testing.assert_close(outputs.logits, answer(model, images, None).logits, rtol=1e-6, atol=1e-6)


def asked_in_order(expert_logits):
    """The experts of `exit_early`, from what each would say (B, M, C)."""
    for index in range(expert_logits.shape[1]):
        go_on = yield expert_logits[:, index]
        expert_logits = expert_logits[go_on]


def test_each_image_stops_at_the_first_mean_that_is_sure_enough():
    expert_logits = 3 * torch.randn(40, 3, 5)
    logits, used = exit_early(asked_in_order(expert_logits), 0.8)
    assert set(used.tolist()) == {1, 2, 3}
    for i in range(40):
        means = [expert_logits[i, :k].mean(dim=0) for k in (1, 2, 3)]
        expected = next((k for k in (1, 2) if means[k - 1].softmax(-1).max() >= 0.8), 3)
        assert used[i] == expected
        torch.testing.assert_close(logits[i], means[expected - 1])


def test_experts_that_contradict_each_other_are_not_sure():
    sure, other = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    undecided = torch.zeros(1, 2)
    assert exit_early(asked_in_order(torch.stack([sure, other], dim=1)), 0.9)[1].tolist() == [1]
    _, used = exit_early(asked_in_order(torch.stack([undecided, sure, other, sure], dim=1)), 0.999)
    assert used.tolist() == [4]


def test_a_model_asks_as_many_experts_as_the_rule_says(model, images):
    expert_logits = answer(model, images, None).expert_logits
    threshold = middle_confidence(model, images)
    logits, used = exit_early(asked_in_order(expert_logits), threshold)
    outputs = answer(model, images, threshold)
    assert len(used.unique()) > 1
    assert torch.equal(outputs.num_experts_used, used)
    torch.testing.assert_close(outputs.logits, logits)


def test_the_images_beside_it_change_no_answer(model, images):
    threshold = middle_confidence(model, images)
    whole = answer(model, images, threshold)
    for part in (images[:1], images[7:20], images.flip(0)[:9]):
        rows = [int((images == image).flatten(1).all(1).nonzero()) for image in part]
        outputs = answer(model, part, threshold)
        assert torch.equal(outputs.num_experts_used, whole.num_experts_used[rows])
        torch.testing.assert_close(outputs.logits, whole.logits[rows])


def test_it_acts_on_predictions_alone(model, images):
    model.config.early_exit_threshold = 0.01
    assert model(images).num_experts_used is None, "with gradients"
    with torch.no_grad():
        assert model(images).num_experts_used is not None
        assert model(images, raw_logits=True).num_experts_used is None
        assert model(images, output_hidden_states=True).hidden_states is not None
        assert model.train()(images).num_experts_used is None
        model.eval()
        assert model(images[:4], labels=LABELS).expert_logits.shape == (4, 3, 3)


def test_the_label_prior_decides_who_is_sure(make_icl, images):
    model = make_icl(num_experts=3, logit_scale=3.0, class_counts=[5, 5, 5])
    model.set_label_prior([1, 0, 0])
    outputs = answer(model, images, NEVER)
    assert outputs.num_experts_used.tolist() == [1] * 40
    assert outputs.logits.argmax(-1).tolist() == [0] * 40


def operations(model, images, threshold):
    with FlopCounterMode(display=False) as counter:
        answer(model, images, threshold)
    return counter.get_total_flops()


def test_experts_that_are_not_asked_cost_nothing(model, images):
    model.config.early_exit_threshold = None
    one, three = (operations(model, images, threshold) for threshold in (0.01, NEVER))
    assert one < 0.75 * three
    assert three <= operations(model, images, None)


@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("expert_depth", [1, 2])
def test_experts_on_a_backbone_are_asked_one_by_one_for_the_images_that_go_on(kind, expert_depth):
    config = ICLMoEConfig(backbone_config=small_config(kind), expert_depth=expert_depth, num_labels=5, logit_scale=3.0)
    model = ICLMoEForImageClassification(config).eval()
    images = torch.randn(5, 3, config.image_size, config.image_size)
    ensemble = answer(model, images, None)
    with torch.no_grad():
        asked = model.ask_experts(images)
        torch.testing.assert_close(next(asked), ensemble.expert_logits[:, 0])
        two = torch.tensor([False, True, False, False, True])
        torch.testing.assert_close(asked.send(two), ensemble.expert_logits[two, 1])
        torch.testing.assert_close(asked.send(None), ensemble.expert_logits[two, 2])
    torch.testing.assert_close(answer(model, images, NEVER).logits, ensemble.logits)
    assert torch.equal(answer(model, images, None).logits, ensemble.logits), "the model itself has changed"


def test_an_exported_model_asks_every_expert(model, images):
    expected = answer(model, images, None).logits
    model.config.early_exit_threshold = 0.01
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        outputs = program.module()(images)
    torch.testing.assert_close(outputs.logits, expected)


@pytest.mark.parametrize("threshold", [0.0, 1.5, -1.0, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(ValueError, match=f"`early_exit_threshold` must be above 0 and at most 1.* got {threshold}"):
        ICLMoEConfig(early_exit_threshold=threshold)


def test_the_threshold_is_saved(model, images, tmp_path):
    threshold = middle_confidence(model, images)
    expected = answer(model, images, threshold)
    model.save_pretrained(tmp_path)
    loaded = ICLMoEForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.early_exit_threshold == threshold
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, expected.logits)
