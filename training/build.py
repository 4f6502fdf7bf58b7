"""What a recipe names, built once and found right: images, configuration, model, objective and Trainer."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel, set_seed
from transformers.integrations import get_reporting_integration_callbacks

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.data import DecodedImages, LazyImages, class_counts, load_images, load_long_tailed
from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.data.splits import ImageSplits
from tailmoe.training.errors import BadInputError, FaultError
from tailmoe.training.families import FAMILIES, objectives
from tailmoe.training.recipe import Recipe
from tailmoe.training.results.results import DataDescription
from tailmoe.training.trainer.arguments import LongTailTrainingArguments
from tailmoe.training.trainer.fine_tuning import add_lora, backbone_processor, load_features, published_network
from tailmoe.training.trainer.trainer import LongTailTrainer

# what libraries raise of values that they do not take, and of packages that are not there
LIBRARY_ERRORS = (ValueError, TypeError, StrictDataclassError, OSError, ImportError, RuntimeError, LookupError)
LIBRARY_ERRORS += (AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Images:
    """The images of a run, its image processor, and what its results say of its data."""

    train: DecodedImages | LazyImages
    test: DecodedImages | LazyImages
    processor: TailMoEImageProcessor
    description: DataDescription


def build(recipe: Recipe, output_dir: Path, seed: int) -> "tuple[Images, list[Run]]":
    """The images of a recipe, and what it and its baseline, in this order, train on them.

    Raises:
        BadInputError: If the recipe or its data is wrong; what would be refused when training begins is refused here.
    """
    splits = load_long_tailed(**recipe.data)
    parts = [(recipe, output_dir), (recipe.baseline_recipe(), output_dir / "baseline")]
    names = splits["train"].features["label"].names
    parts = [(part, folder, build_config(part, names)) for part, folder in parts if part is not None]
    images = prepare_images(recipe, splits, parts[0][-1])
    runs = [Run.of(*part, images.description.class_counts, seed) for part in parts]
    for run in runs:
        run.check(images)
    return images, runs


def check(recipe: Recipe, label_names: Sequence[str], class_counts: Sequence[int]) -> PreTrainedModel:
    """The model of a recipe without weights; raises `BadInputError` for a section that says something wrong.

    It needs no image: what only images and a Trainer find wrong is told by `build`.
    """
    with torch.device("meta"):
        return Run.of(recipe, Path(recipe.name), build_config(recipe, label_names), class_counts).model


def build_config(recipe: Recipe, label_names: Sequence[str]) -> PreTrainedConfig:
    """The configuration of a recipe's model, for the classes of its data; raises `BadInputError` as `build`."""
    given = dict(recipe.model)
    labels = {"id2label": dict(enumerate(label_names)), "label2id": {name: c for c, name in enumerate(label_names)}}
    family = FAMILIES[given.pop("model_type")]
    with _naming("model"):
        backbone = given.get("backbone")
        network = None if backbone is None else published_network(backbone, family.config.model_type)
        if network is not None:
            given = network | {name: value for name, value in given.items() if name != "backbone"}
        return family.config(**given, **labels)


def prepare_images(recipe: Recipe, splits: ImageSplits, config: PreTrainedConfig) -> Images:
    """The images of a recipe, as its model takes them; raises `BadInputError` as `build`."""
    backbone = recipe.model.get("backbone")
    with _naming("model"):
        if backbone is None:
            processor = TailMoEImageProcessor(
                num_channels=config.num_channels, size={"height": config.image_size, "width": config.image_size}
            )
        else:
            processor = backbone_processor(backbone, config.image_size, config.num_channels)
    share = 0.0 if recipe.data.get("streaming") else recipe.training.get("image_memory_share", 0.5)
    policy = recipe.training.get("on_bad_image", "error"), share
    train = load_images(splits["train"], processor, *policy, desc="Decoding train images")
    test = load_images(splits["test"], processor, *policy, desc="Decoding test images")
    if backbone is None:
        mean, std = train.mean_and_std()
        processor.image_mean, processor.image_std = tuple(mean), tuple(std)
    counts = class_counts(train, config.num_labels)
    bounds = ShotBounds.of(counts, recipe.training.get("many_above"), recipe.training.get("few_below"))
    unreadable = None if None in (train.skipped, test.skipped) else train.skipped + test.skipped
    description = DataDescription(
        name=recipe.data["name"],
        imbalance_factor=max(counts) / min(counts),
        selection=recipe.data.get("selection", "first"),
        class_counts=counts,
        label_names=splits["train"].features["label"].names,
        shot_bounds=bounds,
        num_train=len(train),
        num_test=len(test),
        left_out=splits.left_out,
        num_skipped=None if unreadable is None else unreadable + sum(splits.left_out.values()),
        num_shared=splits.num_shared,
    )
    return Images(train, test, processor, description)


@dataclass(frozen=True)
class Run:
    """One network to train: a recipe without its baseline, its model with new weights and its objective."""

    recipe: Recipe
    folder: Path
    seed: int
    model: PreTrainedModel
    objective: torch.nn.Module | None

    @classmethod
    def of(
        cls, recipe: Recipe, folder: Path, config: PreTrainedConfig, class_counts: Sequence[int], seed: int = 0
    ) -> "Run":
        """Make what the recipe names; raises `BadInputError` as `build`."""
        args = _arguments(recipe, folder, seed)
        set_seed(seed)
        config.class_counts = class_counts
        with _naming("model"):
            model = FAMILIES[config.model_type].model(config)
            if (backbone := recipe.model.get("backbone")) is not None and model.device.type != "meta":
                if published_network(backbone, config.model_type) is None:
                    model.load_backbone(backbone)
                else:
                    load_features(model, backbone)
        options, objective = dict(recipe.objective or {}), None
        with _naming("objective"):
            if options:
                objective = objectives()[options.pop("type")](config, **options)
        with _naming("training"):
            if args.freeze_shared:
                model.freeze_shared()
            if args.lora_rank:
                add_lora(model, args.lora_rank)
        return cls(recipe, folder, seed, model, objective)

    def trainer(self, images: Images) -> LongTailTrainer:
        """A Trainer of the model; raises `BadInputError` as `build`."""
        # with arguments of its own: accelerate's state is that of the arguments that were made last
        args = _arguments(self.recipe, self.folder, self.seed)
        with _naming("training"):
            return LongTailTrainer(
                model=self.model,
                args=args,
                train_dataset=images.train,
                eval_dataset=images.test,
                processing_class=images.processor,
                objective=self.objective,
            )

    def check(self, images: Images) -> None:
        """Raise `BadInputError` for what would be refused when training begins: only a Trainer knows all of that."""
        trainer = self.trainer(images)
        with _naming("training"):
            loader = trainer.get_train_dataloader()
        with _naming(f"training.optim={trainer.args.optim.value}"):
            trainer.create_optimizer()
        with _naming("training.lr_scheduler_type` with `lr_scheduler_kwargs"):
            trainer.create_scheduler(len(loader))


def _arguments(recipe: Recipe, folder: Path, seed: int) -> LongTailTrainingArguments:
    if not 0 <= seed < 2**32:
        raise BadInputError(f"A seed must be a whole number from 0 to 2^32 - 1, got {seed}.")
    given = {"report_to": "none", "disable_tqdm": False, **copy.deepcopy(recipe.training)}
    with _naming("training"):
        args = LongTailTrainingArguments(output_dir=str(folder), seed=seed, **given)
    with _naming(f"training.report_to={','.join(args.report_to)}"):
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()
    return args


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
