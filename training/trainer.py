"""The Hugging Face Trainer for long-tailed images: decoded once, augmented as whole batches, any objective."""

import math
import os
from collections import defaultdict

import datasets
import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import BaseImageProcessor, EvalPrediction, PreTrainedModel, Trainer
from transformers.trainer_utils import TrainOutput
from transformers.utils import ModelOutput

from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.augmentation import BatchAugmentation, mixup
from tailmoe.training.checkpoints import last_complete_checkpoint
from tailmoe.training.data import DecodedImages, class_counts
from tailmoe.training.errors import BadInputError, NonFiniteLossError
from tailmoe.training.evaluation import normalize, with_fast_layout
from tailmoe.training.metrics import classification_metrics

OBJECTIVE_NAME = "objective.safetensors"


class LongTailTrainer(Trainer):
    """Trains an image classifier on long-tailed images.

    Differs from `transformers.Trainer` in this: images of a `datasets.Dataset` (columns `image` and `label`) are
    decoded once, augmented on the device as whole batches, and seeded by step, so that a resumed run ends exactly as
    an uninterrupted one; an objective may replace the model's own loss; metrics tell many-, medium- and few-shot
    classes apart.

    Args:
        model: An image classification model, ours or any of transformers.
        args: The training arguments.
        train_dataset: A `datasets.Dataset` or `DecodedImages`; None to evaluate only.
        eval_dataset: Likewise.
        processing_class: The model's image processor.
        objective: A module such as `ICLObjective`; the model's own loss if None.
        **kwargs: Further arguments of `transformers.Trainer`.

    Raises:
        BadInputError: If labels do not fit the model, an image cannot be read, or a split is empty.
    """

    loss_is_scaled_for_ga = False  # every term is a mean over its batch

    def __init__(
        self,
        model: PreTrainedModel,
        args: LongTailTrainingArguments,
        train_dataset: datasets.Dataset | DecodedImages | None = None,
        eval_dataset: datasets.Dataset | DecodedImages | None = None,
        processing_class: BaseImageProcessor | None = None,
        objective: nn.Module | None = None,
        **kwargs,
    ):
        if processing_class is None:
            raise BadInputError("`processing_class` is missing: give the model's image processor.")
        train_dataset, eval_dataset = (
            DecodedImages.from_dataset(dataset, processing_class, args.on_bad_image, desc)
            if isinstance(dataset, datasets.Dataset)
            else dataset
            for dataset, desc in ((train_dataset, "Decoding train images"), (eval_dataset, "Decoding test images"))
        )
        self.class_counts = None if train_dataset is None else class_counts(train_dataset, model.config.num_labels)
        kwargs.setdefault("compute_metrics", self._compute_metrics)
        kwargs.setdefault("data_collator", _whole_batch)
        super().__init__(
            model=with_fast_layout(model),
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.objective = None if objective is None else objective.to(args.device)
        self.augmentation = BatchAugmentation(
            crop_padding=args.crop_padding,
            horizontal_flip=args.horizontal_flip,
            auto_augment=args.auto_augment,
            cutout_size=args.cutout_size,
            fill=tuple(round(255 * mean) for mean in processing_class.image_mean),
        )
        self._term_sums: dict[str, Tensor] = defaultdict(float)
        self._batches_summed = 0
        self._last_batch = (-1, 0)  # (global step, batches of it seen so far)

    @property
    def progress(self) -> float:
        """Share of the run done, in [0, 1]."""
        return self.state.global_step / max(self.state.max_steps, 1)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """As in transformers; `True` resumes from the last checkpoint written to its end, or starts without one."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
        return super().train(resume_from_checkpoint, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, object]:
        """The sum of the objective's terms in training; the model's own loss in evaluation."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        mixed_labels, weight = inputs.pop("mixed_labels", None), inputs.pop("weight", 1.0)
        outputs, terms = self._terms(model, inputs["pixel_values"], inputs["labels"])
        if mixed_labels is not None:
            _, mixed_terms = self._terms(model, inputs["pixel_values"], mixed_labels, outputs)
            terms = {name: weight * term + (1 - weight) * mixed_terms[name] for name, term in terms.items()}
        self._check_finite(terms)
        if self.objective is not None:
            self.objective.observe(outputs, inputs["labels"])
        for name, term in terms.items():
            self._term_sums[name] += term.detach()
        self._batches_summed += 1
        loss = sum(terms.values())
        return (loss, outputs) if return_outputs else loss

    def _terms(
        self, model: nn.Module, pixel_values: Tensor, labels: Tensor, outputs: ModelOutput | None = None
    ) -> tuple[ModelOutput, dict[str, Tensor]]:
        """Outputs and loss terms by name; an objective needs no second pass where `outputs` are known."""
        if self.objective is None:
            outputs = model(pixel_values=pixel_values, labels=labels)
            return outputs, {"model_loss": outputs.loss}
        progress = self.progress
        if outputs is None:
            if progress >= self.objective.last_stage_from():
                model.eval()  # frozen features: the statistics of batch normalisation stay as they are
            kwargs = {"output_hidden_states": True} if self.objective.uses_hidden_states else {}
            outputs = model(pixel_values=pixel_values, **kwargs)
        return outputs, self.objective(outputs, labels, progress)

    def _check_finite(self, terms: dict[str, Tensor]) -> None:
        bad = [f"`{name}` is {term.item()}" for name, term in terms.items() if not torch.isfinite(term)]
        if bad:
            raise NonFiniteLossError(
                f"Loss term {', '.join(bad)} at step {self.state.global_step + 1}; nothing was updated. Resume from "
                "the last checkpoint with a lower `learning_rate`, or with `max_grad_norm` above 0."
            )

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = super()._prepare_inputs(inputs)
        pixel_values = inputs["pixel_values"]
        if pixel_values.dtype != torch.uint8:
            return inputs
        if not self.model.training:
            return {**inputs, "pixel_values": normalize(pixel_values, self.processing_class)}
        generator = self._batch_generator()
        inputs["pixel_values"] = normalize(self.augmentation(pixel_values, generator), self.processing_class)
        if self.args.mixup_alpha > 0:
            mixed, permutation, weight = mixup(inputs["pixel_values"], self.args.mixup_alpha, generator)
            inputs |= {"pixel_values": mixed, "mixed_labels": inputs["labels"][permutation], "weight": weight}
        return inputs

    def _batch_generator(self) -> torch.Generator:
        """Random numbers of one batch: a function of seed, step, batch of the step and process, nothing else."""
        step, seen = self._last_batch
        seen = seen + 1 if step == self.state.global_step else 0
        self._last_batch = (self.state.global_step, seen)
        source = np.random.SeedSequence([self.args.seed, self.state.global_step, seen, self.args.process_index])
        return torch.Generator().manual_seed(int(source.generate_state(1, np.uint64)[0] >> 1))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """SGD as the papers use it, or any optimizer of transformers; the objective's parameters join it."""
        if self.optimizer is not None:
            return self.optimizer
        if self.args.optim == "sgd":
            parameters = [p for p in (model or self.model).parameters() if p.requires_grad]
            self.optimizer = torch.optim.SGD(
                parameters,
                lr=self.args.learning_rate,
                momentum=self.args.momentum,
                weight_decay=self.args.weight_decay,
            )
        else:
            super().create_optimizer(model)
        learned = [] if self.objective is None else list(self.objective.parameters())
        if learned:
            self.optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
            # the Trainer clears the gradients of the model alone
            self.optimizer.register_step_post_hook(lambda *_: self.objective.zero_grad())
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """As in transformers; an objective with a last stage gets a schedule of its own for that stage."""
        last_from = 1.0 if self.objective is None else self.objective.last_stage_from()
        if last_from >= 1 or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.args.lr_scheduler_type != "cosine":
            raise BadInputError(
                "`lr_scheduler_type` must be cosine with an objective that has a last stage, "
                f"got {self.args.lr_scheduler_type.value}."
            )
        warmup = self.args.get_warmup_steps(num_training_steps) / num_training_steps
        restart = self.args.last_stage_learning_rate / self.args.learning_rate

        def factor(step: int) -> float:
            progress = step / num_training_steps  # the very number that `compute_loss` compares
            if progress >= last_from:
                return restart * _cosine((progress - last_from) / (1 - last_from))
            if progress < warmup:
                return progress / warmup
            return _cosine((progress - warmup) / (last_from - warmup))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.objective is not None and self.args.should_save and self.objective.state_dict():
            safetensors.torch.save_file(self.objective.state_dict(), os.path.join(output_dir, OBJECTIVE_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.objective is not None and self.objective.state_dict():
            self.objective.load_state_dict(safetensors.torch.load_file(os.path.join(checkpoint, OBJECTIVE_NAME)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss term since the last log of the training loss."""
        if "loss" in logs and self._batches_summed:
            logs |= {name: float(total) / self._batches_summed for name, total in self._term_sums.items()}
            self._term_sums.clear()
            self._batches_summed = 0
        super().log(logs, start_time)

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        counts = self.class_counts or getattr(self.model.config, "class_counts", None)
        metrics = classification_metrics(logits, prediction.label_ids, counts)
        return {name: value for name, value in metrics.items() if isinstance(value, float)}


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _whole_batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch
