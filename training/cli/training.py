"""The commands that show and train a recipe."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tailmoe.training.cli.options import Overrides, RecipeName
from tailmoe.training.logs import is_main_process

if TYPE_CHECKING:
    from tailmoe.training.results.results import RunResults


def recipe(
    name: Annotated[str | None, Argument(metavar="NAME", help="recipe to print; if left out, all are listed")] = None,
) -> None:
    """Print a recipe that ships with the project, or list them all.

    What is printed is a recipe as a file, which trains alike:

    \b
      tailmoe recipe
      tailmoe recipe icl-cifar100-lt-100
      tailmoe recipe icl-cifar100-lt-100 > mine.yaml && tailmoe train mine.yaml
    """
    from tailmoe.training.recipes.shipped import recipe_names, recipe_text, shipped_recipe

    if name is not None:
        sys.stdout.write(recipe_text(name))
        return
    names = recipe_names()
    for each in names:
        content = shipped_recipe(each)
        sys.stdout.write(f"{each:<{max(map(len, names))}}  {content['title']}: {content['description']}\n")


def train(
    recipe: RecipeName,
    overrides: Overrides = (),
    output_dir: Annotated[
        Path | None, Option(metavar="DIR", help="folder written to", show_default="runs/RECIPE")
    ] = None,
    seed: Annotated[int, Option(metavar="N", help="seed of weights, order and augmentation")] = 0,
    resume: Annotated[bool, Option("--resume", help="continue the interrupted run in the folder")] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="delete the run that is in the folder and start anew")
    ] = False,
) -> None:
    """Train a recipe into a run.

    A run is a folder with weights, configuration, code, card, results and
    figures. RECIPE is the name of a recipe that ships with the project
    (`tailmoe recipe` lists them) or a YAML file. Any key of it can be changed
    with --set, as section.key=value:

    \b
      tailmoe train quickstart --set training.num_train_epochs=4
      tailmoe train quickstart --set model.num_experts=2 objective.temperature=0.1
      tailmoe train quickstart --set data.name=PATH/TO/IMAGES

    The data may be `fashion_mnist_lt` (ships with the project), `cifar10`,
    `cifar100`, `mnist`, `fashion_mnist` (from the folder named by
    TAILMOE_DATA_DIR, else from the Hub), a folder of images
    (train/<class>/<image>), Parquet files, a CSV file of paths and labels, a
    folder with train.csv or with lists such as ImageNet_LT_train.txt, or the id
    of any data set on the Hub. Further keys for images of your own:

    \b
    data.streaming=true         images of Parquet files stay on disk or the Hub
                                until a batch needs them
    data.image_column=... data.label_column=...
    data.class_depth=2          classes such as apple/healthy, of folders in
                                folders
    training.train_sampler=class_balanced
                                or square_root: rare classes are drawn more often
    training.many_above=50 training.few_below=10
                                bounds of the shot groups

    With training.bf16=auto, as in the recipes of CIFAR, it trains in bfloat16
    where the hardware has it: 1.6 times as fast on a CPU with AVX512_BF16.

    Ctrl-C saves a checkpoint and stops; --resume continues, also after a crash,
    and ends where it would have ended. On several GPUs or machines:

    \b
      torchrun --nproc-per-node 4 -m tailmoe.training.cli train RECIPE
    """
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.run import train_recipe

    loaded = load_recipe(recipe, overrides)
    folder = output_dir or Path("runs") / loaded.name
    results = train_recipe(loaded, folder, seed, resume, overwrite)
    if is_main_process():
        _tell_results(results, folder)


def _tell_results(results: "RunResults", folder: Path) -> None:
    """What the command line does with a finished run."""
    from tailmoe.hub_cards.model_card import write_cards
    from tailmoe.hub_cards.results_table import results_table

    write_cards(folder)
    sys.stdout.write(f"\n{results_table(results)}\n\nThe run is in {folder}: README.md is its card.\n")
