"""What a recipe names, built: images, model, objective and Trainer."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel, set_seed
from transformers.integrations import get_reporting_integration_callbacks

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.data import DecodedImages, EncodedImages, class_counts, load_images, load_long_tailed
from tailmoe.training.errors import BadInputError, FaultError
from tailmoe.training.fine_tuning import add_lora, backbone_processor
from tailmoe.training.objectives import OBJECTIVES
from tailmoe.training.recipe import MODELS, Recipe
from tailmoe.training.results import DataDescription
from tailmoe.training.shot_groups import ShotBounds
from tailmoe.training.trainer import LongTailTrainer

# what libraries raise of values that they do not take, and of packages that are not there
LIBRARY_ERRORS = (ValueError, TypeError, StrictDataclassError, OSError, ImportError, RuntimeError, LookupError)
LIBRARY_ERRORS += (AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Images:
    """The images of a run, its image processor, and what its results say of its data."""

    train: DecodedImages | EncodedImages
    test: DecodedImages | EncodedImages
    processor: TailMoEImageProcessor
    description: DataDescription


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
    unreadable = None if None in (train.skipped, test.skipped) else train.skipped + test.skipped
    description = DataDescription(
        name=recipe.data["name"],
        imbalance_factor=max(counts) / min(counts),
        selection=recipe.data.get("selection", "first"),
        class_counts=counts,
        label_names=label_names,
        shot_bounds=bounds,
        num_train=len(train),
        num_test=len(test),
        left_out=splits.left_out,
        num_skipped=None if unreadable is None else unreadable + sum(splits.left_out.values()),
        num_shared=splits.num_shared,
    )
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
            **{"report_to": "none", "disable_tqdm": False, **copy.deepcopy(recipe.training)},
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


def rehearse(trainer: LongTailTrainer) -> None:
    """Raise `BadInputError` for what a library would refuse when training begins."""
    with _naming("training"):
        loader = trainer.get_train_dataloader()
    with _naming(f"training.optim={trainer.args.optim.value}"):
        trainer.create_optimizer()
    with _naming("training.lr_scheduler_type` with `lr_scheduler_kwargs"):
        trainer.create_scheduler(len(loader))


def build_config(recipe: Recipe, **fields) -> PreTrainedConfig:
    """The configuration of a recipe's model; raises `BadInputError` as `train_recipe`."""
    given = dict(recipe.model)
    config_class, _ = MODELS[given.pop("model_type")]
    with _naming("model"):
        return config_class(**given, **fields)


def _build_model(recipe: Recipe, data: DataDescription) -> PreTrainedModel:
    names = data.label_names
    fields = {
        "class_counts": data.class_counts,
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
