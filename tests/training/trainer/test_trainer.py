"""LongTailTrainer: objectives, schedules, augmentation, exact resume, and what it says of bad input."""

import json

import pytest
import safetensors.torch
import torch
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    TrainerCallback,
    ViTConfig,
    ViTForImageClassification,
)

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training import ICLObjective
from tailmoe.training.data import DecodedImages, class_counts
from tailmoe.training.data.normalization import Normalization
from tailmoe.training.errors import BadInputError, NonFiniteLossError
from tailmoe.training.trainer.checkpoints import fault_of, finish_checkpoint, last_complete_checkpoint


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_training_with_icl_learns_and_logs_every_term(make_trainer, icl):
    trainer = make_trainer(*icl, num_train_epochs=20)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert {"competition", "collaboration", "diversity"} <= set(logs[0])
    assert "contrast" in logs[13]
    assert set(logs[-1]) >= {"balance", "loss", "learning_rate"}
    assert "competition" not in logs[-1]
    assert logs[0]["loss"] == pytest.approx(sum(logs[0][t] for t in ("competition", "collaboration", "diversity")))
    assert logs[11]["competition"] < 0.5 * logs[0]["competition"]
    assert logs[19]["balance"] < logs[18]["balance"]


def test_training_with_snnl_trains_the_temperature_too(make_trainer, snnl):
    trainer = make_trainer(*snnl, num_train_epochs=2)
    trainer.train()
    assert trainer.objective.log_temperature != snnl[1].log_temperature
    assert trainer.objective.log_temperature.grad is None


def test_without_an_objective_the_models_own_loss_trains_also_a_model_of_transformers(make_trainer):
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=10
    )
    trainer = make_trainer(ResNetForImageClassification(config), num_train_epochs=2)
    trainer.train()
    assert "model_loss" in trainer.state.log_history[0]
    assert 0 <= trainer.evaluate()["eval_balanced_accuracy"] <= 1


@pytest.mark.parametrize("step", [3, 7, 19, 20])
@pytest.mark.parametrize("which", ["icl", "snnl"])
def test_a_run_stopped_at_any_step_ends_bit_identical_to_one_never_stopped(
    request, make_trainer, tmp_path, which, step, stop_at
):
    model, objective = request.getfixturevalue(which)
    options = {"mixup_alpha": 0.2, "auto_augment": True}
    whole = make_trainer(model, objective, output_dir=str(tmp_path / "whole"), **options)
    whole.train()
    assert whole.state.max_steps == 20
    stopped = make_trainer(model, objective, callbacks=[stop_at(step)], **options)
    stopped.train()
    assert stopped.state.global_step == step
    resumed = make_trainer(model, objective, **options)
    resumed.train(resume_from_checkpoint=True)
    assert_same_state(whole.model.state_dict(), resumed.model.state_dict())
    assert_same_state(whole.objective.state_dict(), resumed.objective.state_dict())


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(make_trainer, icl, tmp_path, caplog, stop_at):
    trainer = make_trainer(*icl, callbacks=[stop_at(7)], save_total_limit=None)
    trainer.train()
    run = tmp_path / "run"
    assert last_complete_checkpoint(run) == str(run / "checkpoint-7")
    state = run / "checkpoint-7" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    assert fault_of(run / "checkpoint-7") == "trainer_state.json is damaged"
    assert last_complete_checkpoint(run) == str(run / "checkpoint-5")
    assert "checkpoint-7" in caplog.text
    resumed = make_trainer(*icl)
    resumed.train(resume_from_checkpoint=True)
    whole = make_trainer(*icl, output_dir=str(tmp_path / "whole"))
    whole.train()
    assert_same_state(whole.model.state_dict(), resumed.model.state_dict())


def test_a_checkpoint_of_another_network_is_refused_and_stays(make_trainer, icl, stop_at, tmp_path):
    trainer = make_trainer(*icl, callbacks=[stop_at(3)])
    trainer.train()
    checkpoint = tmp_path / "run" / "checkpoint-3"
    weights = safetensors.torch.load_file(checkpoint / "model.safetensors")
    # the projections as they were called before they were mended
    weights = {name.replace("projection", "fusion"): value for name, value in weights.items()}
    safetensors.torch.save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    finish_checkpoint(checkpoint, trainer)
    with pytest.raises(
        BadInputError, match=r"checkpoint-3 holds the weights of another network.*\.projection\..*anew"
    ):
        make_trainer(*icl).train(resume_from_checkpoint=True)
    assert fault_of(checkpoint) is None


