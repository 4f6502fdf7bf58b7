"""Every argument of transformers' Trainer: it acts, as a training of two steps shows, or it is refused by name."""

import dataclasses
import inspect

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from tailmoe.training import LongTailTrainingArguments
from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer.supported_arguments import ACTING, REFUSED, TRAINER_ACTING, TRAINER_REFUSED

ADAM = {"optim": "adamw_torch", "learning_rate": 0.01}
BEST = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "max_steps": -1,
    "num_train_epochs": 3,
    "learning_rate": 0.2,
}
CHOSEN = BEST | {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
CHANGE_THE_WEIGHTS = {  # argument: (another value, what must be set for it to act)
    "num_train_epochs": (2, {"max_steps": -1, "num_train_epochs": 1}),
    "max_steps": (3, {}),
    "per_device_train_batch_size": (8, {}),
    "gradient_accumulation_steps": (2, {}),
    "learning_rate": (0.01, {}),
    "lr_scheduler_type": ("constant", {}),
    "lr_scheduler_kwargs": ({"num_cycles": 2}, {}),
    "warmup_steps": (2, {}),
    "optim": ("adamw_torch", {}),
    "optim_args": ("momentum=0.5", {"optim": "rmsprop", "learning_rate": 0.01}),
    "adam_beta1": (0.5, ADAM),
    "adam_beta2": (0.5, ADAM),
    "adam_epsilon": (0.1, ADAM),
    "weight_decay": (0.1, {}),
    "max_grad_norm": (0.01, {}),
    "bf16": (True, {}),
    "seed": (1, {}),
    "data_seed": (1, {}),
    "dataloader_drop_last": (True, {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 100}),
    "load_best_model_at_end": (True, CHOSEN | {"load_best_model_at_end": False}),
    "metric_for_best_model": ("accuracy", CHOSEN),
    "greater_is_better": (False, CHOSEN),
}
NEED_PACKAGES = {"optim_target_modules"}  # of GaLore and APOLLO
LEAVE_THE_WEIGHTS = {
    "use_cpu": (True, {}),
    "dataloader_num_workers": (2, {}),
    "dataloader_pin_memory": (True, {}),
    "dataloader_persistent_workers": (True, {"dataloader_num_workers": 1}),
    "dataloader_prefetch_factor": (3, {"dataloader_num_workers": 1}),
}
SPAWN = ("spawn", {"dataloader_num_workers": 1})
WITHOUT_EFFECT = {
    "fp16": (True, "a GPU"),
    "optim_args": ("momentum=0.5", "an `optim` that has such"),
    "optim_target_modules": ("all-linear", "GaLore or APOLLO"),
    "adam_beta1": (0.5, "Adam's kind"),
    "adam_beta2": (0.5, "Adam's kind"),
    "adam_epsilon": (0.1, "Adam's kind"),
    "gradient_checkpointing_kwargs": ({"use_reentrant": False}, "`activation_checkpointing`"),
    "activation_checkpointing_kwargs": ({"use_reentrant": False}, "`activation_checkpointing`"),
    "fsdp_config": ({"min_num_params": 5}, "`fsdp: true`"),
    "dataloader_persistent_workers": (True, "`dataloader_num_workers`"),
    "dataloader_multiprocessing_context": ("spawn", "`dataloader_num_workers`"),
}
OTHER_VALUES = {
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "use_cache": True,
    "include_num_input_tokens_seen": "all",
    "length_column_name": "size",
    "train_sampling_strategy": "sequential",
    "average_tokens_across_devices": False,
    "auto_find_batch_size": True,
    "torch_compile": True,
    "torch_compile_backend": "eager",
    "torch_compile_mode": "default",
    "torch_empty_cache_steps": 1,
    "bf16_full_eval": True,
    "fp16_full_eval": True,
    "eval_do_concat_batches": False,
    "batch_eval_metrics": True,
    "eval_use_gather_object": True,
    "logging_nan_inf_filter": True,
    "debug": "underflow_overflow",
    "ignore_data_skip": True,
    "enable_jit_checkpoint": True,
    "accelerator_config": {"use_seedable_sampler": False},
    "parallelism_config": {"tp_size": 2},
    "deepspeed": "zero.json",
    "ddp_static_graph": True,
    "dataloader_in_order": False,
    "label_names": ["species"],
    "remove_unused_columns": True,
}


def test_the_tables_hold_every_argument_of_this_version_of_transformers_once():
    acting = [name for names in ACTING.values() for name in names]
    assert len(set(acting)) == len(acting)
    assert sorted([*acting, *REFUSED]) == sorted(field.name for field in dataclasses.fields(TrainingArguments))
    parameters = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    assert sorted([*TRAINER_ACTING, *TRAINER_REFUSED]) == sorted(parameters)


def test_each_argument_that_changes_the_weights_is_tried_below():
    assert set(CHANGE_THE_WEIGHTS) | NEED_PACKAGES == set(ACTING["change the weights"])
    assert set(OTHER_VALUES) == set(REFUSED)


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_an_argument_without_meaning_is_refused_with_what_to_do_instead(name, tmp_path):
    with pytest.raises(
        BadInputError, match=f"`{name}` must be .*{OTHER_VALUES[name]}".replace("{", ".").replace("[", ".")
    ):
        LongTailTrainingArguments(output_dir=str(tmp_path), **{name: OTHER_VALUES[name]})


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_an_argument_that_another_leaves_without_effect_is_refused(name, tmp_path):
    value, needed = WITHOUT_EFFECT[name]
    now_called = name.replace("gradient", "activation")
    with pytest.raises(BadInputError, match=f"`{now_called}` .* needs .*{needed}"):
        LongTailTrainingArguments(output_dir=str(tmp_path), **{name: value})


@pytest.mark.parametrize("given", ["speed=1", "eps=0.1, weight_decay=0.1"])
def test_an_option_of_an_optimizer_that_nobody_reads_is_refused(given, tmp_path):
    with pytest.raises(BadInputError, match=r"`optim_args` of rmsprop are momentum, .*, got (speed|weight_decay)="):
        LongTailTrainingArguments(output_dir=str(tmp_path), optim="rmsprop", optim_args=given)


def test_arguments_can_be_copied_and_made_anew_from_themselves(tmp_path):
    args = LongTailTrainingArguments(output_dir=str(tmp_path), learning_rate=0.3)
    assert dataclasses.replace(args, seed=3).learning_rate == 0.3


@pytest.fixture(scope="module")
def known():
    """Weights by the arguments that they were trained with."""
    return {}


@pytest.fixture
def weights(known, make_trainer, snnl):
    """What a training of two steps ends with."""

    def train(**changes):
        options = {"max_steps": 2, "save_strategy": "no", "warmup_steps": 0, "cutout_size": 0} | changes
        if str(options) not in known:
            trainer = make_trainer(snnl[0], **options)
            trainer.train()
            values = trainer.model.state_dict().values()
            known[str(options)] = torch.cat([value.flatten().float() for value in values])
        return known[str(options)]

    return train


@pytest.mark.parametrize("name", CHANGE_THE_WEIGHTS)
def test_each_argument_of_optimization_changes_the_weights(weights, name):
    value, needed = CHANGE_THE_WEIGHTS[name]
    assert not torch.equal(weights(**needed), weights(**needed | {name: value}))


@pytest.mark.parametrize(
    "name", [*LEAVE_THE_WEIGHTS, pytest.param("dataloader_multiprocessing_context", marks=pytest.mark.slow)]
)
def test_how_batches_are_read_leaves_the_weights_as_they_are(weights, name):
    value, needed = (LEAVE_THE_WEIGHTS | {"dataloader_multiprocessing_context": SPAWN})[name]
    assert torch.equal(weights(), weights(**needed | {name: value}))


@pytest.mark.parametrize("sampler", ["class_balanced", "square_root"])
def test_the_order_of_a_sampler_of_ours_follows_data_seed(weights, sampler):
    assert not torch.equal(weights(train_sampler=sampler), weights(train_sampler=sampler, data_seed=1))


@pytest.mark.parametrize("name", ["ece", "eval_ece"])
def test_a_smaller_calibration_error_is_better(name, tmp_path):
    args = LongTailTrainingArguments(output_dir=str(tmp_path), metric_for_best_model=name)
    assert args.greater_is_better is False


# the parameters of Trainer


@pytest.mark.parametrize("name", TRAINER_REFUSED)
def test_a_parameter_that_the_trainer_has_another_way_for_is_refused(make_trainer, icl, trainer_with, name):
    with pytest.raises(BadInputError, match=f"`{name}` is not for LongTailTrainer"):
        trainer_with(icl[0], **{name: lambda *_: None})


@pytest.fixture
def trainer_with(make_trainer, fashion, processor, tmp_path):
    from tailmoe.training import LongTailTrainer

    def make(model, objective=None, **parameters):
        args = LongTailTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=32,
            disable_tqdm=True,
            save_strategy="no",
        )
        images = {"train_dataset": fashion["train"], "eval_dataset": fashion["test"], "processing_class": processor}
        return LongTailTrainer(model, args, objective=objective, **images, **parameters)

    return make


