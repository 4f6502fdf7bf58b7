"""The Hugging Face Trainer for long-tailed images: decoded once, augmented as whole batches, any objective."""

import logging
from collections.abc import Iterator

import datasets
import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import BaseImageProcessor, PreTrainedModel
from transformers.trainer_utils import TrainOutput
from transformers.utils import ModelOutput

from tailmoe.modeling.modeling_tailmoe import TailMoEPreTrainedModel
from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.augmented_batches import AugmentedBatches
from tailmoe.training.data import DecodedImages, EncodedImages, class_counts
from tailmoe.training.data.encoded_images import place_images
from tailmoe.training.data.images import whole_batch
from tailmoe.training.data.samplers import check_batches, lone_images, make_sampler
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluating_trainer import EvaluatingTrainer, check_skipping, loaded
from tailmoe.training.faults import naming_single_values
from tailmoe.training.hub_trainer import name_of_data
from tailmoe.training.inference import with_fast_layout
from tailmoe.training.objectives.processes import average_gradients
from tailmoe.training.optimization import papers_scheduler, papers_sgd
from tailmoe.training.sharding import asks_for_sharding, check_sharding
from tailmoe.training.step_graphs import StepGraphs, can_record, tensor_learning_rates
from tailmoe.training.supported_arguments import refuse_trainer_arguments
from tailmoe.training.term_sums import TermSums
from tailmoe.training.training_classes import label_names, set_class_counts, set_label_names

logger = logging.getLogger(__name__)
OBJECTIVE_NAME = "objective.safetensors"
STEPS_UNREAD = 50  # between two looks at an accelerator's loss, each of which waits for the device


