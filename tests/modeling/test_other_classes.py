"""A model that is loaded for other classes: what was known of the classes before goes, and the features stay."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification

OF_CLASSES = ("class_counts", "label_prior", "training_logit_adjustment")
FOUR = {0: "ant", 1: "bee", 2: "cat", 3: "dog"}


@pytest.fixture
def folder(make_model, tmp_path):
    model = make_model()
    classes = model.config.num_labels
    model.config.class_counts = list(range(1, classes + 1))
    model.config.training_logit_adjustment = 1.0
    model.set_label_prior([1.0] * classes)
    model.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", [{"num_labels": 4}, {"id2label": FOUR}])
def test_fields_of_classes_follow_the_labels(folder, given):
    model = AutoModelForImageClassification.from_pretrained(folder, ignore_mismatched_sizes=True, **given)
    whole = AutoModelForImageClassification.from_pretrained(folder)
    for config in (model.config, AutoConfig.from_pretrained(folder, **given)):
        assert [getattr(config, name) for name in OF_CLASSES] == [None] * 3
        assert config.num_labels == 4
        assert config.label2id == {label: index for index, label in config.id2label.items()}
        assert config.id2label == given.get("id2label", {c: f"LABEL_{c}" for c in range(4)})
    size = whole.config.image_size
    assert model(torch.zeros(2, whole.config.num_channels, size, size)).logits.shape == (2, 4)
    kept = [name for name, weight in whole.state_dict().items() if weight.shape == model.state_dict()[name].shape]
    assert all(torch.equal(whole.state_dict()[name], model.state_dict()[name]) for name in kept)


def test_counts_that_are_given_with_the_number_of_labels_are_taken(folder):
    config = AutoConfig.from_pretrained(folder, num_labels=4, class_counts=[9, 4, 1, 1])
    assert config.class_counts == [9, 4, 1, 1]


def test_a_configuration_whose_number_of_labels_is_set_follows_too(folder):
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = 4
    assert [getattr(config, name) for name in OF_CLASSES] == [None] * 3
    AutoModelForImageClassification.from_pretrained(folder, config=config, ignore_mismatched_sizes=True)


def test_as_many_labels_of_other_names_keep_the_counts(folder):
    config = AutoConfig.from_pretrained(folder)
    counts = config.class_counts
    config.id2label = {c: f"bird {c}" for c in range(config.num_labels)}
    assert config.class_counts == counts


def test_counts_that_do_not_fit_a_new_configuration_are_refused(make_model):
    with pytest.raises(
        ValueError, match="`class_counts` must give at least 1 training image for each of the 3 labels"
    ):
        type(make_model().config)(num_labels=3, class_counts=[1] * 10)
