"""The counts and the names of the classes that a Trainer trains on, in the model, the objective and what is saved."""

import datasets
import pytest
import torch
from transformers import AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.data import class_counts
from tailmoe.training.errors import BadInputError
from tailmoe.training.objectives import BalancedSoftmaxObjective, ICLObjective, SNNLObjective

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
BIRDS = [f"bird {c}" for c in range(10)]
SHORT = {"num_train_epochs": 1, "save_strategy": "no"}


@pytest.fixture(scope="module")
def birds(fashion):
    """Images of as many classes as `fashion`, with other names and other counts."""
    labels = fashion["train"]["label"]
    kept = [row for row, label in enumerate(labels) if label != 0 or row % 3 == 0]
    images = fashion["train"].select(kept).cast_column("label", datasets.ClassLabel(names=BIRDS))
    assert class_counts(images) != class_counts(fashion["train"])
    return images


@pytest.fixture
def published(icl, tmp_path):
    """A model of FashionMNIST as it is loaded from a folder or the Hub."""
    model, _ = icl
    model.config.id2label = dict(enumerate(FASHION))
    model.config.label2id = {name: c for c, name in enumerate(FASHION)}
    model.save_pretrained(tmp_path / "published")
    return lambda: ICLMoEForImageClassification.from_pretrained(tmp_path / "published")


def trained(trainer):
    trainer.train()
    return trainer.model.state_dict()


@pytest.mark.parametrize("objective_class", [None, ICLObjective])
def test_fine_tuning_a_published_model_is_training_with_the_counts_of_the_new_images(
    published, birds, make_trainer, caplog, objective_class, tmp_path
):
    weights = []
    for told_before in (False, True):
        model = published()
        if told_before:
            model.config.class_counts = class_counts(birds)
        objective = None if objective_class is None else objective_class(model.config, balanced_heads="joint")
        trainer = make_trainer(model, objective, train=birds, **SHORT)
        assert ("were of other images" in caplog.text) != told_before
        caplog.clear()
        weights.append(trained(trainer))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    trainer.save_model(tmp_path / "saved")
    saved = AutoModelForImageClassification.from_pretrained(tmp_path / "saved").config
    assert saved.class_counts == class_counts(birds)
    assert [saved.id2label[c] for c in range(10)] == BIRDS
    assert saved.label2id == {name: c for c, name in enumerate(BIRDS)}


def test_the_objectives_that_use_counts_take_those_of_the_images(icl, snnl, birds, make_trainer, caplog):
    heads = ICLMoEConfig(
        num_labels=10, class_counts=[7] * 10, balanced_heads=False, num_channels=1, hidden_sizes=[4, 4, 8]
    )
    snnl[0].config.class_counts = [7] * 10
    counts = torch.tensor(class_counts(birds), dtype=torch.float)
    trainer = make_trainer(ICLMoEForImageClassification(heads), BalancedSoftmaxObjective(heads), train=birds)
    assert torch.equal(trainer.objective.class_counts, counts)
    adjusted = SNNLObjective(snnl[0].config, logit_adjustment=1.0)
    trainer = make_trainer(snnl[0], adjusted, train=birds)
    torch.testing.assert_close(trainer.objective.log_prior.exp(), counts / counts.sum())
    assert caplog.text.count("the model's configuration and the objective were of other images") == 2


def test_counts_that_a_model_lacks_are_set_and_those_that_agree_are_not_told(icl, birds, make_trainer, caplog):
    model, _ = icl
    model.config.class_counts = None
    assert make_trainer(model, train=birds).model.config.class_counts == class_counts(birds)
    assert make_trainer(model, train=birds).model.config.training_logit_adjustment is None, "of its own loss: 1"
    assert "other images" not in caplog.text


def test_an_objective_for_another_number_of_classes_is_refused(icl, birds, make_trainer):
    other = ICLMoEConfig(num_labels=3, class_counts=[5, 5, 5], num_channels=1, hidden_sizes=[4, 4, 8])
    with pytest.raises(BadInputError, match="`ICLObjective` was made for 3 classes, there are 10"):
        make_trainer(icl[0], ICLObjective(other), train=birds)


@pytest.mark.parametrize("kind", ["icl", "resnet"])
def test_a_model_without_class_names_takes_those_of_the_images(kind, icl, birds, make_trainer, tmp_path):
    shape = {"embedding_size": 4, "hidden_sizes": [4, 4], "depths": [1, 1]}
    resnet = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **shape))
    make_trainer({"icl": icl[0], "resnet": resnet}[kind], train=birds).save_model(tmp_path / "saved")
    assert list(AutoModelForImageClassification.from_pretrained(tmp_path / "saved").config.id2label.values()) == BIRDS


def test_the_names_that_a_new_model_was_given_stay_and_the_log_tells(icl, birds, make_trainer, caplog):
    model, _ = icl
    model.config.id2label = {c: f"my bird {c}" for c in range(10)}
    config = make_trainer(model, train=birds).model.config
    assert config.id2label[3] == "my bird 3"
    assert (
        "keeps its own class names: class 0 is `bird 0` in the training images, `my bird 0` in the model"
        in caplog.text
    )
