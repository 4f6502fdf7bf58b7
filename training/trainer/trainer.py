"""The Hugging Face Trainer for long-tailed images: decoded once, augmented as whole batches, any objective."""

import copy
import functools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import BaseImageProcessor, PreTrainedModel, Trainer, set_seed
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput

from tailmoe.training.data import DecodedImages, LazyImages
from tailmoe.training.data.lazy_images import place_images
from tailmoe.training.data.own_batches import Collator, labels_of
from tailmoe.training.data.samplers import lone_images, make_sampler
from tailmoe.training.evaluation.inference import with_fast_layout
from tailmoe.training.objectives.class_weighted import ClassWeightedObjective
from tailmoe.training.trainer.arguments import LongTailTrainingArguments
from tailmoe.training.trainer.batches import AugmentedBatches
from tailmoe.training.trainer.checkpoints import checkpoint_to_resume, finish_checkpoint, take_up, whole_or_not_there
from tailmoe.training.trainer.classes import label_names, learn_classes, name_of_data
from tailmoe.training.trainer.epoch_lines import show_epochs
from tailmoe.training.trainer.loss import TrainingLoss
from tailmoe.training.trainer.metrics import check_best_metric, rows_once, share_statistics, trainer_metrics
from tailmoe.training.trainer.optimization import add_objective, papers_scheduler, papers_sgd
from tailmoe.training.trainer.sharding import asks_for_sharding, check_sharding, own_class
from tailmoe.training.trainer.splits import check_streamed, loaded, loaded_to_predict
from tailmoe.training.trainer.step_graphs import graphs_of, recorded_step
from tailmoe.training.trainer.supported_arguments import refuse_for_model, refuse_trainer_arguments

logger = logging.getLogger(__name__)
PLAIN_PUSH = (
    "What is pushed has the card of transformers, which knows neither data nor experts, and during training no modeling code: "
    "`trainer.add_callback(CardCallback(trainer))`, of tailmoe.hub_cards.callback, adds ours."
)


