"""What `tailmoe` takes: its commands and their options."""

import argparse
import re
from pathlib import Path

from tailmoe.training import help_texts
from tailmoe.training.recipe_files import recipe_patterns

BENCHMARK_PARTS = ("data", "train", "trainer", "losses", "inference", "backbones", "memory")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `tailmoe`; `command` of what it parses is the name of the command."""
    parser = argparse.ArgumentParser("tailmoe", description=help_texts.DESCRIPTION, formatter_class=_HelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    train = _add(commands, "train", "train a recipe", help_texts.TRAIN.format(recipes=", ".join(recipe_patterns())))
    train.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    _add_recipe_options(train)
    train.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default 0)")
    train.add_argument("--resume", action="store_true", help="continue the interrupted run in the folder")
    train.add_argument("--overwrite", action="store_true", help="delete the run that is in the folder and start anew")

    evaluate = _add(commands, "evaluate", "measure a trained model", help_texts.EVALUATE)
    evaluate.add_argument("model", metavar="MODEL", help="folder of a run, or a Hub id")
    evaluate.add_argument(
        "--data", metavar="NAME|DIR|HUB_ID", help="images to measure (default: those held out from the run's training)"
    )
    evaluate.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="default test, or all images of --data where these have no splits",
    )
    _add_columns(evaluate)
    _add_on_bad_image(evaluate)
    _add_backend(evaluate)
    evaluate.add_argument(
        "--early-exit-threshold",
        type=float,
        nargs="+",
        default=[],
        metavar="T",
        help="ask experts until they are this sure, in (0, 1]; several draw accuracy against operations beside --json",
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write all metrics, with those of each class")

    predict = _add(commands, "predict", "name what is in images", help_texts.PREDICT)
    predict.add_argument("model", metavar="MODEL", help="folder of a run, or a Hub id")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or addresses of them")
    predict.add_argument("--top-k", type=int, default=3, help="labels shown (default 3)")
    _add_on_bad_image(predict)
    _add_backend(predict)
    predict.add_argument("--json", type=Path, metavar="FILE", help="write the predictions as JSON")

    card = _add(commands, "card", "render the card of a run anew", help_texts.CARD)
    card.add_argument("run", metavar="RUN", help="folder of a finished run")
    card.add_argument("--repo-id", metavar="OWNER/NAME", help="the repository that the card's example loads from")

    push = _add(commands, "push", "push a run to the Hub", help_texts.PUSH)
    push.add_argument("run", metavar="RUN", help="folder of a finished run")
    push.add_argument("repo", metavar="REPO", help="OWNER/NAME; created if it does not exist")
    _add_push_options(push)

    space = _add(commands, "space", "push the demo of a model to the Hub", help_texts.SPACE)
    space.add_argument("repo", metavar="REPO", help="OWNER/NAME of the Space; created if it does not exist")
    space.add_argument("--model", required=True, metavar="REPO", help="the model's repository")
    space.add_argument("--baseline", metavar="REPO", help="repository of the model to compare with")
    space.add_argument("--private", action="store_true", help="make a Space that is created private")

    data = _add(commands, "data", "what is understood of a data set; long-tailed splits of it", help_texts.DATA)
    data.add_argument("name", metavar="NAME|DIR|HUB_ID", help="data set the splits are made of")
    data.add_argument(
        "--imbalance-factor",
        type=float,
        nargs="+",
        default=[],
        metavar="F",
        help="largest class over smallest, one config for each (default: one config, the data as it is)",
    )
    data.add_argument(
        "--selection", default="first", choices=("first", "shuffled"), help="images kept (default first)"
    )
    _add_columns(data)
    data.add_argument(
        "--output-dir", type=Path, help="folder written to (default runs/data/NAME, with --imbalance-factor or --push)"
    )
    data.add_argument("--push", metavar="REPO", help="push it to the Hub, as OWNER/NAME; created if it does not exist")
    _add_push_options(data)

    demo = _add(commands, "demo", "the demo page on this machine", help_texts.DEMO)
    demo.add_argument(
        "model", metavar="MODEL", nargs="?", help="folder of a run, or a Hub id (default: what ships with tailmoe)"
    )
    demo.add_argument("--baseline", metavar="MODEL", help="model to compare with (default: the run's own baseline)")
    demo.add_argument("--port", type=int, help="port of the page (default: the first free one from 7860 on)")

    benchmark = _add(commands, "benchmark", "measure how fast this machine trains and predicts", help_texts.BENCHMARK)
    benchmark.add_argument(
        "parts", metavar="PART", nargs="*", help=f"any of {', '.join(BENCHMARK_PARTS)} (default all but memory)"
    )
    benchmark.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default cpu")
    benchmark.add_argument("--repeats", type=int, default=10, help="rounds of each measurement (default 10)")
    benchmark.add_argument("--json", type=Path, metavar="FILE", help="write all figures, with their spread")

    study = _add(commands, "study", "train recipes with many seeds and summarise", help_texts.STUDY)
    study.add_argument("recipes", metavar="RECIPE", nargs="+", help="names of recipes, or YAML files")
    _add_recipe_options(study, "runs/RECIPE-study; of several recipes each has its folder in it, default runs")
    study.add_argument("--no-baseline", action="store_true", help="leave out the baselines that recipes name")
    study.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="such as 0..4 or 0,3,7 (default 0..2)")
    _add_jobs(study)
    study.add_argument(
        "--json",
        type=Path,
        metavar="FILE|DIR",
        help="also write the summary here; a folder gets RECIPE.json as soon as the study of a recipe is whole",
    )

    ablation = _add(commands, "ablation", "change a recipe in one thing at a time and compare", help_texts.ABLATION)
    ablation.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    ablation.add_argument("groups", metavar="GROUP", nargs="*", help="groups of changes to run (default all)")
    _add_recipe_options(ablation)
    ablation.add_argument("--seeds", type=_seeds, default=[0], help="such as 0..4 or 0,3,7 (default 0)")
    ablation.add_argument(
        "--validation-per-class",
        type=int,
        default=50,
        metavar="N",
        help="training images of each class to measure on, instead of the test split (default 50)",
    )
    _add_jobs(ablation)
    ablation.add_argument("--json", type=Path, metavar="FILE", help="also write the record here")

    compare = _add(commands, "compare", "test what studies with a baseline found", help_texts.COMPARE)
    compare.add_argument("studies", metavar="STUDY", nargs="+", help="folder of a study, or the file of its --json")
    compare.add_argument(
        "--output-dir", type=Path, default=Path("runs/compare"), help="folder of the figures (default runs/compare)"
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="also write every test here")
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)


def _add(commands, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=description, formatter_class=_HelpFormatter)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings side by side, sharing the cores (default 1)"
    )
    parser.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="TIME",
        help="save and stop after this time, such as 2h30m or 45m; the same command goes on",
    )


def _add_recipe_options(parser: argparse.ArgumentParser, default_folder: str = "runs/RECIPE") -> None:
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change keys of the recipe",
    )
    parser.add_argument("--output-dir", type=Path, help=f"folder written to (default {default_folder})")


def _add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-column", help="column of the images, when several could be meant")
    parser.add_argument("--label-column", help="column of the labels, when several could be meant")
    parser.add_argument("--config-name", help="config of a data set on the Hub that has several")
    parser.add_argument("--class-depth", type=int, metavar="N", help="folders that name a class, 2: a/b (default 1)")


def _add_push_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--private", action="store_true", help="make a repository that is created private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to; created if missing (default main)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of a commit")


def _add_on_bad_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-bad-image",
        default="error",
        choices=("error", "skip"),
        help="stop at an image that cannot be read, or leave it out and name it (default error)",
    )


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        default="torch",
        choices=("torch", "onnx"),
        help="what runs the model (default torch); onnx keeps its export in MODEL/onnx for the next time",
    )


def _seeds(text: str) -> list[int]:
    try:
        if ".." in text:
            first, last = (int(part) for part in text.split(".."))
            seeds = list(range(first, last + 1))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"seeds must look like 0..4 or 0,3,7, got {text}")
    return seeds


def _seconds(text: str) -> float:
    parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0, 0)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise argparse.ArgumentTypeError(f"a time must look like 2h30m, 45m or 1d12h, got {text}")
    return float(total)
