"""The command `tailmoe`."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tailmoe.training.cli_parser import BENCHMARK_PARTS, build_parser
from tailmoe.training.errors import EXPECTED, BadInputError, exit_status
from tailmoe.training.logs import is_main_process, set_up_logging
from tailmoe.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from tailmoe.hub_cards.repository import Pushed
    from tailmoe.training.results import StudyResults


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 or that of the error, see `tailmoe.training.errors`."""
    args = build_parser().parse_args(argv)
    set_up_logging()
    keep_freed_memory()
    try:
        return COMMANDS[args.command](args)
    except EXPECTED as error:
        said = "interrupted." if isinstance(error, KeyboardInterrupt) else " ".join(str(error).split())
        sys.stderr.write(f"tailmoe: {said}\n")
        return exit_status(error)


def _train(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.model_card import write_cards
    from tailmoe.hub_cards.results_table import results_table
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.run import train_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    output_dir = args.output_dir or Path("runs") / recipe.name
    results = train_recipe(recipe, output_dir, args.seed, args.resume, args.overwrite)
    if is_main_process():
        write_cards(output_dir)
        sys.stdout.write(f"\n{results_table(results)}\n\nThe run is in {output_dir}: README.md is its card.\n")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from tailmoe.training.evaluation import data_of_run, evaluate_model
    from tailmoe.training.terminal import metrics_lines

    as_trained = args.data is None
    data = data_of_run(args.model) if as_trained else {"name": args.data}
    data |= {name: value for name, value in _columns(args).items() if value is not None}
    thresholds = args.early_exit_threshold
    args.split = args.split or ("test" if as_trained else None)
    if len(thresholds) > 1:
        return _early_exit_curve(args, data, as_trained)
    options = args.split, args.on_bad_image, args.backend, thresholds[0] if thresholds else None, as_trained
    metrics = evaluate_model(args.model, data, *options)
    sys.stdout.write("\n".join(metrics_lines(metrics)) + "\n")
    _write_json(args.json, metrics)
    return 0


def _early_exit_curve(args: argparse.Namespace, data: dict, as_trained: bool) -> int:
    from tailmoe.training.early_exit_curve import early_exit_curve
    from tailmoe.training.figures.early_exit import early_exit_figure
    from tailmoe.training.terminal import early_exit_table

    if args.backend != "torch":
        raise BadInputError(f"`--early-exit-threshold` is for `--backend torch`, got {args.backend}.")
    options = args.split, args.on_bad_image, as_trained
    curve = early_exit_curve(args.model, args.early_exit_threshold, data, *options)
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
    if not args.imbalance_factor and args.output_dir is None and args.push is None:
        return _inspect(args)
    folder = args.output_dir or Path("runs") / "data" / Path(args.name).resolve().name
    about = write_dataset(folder, args.name, args.imbalance_factor, selection=args.selection, **_columns(args))
    sys.stdout.write(f"{config_table(about)}\n\nThe data set is in {folder}: README.md is its card.\n")
    if args.push is not None:
        _tell_pushed(push_dataset(folder, args.push, args.private, args.revision, args.create_pr))
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.images_table import images_report
    from tailmoe.training.data.inspection import inspect_images

    sys.stdout.write(f"{images_report(inspect_images(args.name, **_columns(args)))}\n")
    return 0


def _space(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.space import push_space

    _tell_pushed(push_space(args.repo, args.model, args.baseline, args.private))
    return 0


def _columns(args: argparse.Namespace) -> dict[str, str | int | None]:
    return {name: getattr(args, name) for name in ("image_column", "label_column", "config_name", "class_depth")}


def _tell_pushed(pushed: "Pushed") -> None:
    sys.stdout.write(f"{'Pushed' if pushed.changed else 'Nothing has changed'}: {pushed.url}\n")


def _demo(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.demo import run_demo

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
    from tailmoe.hub_cards.model_card import write_cards
    from tailmoe.hub_cards.results_table import results_table, studies_table
    from tailmoe.training.recipe import load_recipe
    from tailmoe.training.study import run_studies

    several = len(args.recipes) > 1
    if several and args.json is not None and args.json.suffix == ".json":
        raise BadInputError(f"`--json` must be a folder where there are several recipes, got {args.json}.")
    studies = {}
    for source in args.recipes:
        recipe = load_recipe(source, args.overrides, with_baseline=not args.no_baseline)
        folder = (args.output_dir or Path("runs")) / f"{recipe.name}-study"
        folder = folder if several or args.output_dir is None else args.output_dir
        if folder in studies:
            raise BadInputError(f"Recipe `{recipe.name}` is given twice.")
        studies[folder] = recipe

    def write(folder: Path, study: "StudyResults | None") -> None:
        write_cards(folder)
        if study is not None and args.json is not None:
            study.save(args.json if args.json.suffix == ".json" else args.json / f"{study.name}.json")

    command = shlex.join(["tailmoe", *sys.argv[1:]])
    done = run_studies(studies, args.seeds, command, args.jobs, args.time_limit, on_finished=write)
    summaries = [done[folder] for folder in studies]
    sys.stdout.write(f"\n{studies_table(summaries) if several else results_table(summaries[0])}\n")
    return 0


def _ablation(args: argparse.Namespace) -> int:
    from tailmoe.hub_cards.ablation_table import ablation_table
    from tailmoe.hub_cards.model_card import write_cards
    from tailmoe.training.ablation import run_ablation

    output_dir = args.output_dir or Path("runs") / f"{Path(args.recipe).stem}-ablation"
    options = args.validation_per_class, args.groups, args.jobs, args.time_limit
    record = run_ablation(
        args.recipe, args.overrides, args.seeds, output_dir, *options, lambda folder, _: write_cards(folder)
    )
    sys.stdout.write(f"\n{ablation_table(record)}\n")
    if args.json is not None:
        record.save(args.json)
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
        args.json, [{"name": study.name, **tests} for study, tests in zip(studies, compare(studies), strict=True)]
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
