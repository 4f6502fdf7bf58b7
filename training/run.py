"""One training run: from a recipe to a folder with weights, results and figures, of which a card can be made.

The folder holds `model.safetensors`, `config.json`, `preprocessor_config.json`, the modeling code, `results.json`,
`recipe.yaml` and `figures/*.png`; while it trains, `checkpoint-<step>` folders. A baseline is a run of its own in
`baseline/`.
"""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import yaml
from accelerate import PartialState
from transformers import PreTrainedModel

from tailmoe.training.build import Images, Run, build
from tailmoe.training.data.sources import hub_id
from tailmoe.training.errors import BadInputError, InterruptedTraining
from tailmoe.training.evaluation.evaluate import evaluate_images
from tailmoe.training.faults import naming_faults
from tailmoe.training.figures.model import write_model_figures
from tailmoe.training.figures.results import write_figures
from tailmoe.training.recipe import Recipe
from tailmoe.training.recipes.shipped import recipe_yaml
from tailmoe.training.results.results import RESULTS_NAME, RunResults, run_results
from tailmoe.training.trainer.fine_tuning import merge_lora
from tailmoe.training.trainer.same_data import check_same_data
from tailmoe.training.trainer.sharding import whole_model
from tailmoe.training.trainer.signals import StopOnSignal
from tailmoe.training.trainer.trainer import LongTailTrainer

logger = logging.getLogger(__name__)
RECIPE_NAME = "recipe.yaml"
LICENSE = "apache-2.0"  # of what recipes train


def train_recipe(
    recipe: Recipe, output_dir: Path, seed: int, resume: bool = False, overwrite: bool = False, draw: bool = True
) -> RunResults:
    """Train the recipe, and its baseline first; return its results.

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
        return RunResults.load(output_dir / RESULTS_NAME)
    images, runs = build(recipe, output_dir, seed)  # a wrong value is told before anything is deleted or trained
    processes = PartialState()
    processes.wait_for_everyone()  # all have looked at the folder
    if processes.is_main_process:
        if overwrite:
            shutil.rmtree(output_dir)
        for run in runs:
            write_recipe(run.folder, run.recipe, seed)
    processes.wait_for_everyone()
    results = None
    while runs:  # the baseline first; what is trained is let go
        results = _train_one(runs.pop(), images, results, draw)
    return results


def write_recipe(output_dir: Path, recipe: Recipe, seed: int) -> None:
    """Write what a run in the folder is resumed with, if it is not there; a baseline is a run of its own."""
    output_dir.mkdir(parents=True, exist_ok=True)
    if not (output_dir / RECIPE_NAME).exists():
        (output_dir / RECIPE_NAME).write_text(recipe_yaml(_written(recipe, seed)), encoding="utf-8")


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
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    changed = [key for key in written if before.get(key) != written[key]]
    if changed:
        raise BadInputError(
            f"{output_dir} was started with another `{changed[0]}` ({before.get(changed[0])}, "
            f"now {written[changed[0]]}): resume it with the same, or train into another --output-dir."
        )


def _train_one(run: Run, images: Images, baseline: RunResults | None, draw: bool) -> RunResults:
    if (run.folder / RESULTS_NAME).exists():
        results = RunResults.load(run.folder / RESULTS_NAME)
        check_same_data(asdict(results.dataset), asdict(images.description), str(run.folder))
        return results
    trainer, stop = run.trainer(images), StopOnSignal()
    trainer.add_callback(stop)
    _tell_what_is_trained(run.recipe, trainer)
    with naming_faults(run.folder):
        trainer.train(resume_from_checkpoint=True)
    if stop.received is not None:
        raise InterruptedTraining(stop.received, run.folder)
    model = whole_model(trainer)
    if trainer.args.lora_rank:
        merge_lora(model)
    if trainer.is_world_process_zero():
        with naming_faults(run.folder):
            results = _measure(run, images, trainer, model, baseline)
            _write(run.folder, model, images, results, draw)
    trainer.args.distributed_state.wait_for_everyone()
    return RunResults.load(run.folder / RESULTS_NAME)


def _tell_what_is_trained(recipe: Recipe, trainer: LongTailTrainer) -> None:
    reason = trainer.args.precision_reason and f": {trainer.args.precision_reason}"
    size = f"{trainer.model.num_parameters():,}"
    logger.info("Training %s (%s parameters) in %s%s", recipe.name, size, trainer.args.precision, reason)


def _measure(
    run: Run, images: Images, trainer: LongTailTrainer, model: PreTrainedModel, baseline: RunResults | None
) -> RunResults:
    """The results of the trained model, with what its training measured."""
    recipe, policy = run.recipe, trainer.args.on_bad_image
    backbone = recipe.model.get("backbone")
    counts, bounds = images.description.class_counts, images.description.shot_bounds
    return run_results(
        model,
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        dataset=images.description,
        metrics=evaluate_images(model, images.processor, images.test, counts, policy, shot_bounds=bounds),
        recipe=recipe.to_dict(),
        baseline=baseline,
        seed=run.seed,
        train_seconds=trainer.train_seconds,
        precision=trainer.precision,
        kept_epoch=trainer.kept_epoch,
        base_model=None if backbone is None else hub_id(backbone),
        license=LICENSE,
    )


def _write(output_dir: Path, model: PreTrainedModel, images: Images, results: RunResults, draw: bool) -> None:
    """All that a run leaves, `results.json` last; its checkpoints are then of no use."""
    model.save_pretrained(output_dir)
    images.processor.save_pretrained(output_dir)
    if draw:
        models = {results.title: model}
        if results.baseline is not None:
            trained = type(model).from_pretrained(output_dir / "baseline").to(model.device)
            models = {results.baseline.title: trained} | models
        names = images.description.label_names
        write_model_figures(models, images.processor, images.test, names, output_dir / "figures")
        write_figures(results, output_dir / "figures")
    results.save(output_dir / RESULTS_NAME)
    for checkpoint in output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
