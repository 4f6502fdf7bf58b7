"""The commands that train, and those that read what was trained with many seeds."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tailmoe.training.cli.options import (
    Jobs,
    Json,
    Overrides,
    RecipeName,
    Seeds,
    TimeLimit,
    read_seconds,
    read_seeds,
    write_json,
)
from tailmoe.training.errors import BadInputError
from tailmoe.training.logs import is_main_process

if TYPE_CHECKING:
    from tailmoe.training.results import RunResults, StudyResults


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
    from tailmoe.training.recipe_files import recipe_names, recipe_text, shipped_recipe

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


def study(
    recipes: Annotated[list[str], Argument(metavar="RECIPE", help="names of recipes, or YAML files")],
    overrides: Overrides = (),
    output_dir: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="folder written to; of several recipes each has its folder in it",
            show_default="runs/RECIPE-study, of several recipes runs",
        ),
    ] = None,
    no_baseline: Annotated[bool, Option("--no-baseline", help="leave out the baselines that recipes name")] = False,
    seeds: Seeds = "0..2",
    jobs: Jobs = 1,
    time_limit: TimeLimit = None,
    json: Annotated[
        Path | None,
        Option(
            metavar="FILE|DIR",
            help="also write the summary here; a folder gets RECIPE.json as soon as the study of a recipe is whole",
        ),
    ] = None,
) -> None:
    """Train recipes with many seeds and summarise each.

    Mean and standard deviation of every metric, of the model and of its
    baseline, are in OUTPUT-DIR/study.json. A baseline that another recipe of
    the call is, or has too, is trained once.

    \b
      tailmoe study quickstart --seeds 0..2
      tailmoe study icl-cifar100-lt-100 shike-cifar100-lt-100 --seeds 0..2 \\
          --jobs 2 --time-limit 2h30m --json hub_cards/results

    Each training is a process of its own with its share of the cores, the
    longest first; what it says is in OUTPUT-DIR/seed-N.log, its last line is
    shown here: epoch, share done, images per second, time left. At the time
    limit (or on Ctrl-C) every training saves and stops, and what is left is
    told. Repeat the command to go on: what is finished is kept, what was
    interrupted, or killed, is resumed where it stood. A training that fails
    leaves the others running.

    The exit status is 124 at the time limit, 1 if a training failed, 0 when all
    is done: a queue of limited hours may submit the same command until it is 0.
    """
    chosen, seconds = read_seeds(seeds), read_seconds(time_limit)
    from tailmoe.hub_cards.model_card import write_cards
    from tailmoe.hub_cards.results_table import results_table, studies_table
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.study import run_studies

    several, json_is_file = len(recipes) > 1, json is None or json.suffix == ".json"
    if several and json is not None and json_is_file:
        raise BadInputError(f"`--json` must be a folder where there are several recipes, got {json}.")
    studies = {}
    for source in recipes:
        loaded = load_recipe(source, overrides, with_baseline=not no_baseline)
        folder = (output_dir or Path("runs")) / f"{loaded.name}-study"
        folder = folder if several or output_dir is None else output_dir
        if folder in studies:
            raise BadInputError(f"Recipe `{loaded.name}` is given twice.")
        studies[folder] = loaded

    def write(folder: Path, summary: "StudyResults | None") -> None:
        write_cards(folder)
        if summary is not None and json is not None:
            summary.save(json if json_is_file else json / f"{summary.name}.json")

    command = shlex.join(["tailmoe", *sys.argv[1:]])
    done = run_studies(studies, chosen, command, jobs, seconds, on_finished=write)
    summaries = [done[folder] for folder in studies]
    sys.stdout.write(f"\n{studies_table(summaries) if several else results_table(summaries[0])}\n")


def ablation(
    recipe: RecipeName,
    groups: Annotated[list[str], Argument(metavar="GROUP", help="groups of changes to run; if left out, all")] = (),
    overrides: Overrides = (),
    output_dir: Annotated[
        Path | None, Option(metavar="DIR", help="folder written to", show_default="runs/RECIPE-ablation")
    ] = None,
    seeds: Seeds = "0",
    validation_per_class: Annotated[
        int,
        Option(metavar="N", help="training images of each class to measure on, instead of the test split"),
    ] = 50,
    jobs: Jobs = 1,
    time_limit: TimeLimit = None,
    json: Json = None,
) -> None:
    """Change a recipe in one thing at a time and compare.

    The recipe is trained as it is, without each part of the objective, with
    other times and numbers of experts, and with the other ways of doing the
    same; one table compares them. All is measured on images held out from the
    training split, so that choices are made without the test split. Repeat the
    command to continue an interrupted one.

    \b
      tailmoe ablation icl-cifar100-lt-100 --seeds 0..2
      tailmoe ablation icl-cifar100-lt-100 without "number of experts" --jobs 2

    A short schedule misleads about a long one: choices for 200 epochs need 200
    epochs.
    """
    chosen, seconds = read_seeds(seeds), read_seconds(time_limit)
    from tailmoe.hub_cards.ablation_table import ablation_table
    from tailmoe.hub_cards.model_card import write_cards
    from tailmoe.training.ablation import run_ablation

    folder = output_dir or Path("runs") / f"{Path(recipe).stem}-ablation"
    options = validation_per_class, groups, jobs, seconds, lambda folder, _: write_cards(folder)
    record = run_ablation(recipe, overrides, chosen, folder, *options)
    sys.stdout.write(f"\n{ablation_table(record)}\n")
    if json is not None:
        record.save(json)


def compare(
    studies: Annotated[list[str], Argument(metavar="STUDY", help="folder of a study, or the file of its --json")],
    output_dir: Annotated[Path, Option(metavar="DIR", help="folder of the figures")] = Path("runs/compare"),
    json: Json = None,
) -> None:
    """Test what studies of a recipe with a baseline found.

    The two arms of each are compared seed by seed: mean difference and effect
    size with their bootstrap intervals, Wilcoxon's signed-rank test, corrected
    for the number of studies. Draws a box plot over the seeds of each study and
    the similarity of its experts.

    \b
      tailmoe compare runs/snnl-mnist-study runs/snnl-fashion-mnist-study
      tailmoe compare hub_cards/results/snnl-*.json --output-dir build/compare

    With n seeds the smallest possible p-value is 2 / 2^n: ten seeds for
    p < 0.01 on four data sets.
    """
    from tailmoe.hub_cards.pairs_table import CAPTION, pairs_table
    from tailmoe.training import paired
    from tailmoe.training.figures.pairs import write_pair_figures

    loaded = paired.load_pairs(studies)
    sys.stdout.write(f"{pairs_table(loaded)}\n\n{CAPTION}\n")
    for path in write_pair_figures(loaded, output_dir):
        sys.stdout.write(f"{path}\n")
    tests = zip(loaded, paired.compare(loaded), strict=True)
    write_json(json, [{"name": each.name, **found} for each, found in tests])
