"""The commands that train with many seeds, and that read what was trained so."""

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

if TYPE_CHECKING:
    from tailmoe.training.results.results import StudyResults


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
    from tailmoe.training.studies.study import run_studies

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
    from tailmoe.training.studies.ablation import run_ablation

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
    from tailmoe.training.figures.pairs import write_pair_figures
    from tailmoe.training.studies import paired

    loaded = paired.load_pairs(studies)
    sys.stdout.write(f"{pairs_table(loaded)}\n\n{CAPTION}\n")
    for path in write_pair_figures(loaded, output_dir):
        sys.stdout.write(f"{path}\n")
    tests = zip(loaded, paired.compare(loaded), strict=True)
    write_json(json, [{"name": each.name, **found} for each, found in tests])
