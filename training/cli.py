"""The command `tailmoe`."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tailmoe.training import help_texts
from tailmoe.training.errors import BadInputError, InterruptedTraining, NonFiniteLossError
from tailmoe.training.memory import keep_freed_memory

BENCHMARK_PARTS = ("data", "train", "trainer", "losses", "inference", "growth")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 2 for bad input, 1 for failed training, 128 + n for a signal."""
    args = _parser().parse_args(argv)
    _set_up_logging()
    keep_freed_memory()
    try:
        return args.command(args)
    except BadInputError as error:
        return _fail(error, 2)
    except NonFiniteLossError as error:
        return _fail(error, 1)
    except InterruptedTraining as stop:
        return _fail(stop, 128 + stop.received)
    except KeyboardInterrupt:
        return _fail("interrupted.", 128 + signal.SIGINT)


def _set_up_logging() -> None:
    """Our own messages and progress bars; of the libraries, errors alone."""
    import datasets
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for library in ("httpx", "datasets", "huggingface_hub", "matplotlib", "fsspec"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()


def _fail(error: Exception | str, status: int) -> int:
    sys.stderr.write(f"tailmoe: {error}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tailmoe", description=help_texts.DESCRIPTION, formatter_class=_HelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = _add(
        commands, "train", _train, "train a recipe", help_texts.TRAIN.format(recipes=", ".join(_shipped_recipes()))
    )
    train.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    _add_recipe_options(train)
    train.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default 0)")
    train.add_argument("--resume", action="store_true", help="continue the interrupted run in the folder")
    train.add_argument("--overwrite", action="store_true", help="delete the run that is in the folder and start anew")

    evaluate = _add(commands, "evaluate", _evaluate, "measure a trained model", help_texts.EVALUATE)
    evaluate.add_argument("model", metavar="MODEL", help="folder of a run, or a Hub id")
    evaluate.add_argument("--data", metavar="NAME|DIR|HUB_ID", help="data set (default: the one of the run)")
    evaluate.add_argument("--split", default="test", choices=("train", "test"), help="default test")
    evaluate.add_argument("--image-column", help="column of the images, when several could be meant")
    evaluate.add_argument("--label-column", help="column of the labels, when several could be meant")
    evaluate.add_argument("--on-bad-image", default="error", choices=("error", "skip"), help="default error")
    _add_backend(evaluate)
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write all metrics, with those of each class")

    predict = _add(commands, "predict", _predict, "name what is in images", help_texts.PREDICT)
    predict.add_argument("model", metavar="MODEL", help="folder of a run, or a Hub id")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    predict.add_argument("--top-k", type=int, default=3, help="labels shown (default 3)")
    _add_backend(predict)
    predict.add_argument("--json", type=Path, metavar="FILE", help="write the predictions as JSON")

    card = _add(commands, "card", _card, "render the card of a run anew", help_texts.CARD)
    card.add_argument("run", metavar="RUN", help="folder of a finished run")
    card.add_argument("--repo-id", metavar="OWNER/NAME", help="the repository that the card's example loads from")

    push = _add(commands, "push", _push, "push a run to the Hub", help_texts.PUSH)
    push.add_argument("run", metavar="RUN", help="folder of a finished run")
    push.add_argument("repo", metavar="REPO", help="OWNER/NAME; created if it does not exist")
    push.add_argument("--private", action="store_true", help="make a repository that is created private")
    push.add_argument("--revision", metavar="BRANCH", help="branch to push to; created if missing (default main)")
    push.add_argument("--create-pr", action="store_true", help="open a pull request instead of a commit")

    demo = _add(commands, "demo", _demo, "the demo page on this machine", help_texts.DEMO)
    demo.add_argument("model", metavar="MODEL", help="folder of a run, or a Hub id")
    demo.add_argument("--port", type=int, help="port of the page (default: the first free one from 7860 on)")

    benchmark = _add(
        commands, "benchmark", _benchmark, "measure how fast this machine trains and predicts", help_texts.BENCHMARK
    )
    benchmark.add_argument(
        "parts", metavar="PART", nargs="*", help=f"any of {', '.join(BENCHMARK_PARTS)} (default all)"
    )
    benchmark.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default cpu")
    benchmark.add_argument("--repeats", type=int, default=10, help="rounds of each measurement (default 10)")
    benchmark.add_argument("--json", type=Path, metavar="FILE", help="write all figures, with their spread")

    study = _add(commands, "study", _study, "train many seeds and summarise", help_texts.STUDY)
    study.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    _add_recipe_options(study)
    study.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="such as 0..4 or 0,3,7 (default 0..2)")
    study.add_argument("--json", type=Path, metavar="FILE", help="also write the summary here")
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=110)


