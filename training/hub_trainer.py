"""Pushes of a Trainer: complete at every moment, with our card."""

import logging
import shutil
from dataclasses import fields
from pathlib import Path

import datasets
from huggingface_hub import CommitInfo
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.data import DecodedImages, EncodedImages
from tailmoe.training.data.sources import hub_id
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation import evaluate_images
from tailmoe.training.families import FAMILIES, objectives
from tailmoe.training.results import run_results, write_results
from tailmoe.training.shot_groups import ShotBounds

logger = logging.getLogger(__name__)
READERS = (None, "arrow", "csv", "generator", "imagefolder", "json", "parquet", "webdataset")  # no names of data
NOT_OF_THE_RESULT = ("output_dir", "seed", "hub_", "push_to_hub", "logging_", "log_", "report_to", "run_name")
NOT_OF_THE_RESULT += ("disable_tqdm", "save_", "dataloader_", "_n_gpu", "local_rank", "use_cpu")


class HubTrainer(Trainer):
    """What `LongTailTrainer` does on the Hub; see there.

    `push_to_hub=True`, `hub_strategy` and `trainer.push_to_hub()` work as in transformers, with these differences: the card,
    `results.json` and the figures are ours, measured on the evaluation images; the modeling code goes with every push; and
    no push reads files that are being written or deleted.
    """

    class_counts: list[int] | None
    objective: nn.Module | None
    data_name: str | None

    def create_model_card(
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
        """Write `README.md`, `results.json` and `figures`, measured on the evaluation images.

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
        if not self.is_world_process_zero():
            return
        if self.class_counts is None:
            raise BadInputError("`train_dataset` is missing: the card tells how many training images a class has.")
        name, folder = (
            _first(dataset_tags) or _first(dataset) or self.data_name or "unnamed",
            Path(self.args.output_dir),
        )
        config = self.model.config
        results = run_results(
            self.model,
            name=model_name or folder.resolve().name,
            title=_title(self.model),
            description=None,
            dataset=self._describe_data(name),
            metrics=self._measure(),
            recipe={
                "model": {"model_type": config.model_type},
                "data": {"name": name},
                "training": _changed_arguments(self.args),
                "objective": _describe_objective(self.objective),
            },
            baseline=None,
            seed=self.args.seed,
            train_seconds=self.train_seconds,
            precision=self.args.precision,
        )
        results |= {
            "license": license,
            "tags": [tags] if isinstance(tags, str) else tags or [],
            "base_model": finetuned_from or hub_id(config._name_or_path) or results["base_model"],
        }
        write_results(folder, results, self.hub_model_id)

    def _describe_data(self, name: str) -> dict:
        splits = {"num_train": self.train_dataset, "num_test": self.eval_dataset}
        return {
            "name": name,
            "imbalance_factor": max(self.class_counts) / min(self.class_counts),
            "class_counts": self.class_counts,
            "shot_bounds": self._shot_bounds(self.class_counts)._asdict(),
            "label_names": [self.model.config.id2label[c] for c in range(self.model.config.num_labels)],
            **{
                key: len(images) if isinstance(images, DecodedImages | EncodedImages) else 0
                for key, images in splits.items()
            },
        }

    def _measure(self) -> dict | None:
        if not isinstance(self.eval_dataset, DecodedImages | EncodedImages) or self.is_fsdp_enabled:
            return None  # no process alone has the weights that FSDP spread
        images, processor = self.eval_dataset, self.processing_class
        counts, policy = self.class_counts, self.args.on_bad_image
        return evaluate_images(self.model, processor, images, counts, policy, shot_bounds=self._shot_bounds(counts))

    def _shot_bounds(self, counts: list[int]) -> ShotBounds:
        return ShotBounds.of(counts, self.args.many_above, self.args.few_below)

    def push_to_hub(self, *args, **kwargs) -> CommitInfo:
        """As in transformers, after a push in progress has read the files that are now written anew."""
        self._finish_current_push()
        return super().push_to_hub(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """As in transformers, but one push at a time: the next one writes the files that the last one reads."""
        if self.args.hub_strategy == HubStrategy.END or not self.is_world_process_zero():
            return
        if self.args.hub_always_push:
            self._finish_current_push()
        elif self.push_in_progress is not None and not self.push_in_progress.is_done():
            return
        for file in Path(checkpoint_folder).glob("*.py"):  # or the configuration would name code that is not there
            shutil.copy(file, self.args.output_dir)
        super()._push_from_checkpoint(checkpoint_folder)
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            self._finish_current_push()  # the folder may be deleted when the next one is saved

    def _finish_current_push(self) -> None:
        """As in transformers, which does not tell of pushes that failed."""
        super()._finish_current_push()
        in_progress = getattr(self, "push_in_progress", None)
        for job in [] if in_progress is None else in_progress.jobs:
            if job.exception() is not None:
                logger.warning("A push during training failed: %s", job.exception())
        self.push_in_progress = None


def name_of_data(dataset: object) -> str | None:
    """The name that a `datasets.Dataset` has from where it was loaded, if any."""
    name = dataset.info.dataset_name if isinstance(dataset, datasets.Dataset) else None
    return None if name in READERS else name


def _title(model: nn.Module) -> str:
    family = FAMILIES.get(model.config.model_type)
    return type(model).__name__.removesuffix("ForImageClassification") if family is None else family.title


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
