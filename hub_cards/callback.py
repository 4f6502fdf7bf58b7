"""The card of a model that a Trainer pushes, and pushes during training that are complete at every moment."""

import logging
import shutil
from dataclasses import fields
from pathlib import Path

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

from tailmoe.hub_cards.model_card import write_card
from tailmoe.training.data import DecodedImages, LazyImages
from tailmoe.training.data.sources import hub_id
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.evaluate import evaluate_images
from tailmoe.training.families import FAMILIES, objectives
from tailmoe.training.figures.results import write_figures
from tailmoe.training.results.results import RESULTS_NAME, DataDescription, RunResults, run_results
from tailmoe.training.trainer.arguments import LongTailTrainingArguments
from tailmoe.training.trainer.trainer import LongTailTrainer

logger = logging.getLogger(__name__)
NOT_OF_THE_RESULT = ("output_dir", "seed", "hub_", "push_to_hub", "logging_", "log_", "report_to", "run_name")
NOT_OF_THE_RESULT += ("disable_tqdm", "save_", "dataloader_", "_n_gpu", "local_rank", "use_cpu")


class CardCallback(TrainerCallback):
    """What a `LongTailTrainer` pushes to the Hub, by `push_to_hub=True` and `hub_strategy` or by `push_to_hub()`.

    The card, `results.json` and the figures are ours, measured on the evaluation images; the modeling code goes with every
    push; no push reads files that are being written or deleted; and pushes that fail are told. All else is as in transformers.

        trainer.add_callback(CardCallback(trainer))

    Args:
        trainer: Whose callback it becomes.
    """

    def __init__(self, trainer: LongTailTrainer):
        self.trainer = trainer
        trainer.write_card = self.write_card

    def write_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write `README.md`, `results.json` and `figures` of the Trainer's output folder.

        Args:
            license: Of the model; none is claimed if None.
            tags: Further tags.
            model_name: The name of the output folder if None.
            finetuned_from: Hub id of the model it started from; found from the model if None.
            dataset_tags, dataset: Hub id or name of the data; found from the training split if both are None.
            language, tasks, dataset_args: Without meaning for image classification.

        Raises:
            BadInputError: If there are no training images, whose counts the card tells.
        """
        trainer = self.trainer
        if not trainer.is_world_process_zero():
            return
        if trainer.class_counts is None:
            raise BadInputError("`train_dataset` is missing: the card tells how many training images a class has.")
        folder = Path(trainer.args.output_dir)
        data = _first(dataset_tags) or _first(dataset) or trainer.data_name or "unnamed"
        results = _results(
            trainer,
            name=model_name or folder.resolve().name,
            data=data,
            license=license,
            tags=[tags] if isinstance(tags, str) else tags or [],
            base_model=finetuned_from or hub_id(trainer.model.config._name_or_path),
        )
        write_figures(results, folder / "figures")
        results.save(folder / RESULTS_NAME)
        write_card(folder, trainer.hub_model_id)

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Let the push before this one read the files that are now written anew, and the modeling code go with them."""
        self._finish_push()
        if state.is_world_process_zero:
            for file in (Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}").glob("*.py"):
                shutil.copy(file, args.output_dir)  # or the configuration would name code that is not there

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Let a push of the checkpoint itself end before the next one takes its place."""
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            self._finish_push()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Wait for the last push of the training."""
        self._finish_push()

    def _finish_push(self) -> None:
        pushing = getattr(self.trainer, "push_in_progress", None)  # not there before the first push
        if pushing is None:
            return
        pushing.wait_until_done()
        for job in pushing.jobs:
            if job.exception() is not None:
                logger.warning("A push during training failed: %s", job.exception())
        self.trainer.push_in_progress = None


def _results(trainer: LongTailTrainer, *, data: str, **others: object) -> RunResults:
    """The results of the model as it is, trained on the images `data`; `others` as of `RunResults`."""
    config, counts = trainer.model.config, trainer.class_counts
    return run_results(
        trainer.model,
        title=_title(trainer.model),
        description=None,
        dataset=DataDescription(
            name=data,
            imbalance_factor=max(counts) / min(counts),
            class_counts=counts,
            shot_bounds=trainer.args.shot_bounds(counts),
            label_names=[config.id2label[c] for c in range(config.num_labels)],
            num_train=len(trainer.train_dataset),
            num_test=len(trainer.eval_dataset) if _are_images(trainer.eval_dataset) else 0,
        ),
        metrics=_measure(trainer),
        recipe={
            "model": {"model_type": config.model_type},
            "data": {"name": data},
            "training": _changed_arguments(trainer.args),
            "objective": _describe_objective(trainer.objective),
        },
        baseline=None,
        seed=trainer.args.seed,
        train_seconds=trainer.train_seconds,
        precision=trainer.precision,
        kept_epoch=trainer.kept_epoch,
        **others,
    )


def _title(model: nn.Module) -> str:
    family = FAMILIES.get(model.config.model_type)
    return type(model).__name__.removesuffix("ForImageClassification") if family is None else family.title


def _measure(trainer: LongTailTrainer) -> dict | None:
    if not _are_images(trainer.eval_dataset) or trainer.is_fsdp_enabled:
        return None  # no process alone has the weights that FSDP spread
    images, counts, args = trainer.eval_dataset, trainer.class_counts, trainer.args
    policy, bounds = args.on_bad_image, args.shot_bounds(counts)
    return evaluate_images(trainer.model, trainer.processing_class, images, counts, policy, shot_bounds=bounds)


def _are_images(images: object) -> bool:
    return isinstance(images, DecodedImages | LazyImages)


def _first(names: str | list[str] | None) -> str | None:
    return names[0] if isinstance(names, list) and names else names or None


def _changed_arguments(args: LongTailTrainingArguments) -> dict:
    """The training arguments that differ from their defaults, without those that change nothing of the result."""
    values, defaults = args.to_dict(), {field.name: field.default for field in fields(args)}
    return {
        name: value
        for name, value in values.items()
        if value != defaults.get(name)
        and isinstance(value, bool | int | float | str)
        and not name.startswith(NOT_OF_THE_RESULT)
    }


def _describe_objective(objective: nn.Module | None) -> dict | None:
    if objective is None:
        return None
    names = {objective_class: name for name, objective_class in objectives().items()}
    options = {name: value for name, value in vars(objective).items() if isinstance(value, int | float | str)}
    options.pop("training")
    return {"type": names.get(type(objective), type(objective).__name__), **options}
