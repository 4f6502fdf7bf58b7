"""Logits adjusted to a known distribution of classes, wherever the model runs, and never in a loss."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline

from tailmoe.modeling import ICLMoEConfig, SNNLMoEConfig

COUNTS = [80, 15, 5]
TARGET = [1, 1, 2]
LABELS = torch.tensor([0, 1, 2, 0])


def shares(counts):
    return torch.tensor(counts, dtype=torch.float) / sum(counts)


def test_balanced_heads_assume_equal_classes_so_that_the_target_alone_is_added(make_icl, images):
    model = make_icl(class_counts=COUNTS)
    before = model(images)
    model.set_label_prior(TARGET)
    after = model(images)
    shift = shares(TARGET).log() - torch.tensor(1 / 3).log()
    torch.testing.assert_close(after.logits, before.logits + shift)
    torch.testing.assert_close(after.expert_logits, before.expert_logits + shift)
    torch.testing.assert_close(after.logits, after.expert_logits.mean(dim=1))
    assert torch.equal(after.representation_logits, before.representation_logits)


def test_logits_of_plain_cross_entropy_lose_the_training_frequencies(make_icl, images):
    model = make_icl(class_counts=COUNTS, balanced_heads=False)
    before = model(images)
    model.set_label_prior(TARGET)
    expected = before.logits.softmax(-1) / shares(COUNTS) * shares(TARGET)
    torch.testing.assert_close(model(images).logits.softmax(-1), expected / expected.sum(-1, keepdim=True))


@pytest.mark.parametrize(("tau", "left"), [(None, 1.0), (0.0, 1.0), (0.25, 0.75), (1.0, 0.0)])
def test_a_mixture_stays_in_log_probabilities_and_loses_what_its_training_left_in_it(make_snnl, images, tau, left):
    model = make_snnl(class_counts=COUNTS, training_logit_adjustment=tau)
    before = model(images)
    model.set_label_prior(TARGET)
    after = model(images)
    expected = before.logits.exp() / shares(COUNTS) ** left * shares(TARGET)
    torch.testing.assert_close(after.logits.exp(), expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(after.logits.exp().sum(-1), torch.ones(4))
    assert torch.equal(after.expert_logits, before.expert_logits)
    assert torch.equal(after.gate_probs, before.gate_probs)


def test_the_prior_that_the_logits_assume_changes_nothing_and_none_takes_it_back(make_model, images):
    model = make_model(class_counts=COUNTS)
    before = model(images).logits
    model.set_label_prior([1, 1, 1] if model.config.model_type == "icl_moe" else COUNTS)
    torch.testing.assert_close(model(images).logits, before)
    model.set_label_prior(TARGET)
    assert not torch.allclose(model(images).logits, before)
    model.set_label_prior(None)
    assert torch.equal(model(images).logits, before)


@pytest.mark.parametrize(("tau", "left"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0)])
def test_a_model_tells_the_prior_that_its_logits_assume(make_model, tau, left):
    model = make_model(class_counts=COUNTS, training_logit_adjustment=tau)
    expected = shares(COUNTS) ** left
    torch.testing.assert_close(model.log_assumed_prior().exp(), expected / expected.sum())
    model.set_label_prior(TARGET)
    torch.testing.assert_close(model.log_assumed_prior().exp(), shares(TARGET))
    model.set_label_prior([0, 1, 1])
    assert torch.isfinite(model.log_assumed_prior()).all()


def test_a_model_of_unknown_training_frequencies_says_so_when_asked_for_them(make_snnl):
    with pytest.raises(ValueError, match="`class_counts` must be known for a label prior, got None"):
        make_snnl().log_assumed_prior()


def test_training_mode_knows_no_prior(make_model, images):
    model = make_model(class_counts=COUNTS).train()
    expected = model(images).logits
    model.set_label_prior(TARGET)
    assert torch.equal(model(images).logits, expected)


def test_the_loss_in_evaluation_is_of_the_logits_as_trained(make_model, images):
    model = make_model(class_counts=COUNTS)
    expected = model(images, labels=LABELS).loss
    model.set_label_prior(TARGET)
    assert torch.equal(model(images, labels=LABELS).loss, expected)


def test_an_objective_of_a_frozen_stage_asks_for_the_logits_as_trained(make_icl, images):
    model = make_icl(class_counts=COUNTS)
    expected = model(images).expert_logits
    model.set_label_prior(TARGET)
    assert torch.equal(model(images, raw_logits=True).expert_logits, expected)


def test_a_class_of_share_zero_is_never_answered_and_all_stays_finite(make_model, images):
    model = make_model(class_counts=COUNTS)
    model.set_label_prior([0, 0, 3])
    logits = model(images).logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.softmax(-1)[:, 2], torch.ones(4))


def test_the_prior_is_saved_and_acts_after_loading_and_in_a_pipeline(make_model, images, processor, tmp_path):
    model = make_model(class_counts=COUNTS, training_logit_adjustment=0.5)
    model.set_label_prior(torch.tensor([2.0, 2.0, 4.0]))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["label_prior"] == [0.25, 0.25, 0.5]
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(images).logits, model(images).logits)
    image = Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28))
    answers = pipeline("image-classification", model=str(tmp_path))(image)
    probabilities = model(**processor(image, return_tensors="pt")).logits[0].softmax(-1)
    assert {each["label"]: each["score"] for each in answers} == pytest.approx(
        {model.config.id2label[index]: float(p) for index, p in enumerate(probabilities)}
    )


def test_half_precision_takes_the_prior(make_icl, images):
    model = make_icl(class_counts=[100_000, 5, 5], balanced_heads=False).half()
    model.set_label_prior([0, 1, 1])
    assert torch.isfinite(model(images.half()).logits).all()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([1, 2], "`label_prior` must have a share for each of the 3 labels, got 2"),
        ([1, 2, -1], "`label_prior` must hold probabilities or counts, at least 0, got -1.0"),
        ([1, 2, float("nan")], "at least 0, got nan"),
        ([0, 0, 0], r"`label_prior` must give some class a share above 0, got \[0.0, 0.0, 0.0\]"),
    ],
)
def test_what_is_no_distribution_over_the_labels_is_refused_and_changes_nothing(make_model, prior, message):
    model = make_model(class_counts=COUNTS)
    model.set_label_prior(TARGET)
    with pytest.raises(ValueError, match=message):
        model.set_label_prior(prior)
    assert model.config.label_prior == [0.25, 0.25, 0.5]
    with pytest.raises(ValueError, match=message):
        type(model.config)(num_labels=3, class_counts=COUNTS, label_prior=prior)


def test_unknown_training_frequencies_are_named_unless_the_logits_do_not_assume_them(make_model, images):
    model = make_model()
    with pytest.raises(ValueError, match="`class_counts` must be known for a label prior, got None"):
        model.set_label_prior(TARGET)
    model.config.training_logit_adjustment = 1.0
    model.set_label_prior(TARGET)
    assert model(images).logits.shape == (4, 3)


@pytest.mark.parametrize("config_class", [ICLMoEConfig, SNNLMoEConfig])
def test_a_negative_adjustment_is_refused(config_class):
    with pytest.raises(ValueError, match=r"`training_logit_adjustment` must be a number of at least 0, got -1\.0"):
        config_class(training_logit_adjustment=-1.0)