class LongTailTrainer(Trainer):
    """Trains an image classifier on long-tailed images.

    Differs from `transformers.Trainer` in this: images of a `datasets.Dataset` (columns `image` and `label`) are decoded
    once if they fit in memory, augmented on the device as whole batches, and seeded by step, so that a resumed run ends
    exactly as an uninterrupted one; an objective may replace the model's own loss; metrics tell shot groups apart; on a CUDA
    device whole steps are recorded as CUDA graphs where possible; a checkpoint is whole or not there, and resumed by the
    same network, images and number of processes or not at all; several processes evaluate every image once.

    Args:
        model: An image classification model, ours or any of transformers, or one with an adapter of peft.
        args: The training arguments.
        train_dataset: A `datasets.Dataset`, streamed or not, `DecodedImages` or `LazyImages`, or any data set that gives
            `pixel_values` and `labels`, see `data.own_batches`; None to evaluate only.
        eval_dataset: Likewise, or a dict of such splits; `evaluate` and `predict` take them too.
        processing_class: The model's image processor.
        objective: A module with the methods of `Objective`; the model's own loss if None.
        data_collator: Of data sets that give pixel values; transformers' own if None.
        model_init: Makes the model, anew for each training and trial of `hyperparameter_search`; in place of `model`.
        **kwargs: Further arguments of `transformers.Trainer`; which act is told in `supported_arguments`.

    The class counts of the training split become those of the model's configuration and of the objective, and the class
    names of a `datasets.Dataset` those of a model that has none of its own, or that was loaded; the log tells what they
    replaced, and which arguments became others. Wide convolutions are laid out channels last, where they are faster.

    Raises:
        BadInputError: If labels do not fit the model, an image cannot be read, a split is empty, or an argument would
            have no effect.
    """

    loss_is_scaled_for_ga = False  # every term is a mean over its batch
    write_card: Callable[..., None] | None = (
        None  # in place of transformers; `hub_cards.callback.CardCallback` sets it
    )

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        args: LongTailTrainingArguments | None = None,
        train_dataset: datasets.Dataset | DecodedImages | LazyImages | torch.utils.data.Dataset | None = None,
        eval_dataset: datasets.Dataset | DecodedImages | LazyImages | torch.utils.data.Dataset | dict | None = None,
        processing_class: BaseImageProcessor | None = None,
        objective: nn.Module | None = None,
        data_collator: Callable[[list], dict] | None = None,
        model_init: Callable[..., PreTrainedModel] | None = None,
        **kwargs,
    ):
        refuse_trainer_arguments(model, args, processing_class, objective, kwargs | {"model_init": model_init})
        if model_init is not None:
            set_seed(args.seed)
            self.model_init = model_init
            model = super().call_model_init()
        if objective is None and args.class_weights is not None:
            objective = ClassWeightedObjective(model.config, args.class_weights)
        self.data_name, self.class_names = name_of_data(train_dataset), label_names(train_dataset)
        train_dataset = loaded(train_dataset, processing_class, args, "Decoding train images")
        eval_dataset = loaded(eval_dataset, processing_class, args, "Decoding test images")
        self.class_counts = learn_classes(model, objective, train_dataset, self.class_names)
        check_streamed(train_dataset, args)
        refuse_for_model(model, args)
        args.expect_stages(objective)
        if "compute_metrics" not in kwargs:
            counts = self.class_counts or getattr(model.config, "class_counts", None)
            kwargs["compute_metrics"] = functools.partial(trainer_metrics, class_counts=counts, args=args)
            check_best_metric(args, eval_dataset, self.class_counts)
        super().__init__(
            model=model if asks_for_sharding(args) else with_fast_layout(model),  # FSDP wants rows in their order
            args=args,
            data_collator=Collator(data_collator, model.config.num_labels),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        check_sharding(self, objective)
        self.model_init = model_init
        self._optimizer_given = bool(self.optimizer or self.optimizer_cls_and_kwargs)
        self.train_dataset = place_images(self.train_dataset, args)
        self.objective = None if objective is None else objective.to(args.device)
        self.objective_at_first = copy.deepcopy(self.objective)
        self.batches = AugmentedBatches.of_arguments(args, processing_class)
        self.training_loss, self.graphs = TrainingLoss(self.objective), None
        self.precision, self._began, self._ended = args.precision, None, None
        show_epochs(self)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs) -> TrainOutput:
        """As in transformers; `True` resumes from the last whole checkpoint, or starts without one.

        Raises:
            BadInputError: If the checkpoint is damaged, or of another network, other images or another number of processes.
            FaultError: If a checkpoint cannot be written; the one before it stays.
        """
        checkpoint = checkpoint_to_resume(resume_from_checkpoint, self.args.output_dir)
        self.precision, self._began, self._ended = self.args.precision, time.perf_counter(), None
        if checkpoint is not None:
            self.precision, seconds = take_up(checkpoint, self)
            self._began -= seconds
        if self.args.push_to_hub and self.write_card is None:
            logger.warning(PLAIN_PUSH)
        output = super().train(checkpoint, **kwargs)
        share_statistics(self.model, self.accelerator)
        self._ended = time.perf_counter()
        return output

    def call_model_init(self, trial: object = None) -> PreTrainedModel:
        """As in transformers; the objective begins anew, too, and both know the classes."""
        model = super().call_model_init(trial)
        if self.objective is not None:
            self.objective.load_state_dict(self.objective_at_first.state_dict())
        self.class_counts = learn_classes(model, self.objective, self.train_dataset, self.class_names)
        return model if asks_for_sharding(self.args) else with_fast_layout(model)

    def _hp_search_setup(self, trial: object) -> None:
        # overridden: a trial changes the arguments, after the model was made
        super()._hp_search_setup(trial)
        self.batches = AugmentedBatches.of_arguments(self.args, self.processing_class)
        self.training_loss, self.graphs = TrainingLoss(self.objective), graphs_of(self, self._uses_papers_sgd)

    @property
    def _uses_papers_sgd(self) -> bool:
        return self.args.optim == "sgd" and not self._optimizer_given

    @property
    def progress(self) -> float:
        """Share of the run done, in [0, 1]."""
        return self.state.global_step / max(self.state.max_steps, 1)

    @property
    def kept_epoch(self) -> float | None:
        """The epoch of the weights that `load_best_model_at_end` kept; None without it."""
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        return next((entry["epoch"] for entry in self.state.log_history if entry["step"] == best), None)

    @property
    def train_seconds(self) -> float | None:
        """Time of training so far, that before a resume included; None if nothing was trained."""
        return None if self._began is None else (self._ended or time.perf_counter()) - self._began

    def _get_train_sampler(self, train_dataset: torch.utils.data.Dataset | None = None) -> Sampler | None:
        # overridden: transformers has no public place for a sampler
        images = self.train_dataset if train_dataset is None else train_dataset
        left_out = lone_images(len(images), self.args, self.model)
        return make_sampler(images, labels_of(images), self.args, left_out)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, None]:
        """As in transformers, augmented; images are not counted, as a loss is a mean over its batch."""
        return self.batches.take(epoch_iterator, num_batches, self.state.global_step), None

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], *args, **kwargs) -> Tensor:
        """As in transformers, or recorded as a CUDA graph."""
        if self.graphs is None:
            return super().training_step(model, inputs, *args, **kwargs)
        return recorded_step(self, model, inputs)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **kwargs
    ) -> Tensor | tuple[Tensor, object]:
        """The sum of the objective's terms in training; the model's own loss in evaluation."""
        inputs = self.batches.finish(inputs)
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        active = self.training_loss.begin_step(model, self.progress)
        loss, outputs = self.training_loss(model, inputs, self.progress, active)
        self.training_loss.end_step(active, self.state.global_step + 1)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        # overridden: transformers computes the norm for the log, at each step, also where nothing is clipped
        return grad_norm

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        """Not counted: transformers' estimate, six operations for each parameter and token, is not of convolutions."""
        return 0

    def evaluate(self, eval_dataset: object = None, *args, **kwargs) -> dict[str, float]:
        """As in transformers, of any split that the constructor takes."""
        return super().evaluate(loaded(eval_dataset, self.processing_class, self.args), *args, **kwargs)

    def predict(self, test_dataset: object, *args, **kwargs) -> PredictionOutput:
        """As in transformers, of any split that the constructor takes, and of images without labels."""
        return super().predict(loaded_to_predict(test_dataset, self.processing_class, self.args), *args, **kwargs)

    def evaluation_loop(self, dataloader: DataLoader, *args, **kwargs) -> EvalLoopOutput:
        """As in transformers, by processes that hold the same model."""
        share_statistics(self.model, self.accelerator)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Tensor], *args, **kwargs) -> tuple:
        """As in transformers; what other processes have of the batch is not computed, it would count twice in the loss."""
        inputs = self.batches.finish(inputs)
        rows = rows_once(self.accelerator, len(inputs["pixel_values"]))
        if rows is None:
            return super().prediction_step(model, inputs, *args, **kwargs)
        own = {name: values[:rows] for name, values in inputs.items()}
        loss, logits, labels = super().prediction_step(model, own, *args, **kwargs)
        if logits is None:
            return loss, None, None
        # as many rows of each process are gathered; those that are added here are left out afterwards
        return loss, *self.accelerator.pad_across_processes((logits, labels))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss term since the last log of the training loss."""
        if "loss" in logs:
            self.training_loss.check_finite(self.state.global_step + 1)
            logs |= self.training_loss.take_means()
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """SGD as the papers use it, or any optimizer of transformers; the objective's parameters join it."""
        if self.optimizer is None:
            if self._uses_papers_sgd:
                self.optimizer = papers_sgd(model or self.model, self.args, fused=not self.is_fsdp_enabled)
            else:
                super().create_optimizer(model)
            add_objective(self.optimizer, self.objective)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """As in transformers, or with `lr_milestones`; an objective with a decoupled stage gets a schedule of its own for that stage."""
        last_from = 1.0 if self.objective is None else self.objective.decoupled_from()
        if self.lr_scheduler is None:
            self.lr_scheduler = papers_scheduler(self.args, num_training_steps, optimizer or self.optimizer, last_from)
            self._created_lr_scheduler = self.lr_scheduler is not None
        return self.lr_scheduler or super().create_scheduler(num_training_steps, optimizer)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in transformers; a sharded model is saved as one of its own class."""
        with own_class(self.model):
            super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        # overridden: nothing public is around all that transformers writes
        self.training_loss.check_finite(self.state.global_step + 1)
        with whole_or_not_there(self, Path(self._get_output_dir(trial))):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        # overridden: of all that a process writes by itself it is the last, then comes the state that makes a checkpoint whole
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            finish_checkpoint(output_dir, self)

    def create_model_card(self, *args, **kwargs) -> None:
        """As in transformers, or by `write_card`."""
        if self.write_card is None:
            logger.warning(PLAIN_PUSH)
        (self.write_card or super().create_model_card)(*args, **kwargs)
