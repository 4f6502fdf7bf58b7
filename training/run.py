"""One training run: from a recipe to a folder with weights, results, figures and a card.

The folder holds `model.safetensors`, `config.json`, `preprocessor_config.json`, the modeling code, `README.md` (the
card), `results.json`, `recipe.yaml` and `figures/*.png`; while it trains, `checkpoint-<step>` folders. A baseline is a
run of its own in `baseline/`.
"""

import contextlib
import copy
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel, set_seed
from transformers.integrations import get_reporting_integration_callbacks

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.checkpoints import StopOnSignal, check_same_data
from tailmoe.training.data import DecodedImages, EncodedImages, class_counts, load_images, load_long_tailed
from tailmoe.training.epoch_lines import show_epochs
from tailmoe.training.errors import BadInputError, FaultError, InterruptedTraining
from tailmoe.training.evaluation import evaluate_images
from tailmoe.training.faults import naming_faults
from tailmoe.training.figures.model import write_model_figures
from tailmoe.training.fine_tuning import add_lora, backbone_processor, merge_lora
from tailmoe.training.objectives import OBJECTIVES
from tailmoe.training.recipe import MODELS, Recipe
from tailmoe.training.results import RESULTS_NAME, run_results, write_results
from tailmoe.training.sharding import whole_model
from tailmoe.training.shot_groups import ShotBounds
from tailmoe.training.trainer import LongTailTrainer