def test_a_given_optimizer_and_a_given_class_of_optimizers_train(trainer_with, icl):
    model, _ = icl
    given = torch.optim.Adam(model.parameters(), lr=0.5)
    trainer = trainer_with(model, optimizers=(given, None))
    trainer.train()
    assert trainer.optimizer.optimizer is given
    assert given.param_groups[0]["initial_lr"] == 0.5
    trainer = trainer_with(model, optimizer_cls_and_kwargs=(torch.optim.Adagrad, {"lr": 0.2}))
    trainer.train()
    assert isinstance(trainer.optimizer.optimizer, torch.optim.Adagrad)


def test_a_given_optimizer_that_does_not_know_a_learned_temperature_is_refused(trainer_with, snnl):
    with pytest.raises(BadInputError, match="`optimizers` does not train the parameters of the objective"):
        trainer_with(*snnl, optimizers=(torch.optim.Adam(snnl[0].parameters()), None))
    trainer = trainer_with(*snnl, optimizer_cls_and_kwargs=(torch.optim.Adagrad, {"lr": 0.2}))
    before = snnl[1].log_temperature.item()
    trainer.train()
    assert trainer.objective.log_temperature.item() != before


def test_metrics_logits_and_callbacks_are_the_users(trainer_with, icl):
    class Count(TrainerCallback):
        steps = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.steps += 1

    trainer = trainer_with(
        icl[0],
        callbacks=[counter := Count()],
        compute_metrics=lambda prediction: {"width": prediction.predictions.shape[1]},
        preprocess_logits_for_metrics=lambda logits, labels: logits[:, :3],
    )
    trainer.train()
    assert counter.steps == 2
    assert trainer.evaluate()["eval_width"] == 3


def test_several_splits_and_splits_of_datasets_are_evaluated_and_predicted(trainer_with, icl, fashion):
    trainer = trainer_with(icl[0])
    expected = trainer.evaluate()
    assert trainer.evaluate(fashion["test"])["eval_accuracy"] == expected["eval_accuracy"]
    assert trainer.predict(fashion["test"]).metrics["test_loss"] == pytest.approx(expected["eval_loss"])
    several = trainer.evaluate({"same": fashion["test"], "seen": fashion["train"]})
    assert several["eval_same_accuracy"] == expected["eval_accuracy"]
    assert "eval_seen_accuracy" in several
