"""What people do with a transformers Trainer: class weights, searches, trackers, checkpointing, adapters, the best epoch."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tailmoe.modeling import ICLMoEForImageClassification, SNNLMoEForImageClassification
from tailmoe.training import LongTailTrainer, LongTailTrainingArguments, cli
from tailmoe.training.errors import BadInputError
from tailmoe.training.objectives import ICLObjective
from tailmoe.training.objectives.class_weighted import ClassWeightedObjective

SHORT = {"max_steps": 2, "save_strategy": "no"}


# class weights


def test_weights_of_classes_are_those_of_torch(snnl):
    model, _ = snnl
    logits, labels = torch.randn(6, 10), torch.tensor([0, 1, 2, 3, 3, 9])
    weights = [float(1 + c) for c in range(10)]
    outputs = type(model(torch.randn(1, 1, 28, 28)))(logits=logits)
    terms = ClassWeightedObjective(model.config, weights)(outputs, labels, 0.0)
    expected = F.cross_entropy(logits, labels, torch.tensor(weights))
    torch.testing.assert_close(terms["weighted_cross_entropy"], expected)


def test_balanced_weights_are_inverse_to_the_training_images_and_train_every_classifier(make_trainer, icl):
    trainer = make_trainer(icl[0], class_weights="balanced", **SHORT)
    weights = trainer.objective.class_weights * torch.tensor(trainer.class_counts)
    torch.testing.assert_close(weights, torch.ones(10))
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    unchanged = [name for name, weight in trainer.model.named_parameters() if torch.equal(weight, before[name])]
    assert unchanged == []


@pytest.mark.parametrize("weights", ["heavy", [], [1.0, 0.0], [1.0, "x"], [float("nan")]])
def test_what_are_no_weights_is_refused(weights, tmp_path):
    with pytest.raises(ValueError, match="`class_weights` must be balanced, or a weight above 0 for each class"):
        LongTailTrainingArguments(output_dir=str(tmp_path), class_weights=weights)


def test_too_few_weights_and_weights_beside_an_objective_are_refused(make_trainer, icl):
    with pytest.raises(ValueError, match="a weight for each of the 10 labels, got 2"):
        make_trainer(icl[0], class_weights=[1.0, 2.0])
    with pytest.raises(BadInputError, match="`class_weights` are of cross-entropy, and `objective` is another loss"):
        make_trainer(*icl, class_weights="balanced")


# model_init and searches


@pytest.fixture
def searching(fashion, processor, tmp_path, icl):
    def make(model_init, model=None, objective=None, **changes):
        arguments = {"disable_tqdm": True, "report_to": "none", "per_device_train_batch_size": 64} | SHORT | changes
        args = LongTailTrainingArguments(output_dir=str(tmp_path), **arguments)
        splits = {"train_dataset": fashion["train"], "eval_dataset": fashion["test"]}
        return LongTailTrainer(
            model, args, processing_class=processor, model_init=model_init, objective=objective, **splits
        )

    return partial(make, lambda: ICLMoEForImageClassification(icl[0].config))


def test_each_training_of_model_init_begins_anew_with_its_objective(searching, icl):
    trainer = searching(objective=ICLObjective(icl[0].config))
    weights = []
    for _ in range(2):
        trainer.train()
        weights.append({**trainer.model.state_dict(), **trainer.objective.state_dict()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert trainer.model.config.class_counts == trainer.class_counts


def test_a_search_chooses_by_shot_groups_and_its_trials_change_the_augmentation(searching):
    pytest.importorskip("optuna")
    trainer, paddings = searching(eval_strategy="epoch"), []

    def space(trial):
        return {"crop_padding": trial.suggest_categorical("crop_padding", [1]), "optim": "adamw_torch"}

    def objective(metrics):
        paddings.append((trainer.batches.augmentation.crop_padding, type(trainer.optimizer.optimizer).__name__))
        return metrics["eval_few_accuracy"]

    best = trainer.hyperparameter_search(space, objective, n_trials=2, direction="maximize")
    assert 0 <= best.objective <= 1
    assert paddings == [(1, "AdamW")] * 2


def test_a_model_and_its_maker_exclude_each_other(searching, icl):
    with pytest.raises(BadInputError, match="either `model` or `model_init`"):
        searching(model=icl[0])


# trackers


def test_tensorboard_gets_the_terms_and_the_shot_groups(make_trainer, icl, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(*icl, report_to="tensorboard", eval_strategy="epoch", num_train_epochs=1, save_strategy="no").train()
    (folder,) = (tmp_path / "run" / "runs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"train/competition", "eval/few_accuracy"} <= set(events.Tags()["scalars"])


# checkpointing and adapters


@pytest.mark.parametrize("kind", ["icl", "snnl"])
def test_activation_checkpointing_ends_with_the_same_weights_and_statistics(kind, icl, snnl, make_trainer):
    ends = []
    for checkpointing in (False, True):
        trainer = make_trainer({"icl": icl, "snnl": snnl}[kind][0], activation_checkpointing=checkpointing, **SHORT)
        trainer.train()
        ends.append(trainer.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("kind", "convolutions", "heads", "model_class"),
    [
        ("icl", r".*residual\.\d\.0", ["classifier", "balanced_classifier"], ICLMoEForImageClassification),
        ("snnl", r"extractor\.\d\.0\.0", ["gate", "expert_hidden", "expert_classifier"], SNNLMoEForImageClassification),
    ],
)  # fmt: skip
def test_an_adapter_of_peft_trains_and_is_saved_alone(
    kind, convolutions, heads, model_class, icl, snnl, make_trainer, tmp_path
):
    from peft import LoraConfig, PeftModel, get_peft_model

    model = {"icl": icl, "snnl": snnl}[kind][0]
    model.config.class_counts = None
    before = model_class(model.config)
    before.load_state_dict(model.state_dict())
    adapter = LoraConfig(r=2, target_modules=convolutions, modules_to_save=heads)
    trainer = make_trainer(get_peft_model(model, adapter), **SHORT)
    trainer.train()
    assert trainer.model.config.class_counts == trainer.class_counts
    trainer.save_model(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    loaded = PeftModel.from_pretrained(before, tmp_path / "adapter")
    trained = trainer.model.state_dict()
    saved = {
        name: weight for name, weight in loaded.state_dict().items() if "lora" in name or "modules_to_save" in name
    }
    assert len(saved) > 4
    assert all(torch.equal(weight, trained[name]) for name, weight in saved.items())


# the best epoch


def test_the_card_tells_the_epoch_that_was_kept(tmp_path, recipe):
    folder = tmp_path / "run"
    values = ["training.load_best_model_at_end=true", "training.eval_strategy=epoch", "data.validation_per_class=2"]
    values += ["data.name=fashion_mnist_lt", "training.metric_for_best_model=loss", "training.greater_is_better=true"]
    values += ["training.max_steps=4", "training.eval_strategy=steps", "training.eval_steps=2", "baseline=null"]
    values += ["training.save_strategy=steps", "training.save_steps=2"]
    values = [value for value in values if value not in ("baseline=null", "training.eval_strategy=epoch")]
    command = ["train", recipe, "--output-dir", str(folder)]
    assert cli.main([*command, *(word for value in values for word in ("--set", value))]) == 0
    kept = json.loads((folder / "results.json").read_text())["kept_epoch"]
    assert 0 < kept < 1
    assert f"of the checkpoint of epoch {kept:g}, the best on these very images" in (folder / "README.md").read_text()
