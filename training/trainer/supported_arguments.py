"""What `LongTailTrainer` does with each argument of transformers' Trainer: it acts, or it is refused by name.

A test compares the tables with the fields of `transformers.TrainingArguments` and with the parameters of
`transformers.Trainer`, and tries what they say.
"""

import math
import os

from torch import nn
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.training_args import trainer_log_levels

from tailmoe.training.errors import BadInputError

ACTING: dict[str, tuple[str, ...]] = {
    "change the weights": (
        *("num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
        *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        *("optim", "optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon"),
        *("weight_decay", "max_grad_norm", "bf16", "seed", "data_seed", "dataloader_drop_last"),
        *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    ),
    "change the weights by rounding, on some devices": ("fp16", "tf32", "full_determinism"),
    "leave the weights: where and how steps are computed": (
        *("use_cpu", "activation_checkpointing", "activation_checkpointing_kwargs"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
        *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_backend", "ddp_timeout"),
        *("fsdp", "fsdp_config"),
    ),
    "evaluation": (
        *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size"),
        *("prediction_loss_only", "eval_accumulation_steps", "include_for_metrics"),
    ),
    "logs": (
        *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node"),
        *("log_level", "log_level_replica", "disable_tqdm", "skip_memory_metrics", "report_to", "run_name", "project"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    ),
    "checkpoints": (
        *("output_dir", "save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node"),
        "restore_callback_states_from_checkpoint",
    ),
    "the Hub": (
        *("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push"),
        "hub_revision",
    ),
    "a user's own script, which alone reads them": (
        *("do_train", "do_eval", "do_predict", "resume_from_checkpoint", "local_rank"),
    ),
}
# without meaning in a recipe, which is no script and pushes nothing
NOT_OF_A_RECIPE = (*ACTING["the Hub"], *ACTING["a user's own script, which alone reads them"])

WHOLE_BATCHES = "images come as whole batches"
OF_LANGUAGE = "it is of language models"
REFUSED: dict[str, str] = {  # argument: what to do instead
    "label_smoothing_factor": "the objectives have no such term; `mixup_alpha` softens labels",
    "neftune_noise_alpha": "it is noise on the embeddings of words; `mixup_alpha` and `cutout_size` disturb images",
    "use_liger_kernel": OF_LANGUAGE,
    "liger_kernel_config": OF_LANGUAGE,
    "use_cache": OF_LANGUAGE,
    "include_num_input_tokens_seen": OF_LANGUAGE,
    "length_column_name": OF_LANGUAGE,
    "train_sampling_strategy": "`train_sampler` chooses the order of images",
    "average_tokens_across_devices": "a loss is a mean over images, of all processes alike",
    "auto_find_batch_size": "the result would depend on the memory: give `per_device_train_batch_size`",
    "torch_compile_backend": "on a GPU steps are recorded as CUDA graphs instead, a CPU gains nothing",
    "torch_compile_mode": "on a GPU steps are recorded as CUDA graphs instead, a CPU gains nothing",
    "torch_compile": "on a GPU steps are recorded as CUDA graphs instead, a CPU gains nothing",
    "torch_empty_cache_steps": "steps keep their memory: a smaller `per_device_train_batch_size` needs less",
    "bf16_full_eval": "evaluation leaves the weights as they are: `bf16` computes it in bfloat16",
    "fp16_full_eval": "evaluation leaves the weights as they are: `bf16` computes it in bfloat16",
    "eval_do_concat_batches": "metrics are of a whole split",
    "batch_eval_metrics": "metrics are of a whole split",
    "eval_use_gather_object": "outputs are tensors",
    "logging_nan_inf_filter": "a loss that is not finite is an error",
    "debug": "a loss that is not finite is an error that names the term",
    "ignore_data_skip": "a resumed run sees the images that an uninterrupted one would",
    "enable_jit_checkpoint": "`tailmoe train` saves on SIGTERM; elsewhere give `callbacks=[StopOnSignal()]`",
    "accelerator_config": "the order of images and their augmentation count on accelerate's defaults",
    "parallelism_config": "`fsdp` is the way to spread a model",
    "deepspeed": "`fsdp` is the way to spread a model",
    "ddp_static_graph": "the terms of a loss change during training",
    "dataloader_in_order": "batches that come in any order cannot be repeated",
    "label_names": "the column is called `label`: `rename_column` makes it one",
    "remove_unused_columns": WHOLE_BATCHES,
}
WITHOUT_OPTIM_ARGS = ("sgd", "adamw_torch", "adamw_torch_fused", "adafactor", "lomo", "adalomo")
# what transformers reads of `optim_args`; it passes over others, and `weight_decay` is an argument of its own
OPTIM_ARGS = {"adagrad": ("lr_decay", "eps"), "rmsprop": ("momentum", "alpha", "eps", "centered")}
ADAMS_KIND = ("adam", "ademamix", "lion")
LEAST: dict[int, tuple[str, ...]] = {  # of whole numbers
    -1: ("max_steps",),
    0: ("dataloader_num_workers", "data_seed"),
    1: (
        *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
        *("dataloader_prefetch_factor", "save_total_limit"),
    ),
}

TRAINER_ACTING = (
    *("model", "args", "train_dataset", "eval_dataset", "processing_class", "callbacks", "compute_metrics"),
    *("preprocess_logits_for_metrics", "optimizers", "optimizer_cls_and_kwargs", "data_collator", "model_init"),
)
TRAINER_REFUSED = {
    "compute_loss_func": "`objective`, a subclass of `Objective`, is the loss",
}


def refuse_arguments(args: TrainingArguments) -> None:
    """Raise `BadInputError` for an argument that would change nothing, before transformers derives others of them."""
    fields = args.__dataclass_fields__
    if args.ddp_backend is not None and os.environ.get("WORLD_SIZE", "1") == "1":
        raise BadInputError(f"`ddp_backend` {args.ddp_backend} connects several processes, there is one: start more.")
    for name, remedy in REFUSED.items():
        value, default = getattr(args, name), fields[name].default
        if value == default or (not value and not default) or value == AcceleratorConfig():
            continue
        allowed = "left out" if default in (None, "") else default
        raise BadInputError(f"`{name}` must be {allowed}, got {value}: {remedy}.")


def refuse_without_effect(args: TrainingArguments) -> None:
    """Raise `BadInputError` for an argument that another one leaves without effect."""
    changed = {name for name, field in args.__dataclass_fields__.items() if getattr(args, name) != field.default}
    optimizer = str(args.optim.value)
    needs = {
        "fp16": ("a GPU: on a CPU `bf16` is the short format", args.device.type != "cpu"),
        "momentum": ("`optim: sgd`", optimizer == "sgd"),
        "optim_args": ("an `optim` that has such", optimizer not in WITHOUT_OPTIM_ARGS),
        "optim_target_modules": ("`optim` of GaLore or APOLLO", optimizer.startswith(("galore", "apollo"))),
        **dict.fromkeys(
            ("adam_beta1", "adam_beta2", "adam_epsilon"),
            ("`optim` of Adam's kind, such as adamw_torch", any(kind in optimizer for kind in ADAMS_KIND)),
        ),
        **dict.fromkeys(
            ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"),
            ("`activation_checkpointing`", bool(args.activation_checkpointing)),
        ),
        "fsdp_config": ("`fsdp: true`", bool(args.fsdp)),
        **dict.fromkeys(
            ("dataloader_persistent_workers", "dataloader_multiprocessing_context"),
            ("`dataloader_num_workers` above 0", args.dataloader_num_workers > 0),
        ),
    }
    for name, (condition, holds) in needs.items():
        if name in changed and not holds:
            raise BadInputError(f"`{name}` {getattr(args, name)} needs {condition}; leave it out otherwise.")
    for name in (args.optim_args or "").replace(" ", "").split(",") if optimizer in OPTIM_ARGS else ():
        if name and name.partition("=")[0] not in OPTIM_ARGS[optimizer]:
            raise BadInputError(f"`optim_args` of {optimizer} are {', '.join(OPTIM_ARGS[optimizer])}, got {name}.")


def refuse_trainer_arguments(
    model: PreTrainedModel | None,
    args: TrainingArguments | None,
    processing_class: object,
    objective: nn.Module | None,
    given: dict,
) -> None:
    """Raise `BadInputError` for a parameter of `LongTailTrainer` that is missing, or that there is another way for."""
    for name, remedy in TRAINER_REFUSED.items():
        if given.get(name) is not None:
            raise BadInputError(f"`{name}` is not for LongTailTrainer: {remedy}.")
    if processing_class is None:
        raise BadInputError("`processing_class` is missing: give the model's image processor.")
    if args is None:
        raise BadInputError("`args` are missing: give `LongTailTrainingArguments`.")
    if (model is None) == (given["model_init"] is None):
        raise BadInputError("Give either `model` or `model_init`.")
    if objective is not None and args.class_weights is not None:
        raise BadInputError("`class_weights` are of cross-entropy, and `objective` is another loss: give one of them.")
    optimizer, _ = given.get("optimizers") or (None, None)
    if optimizer is not None and model is None:
        raise BadInputError(
            "`optimizers` are of one model, `model_init` makes others: give `optimizer_cls_and_kwargs`."
        )
    if optimizer is not None and objective is not None and any(True for _ in objective.parameters()):
        raise BadInputError(
            "`optimizers` does not train the parameters of the objective: give `optimizer_cls_and_kwargs` instead."
        )


def refuse_for_model(model: PreTrainedModel, args: TrainingArguments) -> None:
    """Raise `BadInputError` for an argument that a model cannot follow."""
    if args.activation_checkpointing and not model.supports_gradient_checkpointing:
        kind = getattr(
            getattr(model.config, "backbone_config", None) or model.config, "model_type", type(model).__name__
        )
        raise BadInputError(f"`gradient_checkpointing` is not offered by transformers' {kind}: leave it out.")


def check_numbers(args: TrainingArguments) -> None:
    """Raise `BadInputError` for a value that transformers takes and torch, or nobody, refuses later."""
    for minimum, names in LEAST.items():
        for name in names:
            value = getattr(args, name)
            if value is not None and (type(value) is not int or value < minimum):
                raise BadInputError(f"`{name}` must be a whole number of at least {minimum}, got {value}.")
    for name in ("max_grad_norm", "weight_decay"):
        if not getattr(args, name) >= 0:
            raise BadInputError(f"`{name}` must be at least 0, got {getattr(args, name)}.")
    if not 0 < args.learning_rate < math.inf:
        raise BadInputError(f"`learning_rate` must be above 0, got {args.learning_rate}.")
    if args.max_steps == 0 or (args.max_steps < 0 and not args.num_train_epochs > 0):
        raise BadInputError(
            "`num_train_epochs` must be above 0, and so must `max_steps` where it is given, got "
            f"{args.num_train_epochs} and {args.max_steps}."
        )
    for event in ("eval", "save", "logging"):
        steps = getattr(args, f"{event}_steps")
        if getattr(args, f"{event}_strategy") == "steps" and not steps > 0:
            raise BadInputError(f"`{event}_steps` must be above 0 with `{event}_strategy` steps, got {steps}.")
    for name in ("log_level", "log_level_replica"):
        if getattr(args, name) not in trainer_log_levels:
            raise BadInputError(f"`{name}` must be one of {', '.join(trainer_log_levels)}, got {getattr(args, name)}.")
