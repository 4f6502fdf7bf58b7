"""A user's `compute_metrics`, as public scripts have it, with both models and both Trainers."""

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from tailmoe.training.data import DecodedImages
from tailmoe.training.data.normalization import Normalization


def compute_metrics(prediction):
    return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}


@pytest.fixture(params=["icl", "snnl"])
def model(request):
    return request.getfixturevalue(request.param)[0].eval()


@pytest.fixture
def images(fashion, processor):
    """Test images as plain rows of normalised pixels."""
    split = DecodedImages.from_dataset(fashion["test"], processor)
    pixels = Normalization(processor)(split.pixel_values)
    return [{"pixel_values": image, "labels": label} for image, label in zip(pixels, split.labels, strict=True)]


@pytest.fixture(params=["plain", "ours"])
def trainer(request, model, images, make_trainer, tmp_path):
    if request.param == "ours":
        made = make_trainer(model)
        made.compute_metrics = compute_metrics
        return made
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", disable_tqdm=True)
    return Trainer(model, args, train_dataset=images, eval_dataset=images, compute_metrics=compute_metrics)


@torch.no_grad()
def outputs_of(model, images):
    return model(torch.stack([each["pixel_values"] for each in images]))


def test_predictions_are_the_logits_alone(trainer, model, images):
    logits = outputs_of(model, images).logits
    labels = torch.stack([each["labels"] for each in images])
    expected = (logits.argmax(-1) == labels).float().mean().item()
    assert trainer.evaluate()["eval_accuracy"] == pytest.approx(expected)
    np.testing.assert_allclose(trainer.predict(trainer.eval_dataset).predictions, logits, atol=1e-4)


def test_the_other_outputs_come_on_request(trainer, model, images):
    trainer.compute_metrics = None
    expected = outputs_of(model, images)
    ignored = ["representation_logits", "expert_features", "gate_probs"]
    logits, expert_logits = trainer.predict(trainer.eval_dataset, ignore_keys=ignored).predictions
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(expert_logits, expected.expert_logits, atol=1e-4)
    everything = trainer.predict(trainer.eval_dataset, ignore_keys=[]).predictions
    assert len(everything) == len(expected)
