"""The commands that use a trained model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from tailmoe.training.cli.options import (
    Backend,
    ClassDepth,
    ConfigName,
    Csv,
    ImageColumn,
    Json,
    LabelColumn,
    Model,
    OnBadImage,
    given,
    write_json,
)
from tailmoe.training.errors import BadInputError


def evaluate(
    model: Model,
    data: Annotated[
        str | None,
        Option(metavar="NAME|DIR|HUB_ID", help="images to measure; if left out, those held out from its training"),
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        Option(help="if left out, test, or all images of --data where these have no splits"),
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    config_name: ConfigName = None,
    class_depth: ClassDepth = None,
    on_bad_image: OnBadImage = "error",
    backend: Backend = "torch",
    early_exit_threshold: Annotated[
        list[float],
        Option(
            metavar="T...",
            help="ask experts until they are this sure, in (0, 1]; several draw accuracy against operations beside --json",
        ),
    ] = (),
    csv: Csv = None,
    json: Json = None,
) -> None:
    """Measure a trained model.

    Told are accuracy overall and balanced, of many-, medium- and few-shot
    classes, per expert, and the calibration error. Shot groups are those of the
    images the model was trained on. Images that are given by --data are all
    measured, or those of one of their splits.

    \b
      tailmoe evaluate runs/quickstart
      tailmoe evaluate runs/quickstart --data PATH/TO/IMAGES --json metrics.json
      tailmoe evaluate runs/quickstart --data PATH/TO/IMAGES --split train
      tailmoe evaluate runs/quickstart --backend onnx

    --csv tells what goes wrong: file, true label and its probability, the three
    most probable labels, agreement of the experts; the label with the least
    probability first. `label_looks_wrong` says yes where another class fits the
    image as well as the images of that class; of images it was not trained on.

    \b
      tailmoe evaluate runs/quickstart --data PATH/TO/IMAGES --csv images.csv

    With early exit the experts of an ICL-MoE are asked in order, for each image
    until the mean of those asked gives one class at least the threshold's
    probability; told are the experts asked and the floating-point operations
    saved. With several thresholds all are measured; --json then writes the
    record, and draws it beside.

    \b
      tailmoe evaluate runs/quickstart --early-exit-threshold 0.7
      tailmoe evaluate runs/quickstart --early-exit-threshold 0.5 0.6 0.7 0.8 \\
          --json early-exit.json
    """
    from tailmoe.training.cli.terminal import early_exit_table, metrics_lines
    from tailmoe.training.evaluation.evaluate import data_of_run, evaluate_model

    raw_logits = data is None
    images = data_of_run(model) if raw_logits else {"name": data}
    images |= given(
        image_column=image_column, label_column=label_column, config_name=config_name, class_depth=class_depth
    )
    split = split or ("test" if raw_logits else None)
    if len(early_exit_threshold) > 1:
        from tailmoe.training.evaluation.early_exit_curve import early_exit_curve
        from tailmoe.training.figures.early_exit import early_exit_figure

        if backend != "torch":
            raise BadInputError(f"`--early-exit-threshold` is for `--backend torch`, got {backend}.")
        if csv is not None:
            raise BadInputError("`--csv` is of one `--early-exit-threshold`, got several: give one of them.")
        curve = early_exit_curve(model, early_exit_threshold, images, split, on_bad_image, raw_logits)
        sys.stdout.write("\n".join(early_exit_table(curve)) + "\n")
        write_json(json, curve)
        if json is not None:
            early_exit_figure(curve, json.with_suffix(".png"))
        return
    threshold = early_exit_threshold[0] if early_exit_threshold else None
    metrics = evaluate_model(model, images, split, on_bad_image, backend, threshold, raw_logits, csv)
    sys.stdout.write("\n".join(metrics_lines(metrics)) + "\n")
    write_json(json, metrics)


def predict(
    model: Model,
    images: Annotated[
        list[str], Argument(metavar="IMAGE|FOLDER", help="image files, addresses of them, or folders of them")
    ],
    top_k: Annotated[int, Option(metavar="K", help="labels shown")] = 3,
    on_bad_image: OnBadImage = "error",
    backend: Backend = "torch",
    csv: Csv = None,
    json: Json = None,
) -> None:
    """Name what is in images.

    Told are the most probable labels, and what each expert and the gate made of
    them. Each answer is written as soon as it is known; --json writes all of
    them at the end, also where an image that cannot be read or Ctrl-C ended it.
    Folders are read with those below them.

    \b
      tailmoe predict runs/quickstart shoe.png shirt.png
      tailmoe predict runs/quickstart *.png --on-bad-image skip --json all.json
      tailmoe predict runs/quickstart shoe.png --backend onnx

    With --csv a table takes the place of what is shown: file, the K most
    probable labels with their probabilities, and agreement, the share of the
    experts that give the first label.

    \b
      tailmoe predict runs/quickstart FOLDER --csv answers.csv
    """
    from tailmoe.training.evaluation.evaluate import load_runner
    from tailmoe.training.evaluation.predict import image_files, predict_images

    if top_k < 1:
        raise BadInputError(f"`--top-k` must be at least 1, got {top_k}.")
    files = image_files(images)
    answers = predict_images(*load_runner(model, backend), files, top_k, on_bad_image)
    kept = []
    try:
        for answer in _written(answers, len(files), csv):
            if json is not None:
                kept.append(answer)
    finally:
        if kept:  # an image that cannot be read loses none of those before it
            write_json(json, kept)


def _written(answers: Iterator[dict], number: int, csv: Path | None) -> Iterator[dict]:
    """The answers, each written before it is yielded: into a table, or where the command is seen."""
    from tqdm.auto import tqdm

    from tailmoe.training.cli.terminal import prediction_lines
    from tailmoe.training.evaluation.answers import AnswerTable, predicted_row

    bar = tqdm(answers, "Predicting", number, unit="image", leave=False, disable=None)
    if csv is None:
        for answer in bar:
            tqdm.write("\n".join(prediction_lines(answer)), file=sys.stdout)
            sys.stdout.flush()
            yield answer
        return
    with AnswerTable(csv) as table:
        for answer in bar:
            table.write(predicted_row(answer))
            yield answer
    sys.stdout.write(f"{table.num_rows:,} of {number:,} images are in {csv}.\n")


def demo(
    model: Annotated[
        str | None,
        Argument(metavar="MODEL", help="folder of a run, or a Hub id; if left out, what ships with tailmoe"),
    ] = None,
    baseline: Annotated[
        str | None, Option(metavar="MODEL", help="model to compare with; if left out, the run's own baseline")
    ] = None,
    port: Annotated[
        int | None, Option(metavar="N", help="port of the page", show_default="the first free one from 7860 on")
    ] = None,
) -> None:
    """Open the demo's page on this machine.

    It shows what each expert sees in an image, beside plain cross-entropy where
    there is a baseline. Without MODEL it shows the pair that ships with
    tailmoe. Ctrl-C ends it.

    \b
      tailmoe demo
      tailmoe demo runs/quickstart
      tailmoe demo me/icl-moe-birds --baseline me/cross-entropy-birds
    """
    from tailmoe.hub_cards.demo import run_demo

    run_demo(model, baseline, port)