class LongTailTrainer(EvaluatingTrainer):
    """Trains an image classifier on long-tailed images.

    Differs from `transformers.Trainer` in this: images of a `datasets.Dataset` (columns `image` and `label`) are
    decoded once if they fit in memory, augmented on the device as whole batches, and seeded by step, so that a resumed
    run ends exactly as an uninterrupted one; an objective may replace the model's own loss; metrics tell many-, medium-
    and few-shot classes apart; on a CUDA device the whole step is recorded as a CUDA graph where possible; what it pushes
    to the Hub has our card, see `HubTrainer`; its checkpoints are whole, see `SafeTrainer`, and
    several processes evaluate every image once, see `EvaluatingTrainer`.

    Args:
        model: An image classification model, ours or any of transformers.
        args: The training arguments.
        train_dataset: A `datasets.Dataset`, `DecodedImages` or `EncodedImages`; None to evaluate only.
        eval_dataset: Likewise, or a dict of such splits; `evaluate` and `predict` take them too.
        processing_class: The model's image processor.
        objective: A module with the methods of `Objective`; the model's own loss if None.
        **kwargs: Further arguments of `transformers.Trainer`; which act is told in `supported_arguments`.

    The class counts of the training split become those of the model's configuration and of the objective, and the class
    names of a `datasets.Dataset` those of a model that has none of its own, or that was loaded; the log tells what they
    replaced.

    Raises:
        BadInputError: If labels do not fit the model, an image cannot be read, a split is empty, or an argument would
            have no effect.
    """

    loss_is_scaled_for_ga = False  # every term is a mean over its batch

    def __init__(
        self,
        model: PreTrainedModel,
        args: LongTailTrainingArguments,
        train_dataset: datasets.Dataset | DecodedImages | EncodedImages | None = None,
        eval_dataset: datasets.Dataset | DecodedImages | EncodedImages | dict | None = None,
        processing_class: BaseImageProcessor | None = None,
        objective: nn.Module | None = None,
        **kwargs,
    ):
        refuse_trainer_arguments(kwargs, objective)
        if processing_class is None:
            raise BadInputError("`processing_class` is missing: give the model's image processor.")
        if args.gradient_checkpointing and not model.supports_gradient_checkpointing:
            raise BadInputError("`gradient_checkpointing` is for models on a backbone of transformers that offers it.")
        self.data_name, names = name_of_data(train_dataset), label_names(train_dataset)
        train_dataset = loaded(train_dataset, processing_class, args, "Decoding train images")
        eval_dataset = loaded(eval_dataset, processing_class, args, "Decoding test images")
        check_skipping(train_dataset, args)
        if (
            args.world_size > 1 and args.ddp_find_unused_parameters is None
        ):  # the heads of a last stage, or all but them
            args.ddp_find_unused_parameters = objective is not None and objective.last_stage_from() < 1
        self.class_counts = None
        if train_dataset is not None:
            self.class_counts = class_counts(train_dataset, model.config.num_labels)
            set_class_counts(model, objective, self.class_counts)
            set_label_names(model.config, names)
        kwargs.setdefault("compute_metrics", self._compute_metrics)
        super().__init__(
            data_collator=whole_batch,
            model=model if asks_for_sharding(args) else with_fast_layout(model),  # FSDP wants rows in their order
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        check_sharding(self, objective)
        self.check_best_metric()
        self._uses_papers_sgd = (
            args.optim == "sgd" and self.optimizer is None and self.optimizer_cls_and_kwargs is None
        )
        self.train_dataset = place_images(self.train_dataset, args)
        self.objective = None if objective is None else objective.to(args.device)
        if isinstance(model, TailMoEPreTrainedModel):
            tau = None if objective is None else objective.training_logit_adjustment
            model.config.training_logit_adjustment = tau
        self._batches = AugmentedBatches.of_arguments(args, processing_class)
        self._graphs: StepGraphs | None = None
        self._term_sums = TermSums()

    def _get_train_sampler(self, train_dataset: torch.utils.data.Dataset | None = None) -> Sampler | None:
        """One that shuffles, or shows rare classes more often, or reads streamed images in blocks."""
        images = self.train_dataset if train_dataset is None else train_dataset
        return make_sampler(images, self.args, left_out=lone_images(len(images), self.args, self.model))

    def get_train_dataloader(self) -> DataLoader:
        """As in transformers; raises `BadInputError` if there is no whole batch, and others are dropped."""
        loader = super().get_train_dataloader()
        check_batches(loader, self.args)
        return loader

    @property
    def progress(self) -> float:
        """Share of the run done, in [0, 1]."""
        return self.state.global_step / max(self.state.max_steps, 1)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """As `SafeTrainer.train`."""
        self._term_sums = TermSums()
        recorded = can_record(self.args)
        if recorded and not self._uses_papers_sgd:
            logger.info("Training without CUDA graphs: the optimizer was given.")
            recorded = False
        self._graphs = StepGraphs(self._whole_step, self.args.device) if recorded else None
        with naming_single_values():
            output = super().train(resume_from_checkpoint, **kwargs)
        self.share_statistics()
        return output

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """As in transformers; with CUDA graphs the step updates the parameters itself and leaves no gradient."""
        if self._graphs is None:
            return super().training_step(model, inputs, num_items_in_batch)
        rates = {f"learning_rate_{i}": group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
        active = self._begin_step(model)
        loss = self._graphs({**inputs, **rates, "progress": self.progress}, active)
        self._count_terms(active)
        return loss

    def _whole_step(self, inputs: dict[str, Tensor], active: tuple[str, ...]) -> Tensor:
        """Everything from the pixels to the update, for inputs on the device: what a CUDA graph records."""
        rates = [inputs.pop(f"learning_rate_{i}") for i in range(len(self.optimizer.param_groups))]
        progress = inputs.pop("progress")
        self._clear_gradients()
        with self.compute_loss_context_manager():
            loss, _ = self._training_loss(self.model_wrapped, self._prepare_inputs(inputs), progress, active)
        loss.backward()
        with tensor_learning_rates(self.optimizer.param_groups, rates):
            self.optimizer.optimizer.step()
        self._clear_gradients()  # the Trainer's own update then finds none and changes nothing
        return loss.detach()

    def _clear_gradients(self) -> None:
        self.model_wrapped.zero_grad()
        if self.objective is not None:
            self.objective.zero_grad()

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
        active = self._begin_step(model)
        loss, outputs = self._training_loss(model, inputs, self.progress, active)
        self._count_terms(active)
        return (loss, outputs) if return_outputs else loss

    def _begin_step(self, model: nn.Module) -> tuple[str, ...]:
        """The terms that act; frozen features of a last stage keep the statistics of batch normalisation, too."""
        if model.training != (self.objective is None or self.progress < self.objective.last_stage_from()):
            model.train(not model.training)
        return ("model_loss",) if self.objective is None else self.objective.active_terms(self.progress)

    def _training_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], progress: float | Tensor, active: tuple[str, ...]
    ) -> tuple[Tensor, ModelOutput]:
        """Loss and outputs; adds the terms to their sums and lets the objective observe. Waits for no device."""
        pixel_values, labels = inputs["pixel_values"], inputs["labels"]
        outputs, terms = self._terms(model, pixel_values, labels, progress, active)
        if "mixed_labels" in inputs:
            weight = inputs["weight"]
            _, mixed_terms = self._terms(model, pixel_values, inputs["mixed_labels"], progress, active, outputs)
            terms = {name: weight * term + (1 - weight) * mixed_terms[name] for name, term in terms.items()}
        if self.objective is not None:
            self.objective.observe(outputs, labels)
        self._term_sums.add(terms)
        return sum(terms.values()), outputs

    def _terms(
        self,
        model: nn.Module,
        pixel_values: Tensor,
        labels: Tensor,
        progress: float | Tensor,
        active: tuple[str, ...],
        outputs: ModelOutput | None = None,
    ) -> tuple[ModelOutput, dict[str, Tensor]]:
        """Outputs and loss terms by name; an objective needs no second pass where `outputs` are known."""
        if self.objective is None:
            outputs = model(pixel_values=pixel_values, labels=labels)
            return outputs, {"model_loss": outputs.loss}
        if outputs is None:
            outputs = model(pixel_values=pixel_values, **self.objective.model_options)
        return outputs, self.objective(outputs, labels, progress, active)

    def _count_terms(self, active: tuple[str, ...]) -> None:
        self._term_sums.count(active)
        if self.args.device.type == "cpu" or self.state.global_step % STEPS_UNREAD == 0:
            self._term_sums.check_finite(self.state.global_step + 1)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """As in transformers, augmented."""
        batches = self._batches.take(epoch_iterator, num_batches, self.state.global_step)
        return batches, self._get_num_items_in_batch(batches, device)

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._batches.finish(super()._prepare_inputs(inputs))

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        """The norm that clipping computed; none is computed for the log alone."""
        return grad_norm

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        """Not counted: transformers' estimate, six operations for each parameter and token, is not of convolutions."""
        return 0

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """SGD as the papers use it, or any optimizer of transformers; the objective's parameters join it."""
        if self.optimizer is not None:
            return self.optimizer
        if self._uses_papers_sgd:
            self.optimizer = papers_sgd(model or self.model, self.args, fused=not self.is_fsdp_enabled)
        else:
            super().create_optimizer(model)
        learned = [] if self.objective is None else list(self.objective.parameters())
        if learned:
            self.optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
            # the Trainer clears, and averages over processes, the gradients of the model alone
            self.optimizer.register_step_pre_hook(lambda *_: average_gradients(self.objective))
            self.optimizer.register_step_post_hook(lambda *_: self.objective.zero_grad())
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """As in transformers, or with `lr_milestones`; an objective with a last stage gets a schedule of its own for that stage."""
        last_from = 1.0 if self.objective is None else self.objective.last_stage_from()
        if self.lr_scheduler is None:
            self.lr_scheduler = papers_scheduler(self.args, num_training_steps, optimizer or self.optimizer, last_from)
            self._created_lr_scheduler = self.lr_scheduler is not None
        return self.lr_scheduler or super().create_scheduler(num_training_steps, optimizer)

    def kept_parts(self) -> dict[str, nn.Module]:
        """The objective, where it has a state."""
        return {OBJECTIVE_NAME: self.objective} if self.objective is not None and self.objective.state_dict() else {}

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        self._term_sums.check_finite(self.state.global_step + 1)
        super()._save_checkpoint(model, trial)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss term since the last log of the training loss."""
        if "loss" in logs:
            self._term_sums.check_finite(self.state.global_step + 1)
            means = self._term_sums.take_means()
            if self.args.world_size > 1:
                total = reduce(torch.tensor([*means.values()], device=self.args.device), "mean")
                means = dict(zip(means, total.tolist(), strict=True))
            logs |= means
        super().log(logs, start_time)
