"""Arguments of `LongTailTrainer`."""

import logging
import os
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import TrainingArguments

from tailmoe.training.augmentation.transforms import BatchAugmentation
from tailmoe.training.data.samplers import POWERS
from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.objectives.class_weighted import check_class_weights
from tailmoe.training.recipes.shipped import DEFAULT_EPOCHS
from tailmoe.training.trainer.precision import fast_bfloat16
from tailmoe.training.trainer.supported_arguments import check_numbers, refuse_arguments, refuse_without_effect

logger = logging.getLogger(__name__)


@dataclass
class LongTailTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the defaults of ICL-MoE's CIFAR protocol, and what that protocol adds.

    All other arguments keep their meaning, or are refused by name, see `supported_arguments`. `optim="sgd"` is SGD with momentum and weight decay on every parameter.
    """

    # defaults that differ
    num_train_epochs: float = field(default=DEFAULT_EPOCHS, metadata={"help": "Passes over the training images."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Images per device and step."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Images per device and evaluation step."})
    optim: str = field(default="sgd", metadata={"help": "Optimizer; any name that transformers knows."})
    learning_rate: float = field(default=0.15, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=5e-4, metadata={"help": "Weight decay."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=0.025, metadata={"help": "Warm-up steps, or their share if below 1."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Gradient clipping; 0 for none."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, steps or epoch."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Batches are cut from memory already."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Off: losses that are not finite are errors."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: batches come whole."})
    bf16: bool | str = field(
        default=False,
        metadata={"help": "Train in bfloat16 where autocast does; auto: if the hardware is faster with it."},
    )
    # what the protocol adds
    train_sampler: str = field(
        default="shuffle",
        metadata={
            "help": "Order of training images: shuffle (each once an epoch), class_balanced, or square_root (classes as "
            "frequent as the roots of their counts), which draw with replacement. Balanced Softmax supposes shuffle."
        },
    )
    momentum: float = field(default=0.9, metadata={"help": "Momentum of SGD."})
    lr_milestones: list[float] | None = field(
        default=None,
        metadata={
            "help": "Shares of the run at which a constant_with_warmup learning rate is multiplied by lr_gamma."
        },
    )
    lr_gamma: float = field(default=0.1, metadata={"help": "Factor on the learning rate at each of lr_milestones."})
    decoupled_learning_rate: float = field(
        default=0.1, metadata={"help": "First learning rate of the objective's decoupled stage, if it has one."}
    )
    crop_padding: int = field(default=4, metadata={"help": "Random crop after this much zero padding; 0 for none."})
    min_crop_area: float = field(
        default=1.0,
        metadata={
            "help": "Random window, of this share of the area at least, resized to the image's size; 1 for none."
        },
    )
    horizontal_flip: bool = field(default=True, metadata={"help": "Flip every other image, at random."})
    auto_augment: bool = field(default=True, metadata={"help": "AutoAugment's CIFAR-10 policy."})
    cutout_size: int = field(default=16, metadata={"help": "Side of Cutout's square in pixels; 0 for none."})
    mixup_alpha: float = field(default=0.0, metadata={"help": "Mixup draws its weight from Beta(alpha, alpha)."})
    freeze_shared: bool = field(
        default=False, metadata={"help": "Train only what each expert has of its own, and its classifiers."}
    )
    class_weights: str | list[float] | None = field(
        default=None,
        metadata={
            "help": "Weights of the classes in cross-entropy, in place of an objective: balanced (inverse to their training "
            "images), or one for each."
        },
    )
    lora_rank: int = field(
        default=0, metadata={"help": "Rank of LoRA's changes to the shared part, which itself is frozen; 0 for none."}
    )
    image_memory_share: float = field(
        default=0.5,
        metadata={
            "help": "Share of the free memory that decoded images may take; larger splits are decoded as needed."
        },
    )
    many_above: int | None = field(
        default=None,
        metadata={"help": "Classes with more training images are many-shot (100, or terciles if none has more)."},
    )
    few_below: int | None = field(
        default=None, metadata={"help": "Classes with fewer training images are few-shot (20, or terciles)."}
    )
    on_bad_image: str = field(default="error", metadata={"help": "What to do with an unreadable image: error, skip."})

    def __post_init__(self):
        _check_launcher()
        if not torch.accelerator.is_available():
            self.use_cpu = True  # without it transformers refuses bfloat16 on a CPU, and sees one process alone
            if self.ddp_backend is None and os.environ.get("WORLD_SIZE", "1") != "1":
                self.ddp_backend = "gloo"
        self.precision_reason = ""
        if self.bf16 == "auto":
            self.bf16, self.precision_reason = fast_bfloat16(self.use_cpu)
        if not isinstance(self.bf16, bool):
            raise ValueError(f"`bf16` must be true, false or auto, got {self.bf16}.")
        refuse_arguments(self)
        if self.greater_is_better is None and self.metric_for_best_model in ("ece", "eval_ece"):
            self.greater_is_better = False  # transformers holds any metric but a loss to be better when it is greater
        super().__post_init__()
        refuse_without_effect(self)
        check_numbers(self)
        if self.train_sampler not in POWERS:
            raise ValueError(f'`train_sampler` must be one of {", ".join(POWERS)}, got "{self.train_sampler}".')
        check_class_weights(self.class_weights)
        _check_milestones(self.lr_milestones, self.lr_scheduler_type.value)
        if self.mixup_alpha < 0:
            raise ValueError(f"`mixup_alpha` must be at least 0, got {self.mixup_alpha}.")
        if self.lora_rank < 0:
            raise ValueError(f"`lora_rank` must be at least 0, got {self.lora_rank}.")
        if self.freeze_shared and self.lora_rank:
            raise ValueError("`freeze_shared` leaves no shared part to `lora_rank`: give one of them.")
        if not 0 <= self.image_memory_share <= 1:
            raise ValueError(f"`image_memory_share` must be in [0, 1], got {self.image_memory_share}.")
        if self.on_bad_image not in ("error", "skip"):
            raise ValueError(f'`on_bad_image` must be "error" or "skip", got "{self.on_bad_image}".')
        self.augmentation()  # for what it refuses

    def augmentation(self, fill: tuple[int, ...] | None = None) -> BatchAugmentation:
        """The augmentation of training images; `fill` as there."""
        return BatchAugmentation(
            crop_padding=self.crop_padding,
            min_crop_area=self.min_crop_area,
            horizontal_flip=self.horizontal_flip,
            auto_augment=self.auto_augment,
            cutout_size=self.cutout_size,
            fill=fill,
        )

    def adjust(self, name: str, value: object, reason: str) -> None:
        """Set an argument to what a Trainer needs; the log tells if it was another."""
        if getattr(self, name) != value:
            logger.info("`%s` is now %s: %s.", name, value, reason)
            setattr(self, name, value)

    def expect_stages(self, objective: nn.Module | None) -> None:
        """Let several processes look for parameters without a gradient where the decoupled stage of an objective has such."""
        if self.world_size > 1 and self.ddp_find_unused_parameters is None:
            decoupled = objective is not None and objective.decoupled_from() < 1
            reason = (
                f"{'a decoupled stage trains a part' if decoupled else 'each step trains the whole'} of the network"
            )
            self.adjust("ddp_find_unused_parameters", decoupled, reason)

    def shot_bounds(self, class_counts: list[int]) -> ShotBounds:
        """Which classes are many-, medium- and few-shot."""
        return ShotBounds.of(class_counts, self.many_above, self.few_below)

    @property
    def precision(self) -> str:
        """What the network computes in while it trains; losses, statistics and the weights themselves are float32."""
        return {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}[self.mixed_precision]


def _check_milestones(milestones: list[float] | None, scheduler: str) -> None:
    """Raise `ValueError` unless milestones are rising shares of a run, of a schedule that they have a meaning for."""
    if milestones is None:
        return
    if not isinstance(milestones, list) or not all(isinstance(each, float) and 0 < each < 1 for each in milestones):
        raise ValueError(f"`lr_milestones` must be shares of the run in (0, 1), such as [0.8, 0.9], got {milestones}.")
    if milestones != sorted(set(milestones)):
        raise ValueError(f"`lr_milestones` must rise, got {milestones}.")
    if scheduler != "constant_with_warmup":
        raise ValueError(f"`lr_milestones` are for `lr_scheduler_type` constant_with_warmup, got {scheduler}.")


def _check_launcher() -> None:
    """Raise `ValueError` where `accelerate launch --cpu --num_processes N` has set up N processes and started one."""
    several = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in os.environ
    if several and not {"RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"} & set(os.environ):
        raise ValueError("`accelerate launch --cpu` started one process alone: use torchrun for several on a CPU.")