@pytest.fixture
def vit(fashion):
    """ICL-MoE on a backbone whose weights transformers saves under other names, and a model of transformers alone."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    shape |= {"image_size": 28, "patch_size": 7, "num_channels": 1}
    config = ICLMoEConfig(
        backbone_config={"model_type": "vit", **shape}, num_experts=2, num_labels=10, image_size=28, num_channels=1,
        class_counts=class_counts(fashion["train"], 10),
    )  # fmt: skip
    plain = ViTForImageClassification(ViTConfig(num_labels=10, **shape))
    return {"icl": (ICLMoEForImageClassification(config), ICLObjective(config)), "transformers": (plain, None)}


@pytest.mark.parametrize("which", ["icl", "transformers"])
def test_a_run_on_a_backbone_whose_weights_are_saved_under_other_names_resumes_and_chooses_its_best(
    make_trainer, vit, which, tmp_path, stop_at
):
    model, objective = vit[which]
    options = {"max_steps": 8, "learning_rate": 0.01}
    whole = make_trainer(model, objective, output_dir=str(tmp_path / "whole"), **options)
    whole.train()
    make_trainer(model, objective, callbacks=[stop_at(5)], **options).train()
    resumed = make_trainer(model, objective, **options)
    resumed.train(resume_from_checkpoint=True)
    assert_same_state(whole.model.state_dict(), resumed.model.state_dict())
    chosen = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
    chosen |= {"greater_is_better": False, "output_dir": str(tmp_path / "chosen")}
    first = make_trainer(model, objective, **options, **chosen)
    first.compute_metrics = lambda _: {"accuracy": float(first.state.global_step)}
    first.train()
    best = tmp_path / "chosen" / "checkpoint-5"
    assert first.state.best_model_checkpoint == str(best)
    assert_same_state(safetensors.torch.load_file(best / "model.safetensors"), dict(first.model.state_dict()))
    resumed.save_model(tmp_path / "saved")
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
    assert_same_state(loaded.state_dict(), resumed.model.state_dict())


def test_the_last_stage_has_its_own_schedule_and_leaves_the_features_as_they_are(make_trainer, icl, stop_at):
    trainer = make_trainer(*icl, callbacks=[stop_at(18)], save_total_limit=None)
    trainer.train()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    resumed = make_trainer(*icl)
    resumed.train(resume_from_checkpoint=True)
    changed = {name for name, value in resumed.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"balanced_classifier.weight"}


@pytest.mark.parametrize(("kind", "options", "tau"), [("icl", {}, 1.0), ("snnl", {}, 0.0), ("snnl", None, None)])
def test_a_trained_model_tells_which_class_frequencies_its_logits_assume(
    request, make_trainer, kind, options, tau, caplog
):
    model, objective = request.getfixturevalue(kind)
    model.config.training_logit_adjustment = 0.5  # of an earlier training
    trainer = make_trainer(model, None if options is None else objective)
    assert trainer.model.config.training_logit_adjustment == tau
    assert f"`training_logit_adjustment` of the model's configuration was 0.5, now it is {tau}" in caplog.text


def test_a_trainer_that_only_evaluates_leaves_the_configuration_as_it_is(make_trainer, icl):
    model, objective = icl
    model.config.training_logit_adjustment = 0.5
    before = model.config.to_dict()
    make_trainer(model, objective, max_steps=1).train()  # leaves a checkpoint
    trainer = make_trainer(model, objective, train=None)
    assert trainer.model.config.to_dict() == before | {"use_cache": False}  # by transformers
    assert trainer.evaluate()["eval_loss"] > 0
    with pytest.raises(BadInputError, match="`train_dataset` is missing"):
        trainer.train(resume_from_checkpoint=True)


def test_arguments_that_become_others_are_told(make_trainer, icl, caplog):
    with caplog.at_level("INFO"):
        trainer = make_trainer(*icl, image_memory_share=0.0)
    workers = trainer.args.dataloader_num_workers
    assert workers > 0
    assert f"`dataloader_num_workers` is now {workers}: images are decoded by batch." in caplog.text


def test_a_label_prior_changes_nothing_in_training(make_trainer, icl):
    model, objective = icl
    assert objective.decoupled_from() < 1, "the decoupled stage is in evaluation mode"
    weights = []
    for prior in (None, [1] * 9 + [100]):
        model.set_label_prior(prior)
        trainer = make_trainer(model, objective, num_train_epochs=1)
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_learning_rates_warm_up_fall_to_zero_and_restart_for_the_last_stage(make_trainer, icl):
    trainer = make_trainer(*icl, warmup_steps=2, learning_rate=0.2, decoupled_learning_rate=0.1)
    trainer.create_optimizer()
    scheduler = trainer.create_scheduler(20)
    rates = []
    for _ in range(20):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        scheduler.step()
    assert rates[:3] == pytest.approx([0.0, 0.1, 0.2])
    assert rates[2:18] == sorted(rates[2:18], reverse=True)
    assert rates[17] < 0.005
    assert rates[18] == pytest.approx(0.1)
    assert rates[19] == pytest.approx(0.05)


def test_gradient_accumulation_takes_the_mean_of_the_batches(make_trainer, icl):
    def first_gradient(**changes):
        gradients = {}

        class Watch(TrainerCallback):
            def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
                gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
                control.should_training_stop = True

        model = icl[0]
        trainer = make_trainer(
            model, ICLObjective(model.config, competition="sample"), [Watch()], cutout_size=0, crop_padding=0,
            horizontal_flip=False, save_strategy="no", **changes,
        )  # fmt: skip
        trainer.model.train = lambda mode=True: trainer.model  # batch statistics differ between batch sizes
        for module in trainer.model.modules():
            module.training = False
        trainer.model.training = True
        trainer.train()
        return gradients

    whole = first_gradient(per_device_train_batch_size=32)
    parts = first_gradient(per_device_train_batch_size=8, gradient_accumulation_steps=4)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-5)


def test_sgd_decays_every_parameter_and_has_the_papers_momentum(make_trainer, icl):
    optimizer = make_trainer(*icl).create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], len(group["params"])) == (
        0.9,
        5e-4,
        len(list(icl[0].parameters())),
    )


def test_a_wide_network_is_laid_out_channels_last(make_trainer):
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10
    )
    model = make_trainer(ResNetForImageClassification(config)).model
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in model.parameters() if w.dim() == 4)


def test_another_optimizer_of_transformers_can_be_asked_for(make_trainer, snnl):
    trainer = make_trainer(*snnl, optim="adamw_torch", learning_rate=1e-3, num_train_epochs=1)
    trainer.train()
    assert type(trainer.optimizer.optimizer).__name__ == "AdamW"
    assert trainer.objective.log_temperature != snnl[1].log_temperature


def test_evaluation_sees_the_pixels_that_the_image_processor_makes(fashion, processor):
    decoded = DecodedImages.from_dataset(fashion["test"], processor)
    expected = processor(fashion["test"][:5]["image"], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Normalization(processor)(decoded.pixel_values[:5]), expected.float())


def test_augmentation_differs_between_steps_and_repeats_with_the_seed(make_trainer, icl):
    def batches(seed):
        trainer = make_trainer(*icl, seed=seed)
        images = trainer.train_dataset
        source = iter([{"pixel_values": images.pixel_values[:8], "labels": images.labels[:8]}] * 2)
        return [trainer.batches.take(source, 1, step)[0]["pixel_values"] for step in range(2)]

    first, second = batches(0)
    assert not torch.equal(first, second)
    again, _ = batches(0)
    assert torch.equal(first, again)
    assert not torch.equal(first, batches(1)[0])


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_term_and_step(make_trainer, icl, tmp_path):
    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 6:
                with torch.no_grad():
                    model.classifier.weight.fill_(float("nan"))

    trainer = make_trainer(*icl, callbacks=[Poison()])
    with pytest.raises(NonFiniteLossError, match=r"`competition` is nan.* found at step 7") as error:
        trainer.train()
    assert "\n" not in str(error.value)
    assert trainer.state.global_step == 6
    checkpoint = last_complete_checkpoint(tmp_path / "run")
    assert checkpoint.endswith("checkpoint-5")
    assert json.loads((tmp_path / "run/checkpoint-5/trainer_state.json").read_text())["global_step"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_bad_image": "ignore"}, '`on_bad_image` must be "error" or "skip", got "ignore"'),
        ({"mixup_alpha": -1.0}, "`mixup_alpha` must be at least 0, got -1.0"),
        ({"remove_unused_columns": True}, "`remove_unused_columns` must be False"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(make_trainer, icl, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(*icl, **changes)


def test_a_label_beyond_the_models_is_an_error_that_names_it(make_trainer, icl):
    icl[0].config.id2label = {0: "a", 1: "b"}
    with pytest.raises(BadInputError, match="Label 9 is out of range: there are 2 classes"):
        make_trainer(*icl)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_scheduler_type": "linear"}, "`lr_scheduler_type` must be cosine"),
        ({"lr_scheduler_kwargs": {"num_cycles": 2}}, "`lr_scheduler_kwargs` must be left out"),
    ],
)
def test_a_schedule_other_than_cosine_cannot_have_a_last_stage(make_trainer, icl, changes, message):
    trainer = make_trainer(*icl, **changes)
    with pytest.raises(BadInputError, match=message):
        trainer.train()


def test_the_learning_rate_falls_at_each_milestone_after_the_warm_up(make_trainer, icl):
    model, _ = icl
    options = {"lr_scheduler_type": "constant_with_warmup", "lr_milestones": [0.5, 0.8], "lr_gamma": 0.1}
    trainer = make_trainer(model, learning_rate=1.0, warmup_steps=2, max_steps=10, **options)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    rates = []
    for _ in range(10):
        rates += trainer.lr_scheduler.get_last_lr()
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("milestones", "scheduler", "message"),
    [
        ([0.5, 2.0], "constant_with_warmup", r"shares of the run in \(0, 1\), such as \[0.8, 0.9\], got \[0.5, 2.0\]"),
        ([160, 180], "constant_with_warmup", r"shares of the run in \(0, 1\).*got \[160, 180\]"),
        (0.5, "constant_with_warmup", "got 0.5"),
        ([0.9, 0.8], "constant_with_warmup", r"must rise, got \[0.9, 0.8\]"),
        ([0.8, 0.9], "cosine", "for `lr_scheduler_type` constant_with_warmup, got cosine"),
    ],
)
def test_milestones_that_make_no_sense_are_refused(make_trainer, icl, milestones, scheduler, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(icl[0], lr_milestones=milestones, lr_scheduler_type=scheduler)