logger = logging.getLogger(__name__)
RECIPE_NAME = "recipe.yaml"
# what libraries raise of values that they do not take, and of packages that are not there
LIBRARY_ERRORS = (ValueError, TypeError, StrictDataclassError, OSError, ImportError, RuntimeError, LookupError)
LIBRARY_ERRORS += (AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Images:
    """The images of a run, its image processor, and what its results say of its data."""

    train: DecodedImages | EncodedImages
    test: DecodedImages | EncodedImages
    processor: TailMoEImageProcessor
    description: dict


def train_recipe(
    recipe: Recipe, output_dir: Path, seed: int, resume: bool = False, overwrite: bool = False, draw: bool = True
) -> dict:
    """Train the recipe, and its baseline first; return its results as `results.json` has them.

    Args:
        recipe: What to train.
        output_dir: Folder of the run.
        seed: Seed of weights, order and augmentation.
        resume: Continue an interrupted run from its last complete checkpoint; a finished run is left as it is.
        overwrite: Delete what an earlier run left in the folder.
        draw: Draw the figures of the run.

    Raises:
        BadInputError: If the recipe, the data or the state of the folder does not allow the run.
        NonFiniteLossError: If the loss is NaN or infinite; the last checkpoint stays.
        FaultError: If a process or the disk fails; the last checkpoint stays.
        InterruptedTraining: On SIGINT or SIGTERM, after a checkpoint was saved.
    """
    check_folder(output_dir, recipe, seed, resume, overwrite)
    if (output_dir / RESULTS_NAME).exists() and not overwrite:
        return json.loads((output_dir / RESULTS_NAME).read_text())
    images = prepare_images(recipe)
    parts = [(recipe, output_dir)]
    if (baseline_recipe := recipe.baseline_recipe()) is not None:
        parts.append((baseline_recipe, output_dir / "baseline"))
    for part, folder in parts:  # a wrong value is told before anything is deleted or trained
        trainer = make_trainer(part, folder, seed, images)
        _rehearse(trainer)
        processes = trainer.args.distributed_state
    processes.wait_for_everyone()  # all have looked at the folder
    if processes.is_main_process:
        if overwrite:
            shutil.rmtree(output_dir)
        for part, folder in parts:
            write_recipe(folder, part, seed)
    processes.wait_for_everyone()
    results = None
    for part, folder in reversed(parts):
        results = _train_one(part, folder, seed, images, results, draw)
    return results


def write_recipe(output_dir: Path, recipe: Recipe, seed: int) -> None:
    """Write what a run in the folder is resumed with, if it is not there; a baseline is a run of its own."""
    output_dir.mkdir(parents=True, exist_ok=True)
    if not (output_dir / RECIPE_NAME).exists():
        (output_dir / RECIPE_NAME).write_text(yaml.safe_dump(_written(recipe, seed), sort_keys=False))


def _written(recipe: Recipe, seed: int) -> dict:
    return {"name": recipe.name, "seed": seed, **recipe.to_dict()}


def check_folder(output_dir: Path, recipe: Recipe, seed: int, resume: bool, overwrite: bool = False) -> None:
    """Raise `BadInputError` unless the folder is free, or holds a run that may be resumed or overwritten."""
    path, written = output_dir / RECIPE_NAME, _written(recipe, seed)
    if not path.exists():
        if any(each.is_file() for each in output_dir.rglob("*")):
            raise BadInputError(f"{output_dir} is not empty and holds no run: give another --output-dir.")
        return
    if overwrite:
        return
    if not resume:
        raise BadInputError(f"{output_dir} holds a run already: add --resume to continue it or --overwrite.")
    before = yaml.safe_load(path.read_text())
    changed = [key for key in written if before.get(key) != written[key]]
    if changed:
        raise BadInputError(
            f"{output_dir} was started with another `{changed[0]}` ({before.get(changed[0])}, "
            f"now {written[changed[0]]}): resume it with the same, or train into another --output-dir."
        )


def prepare_images(recipe: Recipe) -> Images:
    """The images that a recipe names, as its model takes them; raises `BadInputError` as `train_recipe`."""
    splits = load_long_tailed(**recipe.data)
    label_names = splits["train"].features["label"].names
    config = build_config(recipe, num_labels=len(label_names))
    with _naming("model"):
        if config.backbone is None:
            processor = TailMoEImageProcessor(
                num_channels=config.num_channels, size={"height": config.image_size, "width": config.image_size}
            )
        else:
            processor = backbone_processor(recipe.model["backbone"], config.image_size)
    share = 0.0 if recipe.data.get("streaming") else recipe.training.get("image_memory_share", 0.5)
    policy = recipe.training.get("on_bad_image", "error"), share
    train = load_images(splits["train"], processor, *policy, desc="Decoding train images")
    test = load_images(splits["test"], processor, *policy, desc="Decoding test images")
    if config.backbone is None:
        mean, std = train.mean_and_std()
        processor.image_mean, processor.image_std = tuple(mean), tuple(std)
    counts = class_counts(train, len(label_names))
    bounds = ShotBounds.of(counts, recipe.training.get("many_above"), recipe.training.get("few_below"))
    description = {
        "name": recipe.data["name"],
        "imbalance_factor": max(counts) / min(counts),
        "selection": recipe.data.get("selection", "first"),
        "class_counts": counts,
        "label_names": label_names,
        "shot_bounds": bounds._asdict(),
        "num_train": len(train),
        "num_test": len(test),
        "left_out": splits.left_out,
        "num_skipped": None
        if None in (train.skipped, test.skipped)
        else train.skipped + test.skipped + sum(splits.left_out.values()),
        "num_shared": splits.num_shared,
    }
    return Images(train, test, processor, description)


def make_trainer(recipe: Recipe, output_dir: Path, seed: int, images: Images) -> LongTailTrainer:
    """The Trainer of a recipe's model, with new weights; raises `BadInputError` as `train_recipe`."""
    set_seed(seed)
    model = _build_model(recipe, images.description)
    objective = _build_objective(recipe, model)
    with _naming("training"):
        args = LongTailTrainingArguments(
            output_dir=str(output_dir),
            seed=seed,
            **{"report_to": "none", "disable_tqdm": not sys.stderr.isatty(), **copy.deepcopy(recipe.training)},
        )
    with _naming(f"training.report_to={','.join(args.report_to)}"):
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    with _naming("training"):
        if args.freeze_shared:
            model.freeze_shared()
        if args.lora_rank:
            add_lora(model, args.lora_rank)
        return LongTailTrainer(
            model=model,
            args=args,
            train_dataset=images.train,
            eval_dataset=images.test,
            processing_class=images.processor,
            objective=objective,
        )


def _rehearse(trainer: LongTailTrainer) -> None:
    """Raise `BadInputError` for what a library would refuse when training begins."""
    with _naming("training"):
        loader = trainer.get_train_dataloader()
    with _naming(f"training.optim={trainer.args.optim.value}"):
        trainer.create_optimizer()
    with _naming("training.lr_scheduler_type` with `lr_scheduler_kwargs"):
        trainer.create_scheduler(len(loader))


def _train_one(recipe: Recipe, output_dir: Path, seed: int, images: Images, baseline: dict | None, draw: bool) -> dict:
    if (output_dir / RESULTS_NAME).exists():
        results = json.loads((output_dir / RESULTS_NAME).read_text())
        check_same_data(results["dataset"], images.description, str(output_dir))
        return results
    trainer, stop = make_trainer(recipe, output_dir, seed, images), StopOnSignal()
    trainer.add_callback(stop)
    show_epochs(trainer)
    _tell_what_is_trained(recipe, trainer)
    trainer.train(resume_from_checkpoint=True)
    if stop.received is not None:
        raise InterruptedTraining(stop.received, output_dir)
    model = whole_model(trainer)
    if trainer.args.lora_rank:
        merge_lora(model)
    if trainer.is_world_process_zero():
        with naming_faults(output_dir):
            measured = {"train_seconds": trainer.train_seconds, "precision": trainer.precision}
            results = _measure(recipe, seed, images, baseline, model, trainer.args.on_bad_image, measured)
            _write(output_dir, model, images, results, draw)
    trainer.args.distributed_state.wait_for_everyone()
    return json.loads((output_dir / RESULTS_NAME).read_text())


def _tell_what_is_trained(recipe: Recipe, trainer: LongTailTrainer) -> None:
    reason = trainer.args.precision_reason and f": {trainer.args.precision_reason}"
    size = f"{trainer.model.num_parameters():,}"
    logger.info("Training %s (%s parameters) in %s%s", recipe.name, size, trainer.args.precision, reason)


def _measure(
    recipe: Recipe,
    seed: int,
    images: Images,
    baseline: dict | None,
    model: PreTrainedModel,
    on_bad_image: str,
    measured: dict,
) -> dict:
    """The results of the trained model, with what its training measured."""
    counts, bounds = images.description["class_counts"], ShotBounds.of_results(images.description)
    return run_results(
        model,
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        dataset=images.description,
        metrics=evaluate_images(model, images.processor, images.test, counts, on_bad_image, shot_bounds=bounds),
        recipe=recipe.to_dict(),
        baseline=baseline,
        seed=seed,
        **measured,
    )


def _write(output_dir: Path, model: PreTrainedModel, images: Images, results: dict, draw: bool) -> None:
    """All that a run leaves, `results.json` last; its checkpoints are then of no use."""
    model.save_pretrained(output_dir)
    images.processor.save_pretrained(output_dir)
    models = {results["title"]: model}
    if draw and results["baseline"] is not None:
        trained = type(model).from_pretrained(output_dir / "baseline").to(model.device)
        models = {results["baseline"]["title"]: trained} | models
    if draw:
        names = images.description["label_names"]
        write_model_figures(models, images.processor, images.test, names, output_dir / "figures")
    write_results(output_dir, results, draw=draw)
    for checkpoint in output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def build_config(recipe: Recipe, **fields) -> PreTrainedConfig:
    """The configuration of a recipe's model; raises `BadInputError` as `train_recipe`."""
    given = dict(recipe.model)
    config_class, _ = MODELS[given.pop("model_type")]
    with _naming("model"):
        return config_class(**given, **fields)


def _build_model(recipe: Recipe, data: dict) -> PreTrainedModel:
    names = data["label_names"]
    fields = {
        "class_counts": data["class_counts"],
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    given = dict(recipe.model)
    _, model_class = MODELS[given.pop("model_type")]
    with _naming("model"):
        if given.get("backbone") is not None:
            return model_class.from_backbone(**given, **fields)
        return model_class(build_config(recipe, **fields))


def _build_objective(recipe: Recipe, model: PreTrainedModel) -> torch.nn.Module | None:
    if recipe.objective is None:
        return None
    options = dict(recipe.objective)
    with _naming("objective"):
        return OBJECTIVES[options.pop("type")](model.config, **options)


@contextlib.contextmanager
def _naming(section: str) -> Iterator[None]:
    """Turn what a class says of wrong values into an error that names the section of the recipe."""
    try:
        yield
    except FaultError:
        raise
    except LIBRARY_ERRORS as error:
        told = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError) and section == "model":
            told += " (pip install 'tailmoe[timm]' for backbones of timm)"
        raise BadInputError(f"`{section}` of the recipe: {told}") from error