def _add(commands, name: str, command: Callable, summary: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=description, formatter_class=_HelpFormatter)
    parser.set_defaults(command=command)
    return parser


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change a key of the recipe"
    )
    parser.add_argument("--output-dir", type=Path, help="folder written to (default runs/RECIPE)")


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        default="torch",
        choices=("torch", "onnx"),
        help="what runs the model (default torch); onnx keeps its export in MODEL/onnx for the next time",
    )


def _shipped_recipes() -> list[str]:
    # without importing the recipes' module: --help must not wait for torch
    return sorted(path.stem for path in (Path(__file__).parent / "recipes").glob("*.yaml"))


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


def _train(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.results_table import results_table
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.run import train_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    output_dir = args.output_dir or Path("runs") / recipe.name
    results = train_recipe(recipe, output_dir, args.seed, args.resume, args.overwrite)
    sys.stdout.write(f"\n{results_table(results)}\n\nThe run is in {output_dir}: README.md is its card.\n")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from tailmoe.training.evaluation import data_of_run, evaluate_model
    from tailmoe.training.terminal import metrics_lines

    data = data_of_run(args.model) if args.data is None else {"name": args.data}
    for column in ("image_column", "label_column"):
        if getattr(args, column) is not None:
            data[column] = getattr(args, column)
    metrics = evaluate_model(args.model, data, args.split, args.on_bad_image, args.backend)
    sys.stdout.write("\n".join(metrics_lines(metrics)) + "\n")
    _write_json(args.json, metrics)
    return 0


def _predict(args: argparse.Namespace) -> int:
    from tailmoe.training.evaluation import load_runner, predict_images
    from tailmoe.training.terminal import prediction_lines

    if args.top_k < 1:
        raise BadInputError(f"`--top-k` must be at least 1, got {args.top_k}.")
    run, model, processor = load_runner(args.model, args.backend)
    predictions = predict_images(run, model, processor, args.images, args.top_k)
    for prediction in predictions:
        sys.stdout.write("\n".join(prediction_lines(prediction)) + "\n")
    _write_json(args.json, predictions)
    return 0


def _card(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.model_card import write_card

    sys.stdout.write(f"{write_card(args.run, args.repo_id)}\n")
    return 0


def _push(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.push import push_run

    pushed = push_run(args.run, args.repo, args.private, args.revision, args.create_pr)
    sys.stdout.write(f"{'Pushed' if pushed.changed else 'Nothing has changed'}: {pushed.url}\n")
    return 0


def _demo(args: argparse.Namespace) -> None:
    from tailmoe.training.demo import run_demo

    run_demo(args.model, args.port)


def _benchmark(args: argparse.Namespace) -> int:
    for part in args.parts:
        if part not in BENCHMARK_PARTS:
            raise BadInputError(f"`{part}` is not a part of the benchmark; give any of {', '.join(BENCHMARK_PARTS)}.")
    from tailmoe.hub_cards.benchmark_table import benchmark_table
    from tailmoe.training.benchmark.run import run_benchmark

    record = run_benchmark(args.parts, args.device, args.repeats, args.json)
    sys.stdout.write(f"\n{benchmark_table(record)}\n")
    return 0


def _study(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.results_table import results_table
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.study import run_study

    recipe = load_recipe(args.recipe, args.overrides)
    output_dir = args.output_dir or Path("runs") / f"{recipe.name}-study"
    study = run_study(recipe, args.seeds, output_dir, " ".join(["tailmoe", *sys.argv[1:]]))
    sys.stdout.write(f"\n{results_table(study)}\n")
    _write_json(args.json, study)
    return 0


def _write_json(path: Path | None, content: object) -> None:
    import json

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
