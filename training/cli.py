"""The command `tailmoe`."""

import argparse
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tailmoe.training.cli_parser import BENCHMARK_PARTS, build_parser
from tailmoe.training.errors import BadInputError, FaultError, InterruptedTraining, NonFiniteLossError
from tailmoe.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from tailmoe.hub_cards.repository import Pushed


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 2 for bad input, 1 for failed training, 128 + n for a signal."""
    args = build_parser().parse_args(argv)
    _set_up_logging()
    keep_freed_memory()
    try:
        return COMMANDS[args.command](args)
    except BadInputError as error:
        return _fail(error, 2)
    except (NonFiniteLossError, FaultError, OSError) as error:
        return _fail(error, 1)
    except InterruptedTraining as stop:
        return _fail(stop, 128 + stop.received)
    except KeyboardInterrupt:
        return _fail("interrupted.", 128 + signal.SIGINT)


def _set_up_logging() -> None:
    """Our own messages and progress bars; of the libraries, errors alone."""
    import datasets
    from transformers.utils import logging as transformers_logging

    level = logging.INFO if _is_main_process() else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for library in ("httpx2", "datasets", "huggingface_hub", "matplotlib", "fsspec"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()


def _is_main_process() -> bool:
    """Whether this is the only process, or the first of those that `torchrun` or `accelerate launch` started."""
    return os.environ.get("RANK", "0") == "0"


def _fail(error: Exception | str, status: int) -> int:
    sys.stderr.write(f"tailmoe: {' '.join(str(error).split())}\n")
    return status


def _train(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.results_table import results_table
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.run import train_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    output_dir = args.output_dir or Path("runs") / recipe.name
    results = train_recipe(recipe, output_dir, args.seed, args.resume, args.overwrite)
    if _is_main_process():
        sys.stdout.write(f"\n{results_table(results)}\n\nThe run is in {output_dir}: README.md is its card.\n")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from tailmoe.training.evaluation import data_of_run, evaluate_model
    from tailmoe.training.terminal import metrics_lines

    data = data_of_run(args.model) if args.data is None else {"name": args.data}
    data |= {name: value for name, value in _columns(args).items() if value is not None}
    thresholds = args.early_exit_threshold
    if len(thresholds) > 1:
        return _early_exit_curve(args, data)
    options = args.split, args.on_bad_image, args.backend, thresholds[0] if thresholds else None
    metrics = evaluate_model(args.model, data, *options)
    sys.stdout.write("\n".join(metrics_lines(metrics)) + "\n")
    _write_json(args.json, metrics)
    return 0


def _early_exit_curve(args: argparse.Namespace, data: dict) -> int:
    from tailmoe.training.early_exit_curve import early_exit_curve
    from tailmoe.training.figures.early_exit import early_exit_figure
    from tailmoe.training.terminal import early_exit_table

    if args.backend != "torch":
        raise BadInputError(f"`--early-exit-threshold` is for `--backend torch`, got {args.backend}.")
    curve = early_exit_curve(args.model, args.early_exit_threshold, data, args.split, args.on_bad_image)
    sys.stdout.write("\n".join(early_exit_table(curve)) + "\n")
    _write_json(args.json, curve)
    if args.json is not None:
        early_exit_figure(curve, args.json.with_suffix(".png"))
    return 0


def _predict(args: argparse.Namespace) -> int:
    from tailmoe.training.evaluation import load_runner
    from tailmoe.training.prediction import predict_images
    from tailmoe.training.terminal import prediction_lines

    if args.top_k < 1:
        raise BadInputError(f"`--top-k` must be at least 1, got {args.top_k}.")
    run, model, processor = load_runner(args.model, args.backend)
    predictions = []
    try:
        for prediction in predict_images(run, model, processor, args.images, args.top_k, args.on_bad_image):
            predictions.append(prediction)
            sys.stdout.write("\n".join(prediction_lines(prediction)) + "\n")
            sys.stdout.flush()
    finally:
        if predictions:  # an image that cannot be read loses none of those before it
            _write_json(args.json, predictions)
    return 0


def _card(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.model_card import write_card

    sys.stdout.write(f"{write_card(args.run, args.repo_id)}\n")
    return 0


def _push(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.push import push_run

    _tell_pushed(push_run(args.run, args.repo, args.private, args.revision, args.create_pr))
    return 0


def _data(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.dataset import config_table, push_dataset, write_dataset

    if args.push is None and (args.private or args.revision or args.create_pr):
        raise BadInputError("`--private`, `--revision` and `--create-pr` are of a push: add `--push REPO`.")
    folder = args.output_dir or Path("runs") / "data" / Path(args.name).resolve().name
    about = write_dataset(folder, args.name, args.imbalance_factor, selection=args.selection, **_columns(args))
    sys.stdout.write(f"{config_table(about)}\n\nThe data set is in {folder}: README.md is its card.\n")
    if args.push is not None:
        _tell_pushed(push_dataset(folder, args.push, args.private, args.revision, args.create_pr))
    return 0


def _space(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.space import push_space

    _tell_pushed(push_space(args.repo, args.model, args.baseline, args.private))
    return 0


def _columns(args: argparse.Namespace) -> dict[str, str | None]:
    return {name: getattr(args, name) for name in ("image_column", "label_column", "config_name")}


def _tell_pushed(pushed: "Pushed") -> None:
    sys.stdout.write(f"{'Pushed' if pushed.changed else 'Nothing has changed'}: {pushed.url}\n")


def _demo(args: argparse.Namespace) -> int:
    from tailmoe.training.demo import run_demo

    run_demo(args.model, args.baseline, args.port)
    return 0


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

    recipe = load_recipe(args.recipe, args.overrides, with_baseline=not args.no_baseline)
    output_dir = args.output_dir or Path("runs") / f"{recipe.name}-study"
    study = run_study(recipe, args.seeds, output_dir, shlex.join(["tailmoe", *sys.argv[1:]]), args.jobs)
    sys.stdout.write(f"\n{results_table(study)}\n")
    _write_json(args.json, study)
    return 0


def _ablation(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.ablation_table import ablation_table
    from tailmoe.training.ablation import run_ablation

    output_dir = args.output_dir or Path("runs") / f"{Path(args.recipe).stem}-ablation"
    per_class = args.validation_per_class
    record = run_ablation(args.recipe, args.overrides, args.seeds, output_dir, per_class, args.groups, args.jobs)
    sys.stdout.write(f"\n{ablation_table(record)}\n")
    _write_json(args.json, record)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.pairs_table import CAPTION, pairs_table
    from tailmoe.training.figures.pairs import write_pair_figures
    from tailmoe.training.paired import compare, load_pairs

    studies = load_pairs(args.studies)
    sys.stdout.write(f"{pairs_table(studies)}\n\n{CAPTION}\n")
    for path in write_pair_figures(studies, args.output_dir):
        sys.stdout.write(f"{path}\n")
    _write_json(
        args.json, [{"name": study["name"], **tests} for study, tests in zip(studies, compare(studies), strict=True)]
    )
    return 0


def _write_json(path: Path | None, content: object) -> None:
    import json

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "card": _card,
    "push": _push,
    "data": _data,
    "space": _space,
    "demo": _demo,
    "benchmark": _benchmark,
    "study": _study,
    "ablation": _ablation,
    "compare": _compare,
}

if __name__ == "__main__":
    sys.exit(main())
