"""The commands that use a trained model."""

import sys
from typing import Annotated, Literal

from typer import Argument, Option

from tailmoe.training.cli.options import (
    Backend,
    ClassDepth,
    ConfigName,
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
        curve = early_exit_curve(model, early_exit_threshold, images, split, on_bad_image, raw_logits)
        sys.stdout.write("\n".join(early_exit_table(curve)) + "\n")
        write_json(json, curve)
        if json is not None:
            early_exit_figure(curve, json.with_suffix(".png"))
        return
    threshold = early_exit_threshold[0] if early_exit_threshold else None
    metrics = evaluate_model(model, images, split, on_bad_image, backend, threshold, raw_logits)
    sys.stdout.write("\n".join(metrics_lines(metrics)) + "\n")
    write_json(json, metrics)


def predict(
    model: Model,
    images: Annotated[list[str], Argument(metavar="IMAGE", help="image files, or addresses of them")],
    top_k: Annotated[int, Option(metavar="K", help="labels shown")] = 3,
    on_bad_image: OnBadImage = "error",
    backend: Backend = "torch",
    json: Json = None,
) -> None:
    """Name what is in images.

    Told are the most probable labels, and what each expert and the gate made of
    them. Each answer is written as soon as it is known; --json writes all of
    them at the end, also where an image that cannot be read or Ctrl-C ended it.

    \b
      tailmoe predict runs/quickstart shoe.png shirt.png
      tailmoe predict runs/quickstart *.png --on-bad-image skip --json all.json
      tailmoe predict runs/quickstart shoe.png --backend onnx
    """
    from tailmoe.training.cli.terminal import prediction_lines
    from tailmoe.training.evaluation.evaluate import load_runner
    from tailmoe.training.evaluation.predict import predict_images

    if top_k < 1:
        raise BadInputError(f"`--top-k` must be at least 1, got {top_k}.")
    run, network, processor = load_runner(model, backend)
    predictions = []
    try:
        for prediction in predict_images(run, network, processor, images, top_k, on_bad_image):
            predictions.append(prediction)
            sys.stdout.write("\n".join(prediction_lines(prediction)) + "\n")
            sys.stdout.flush()
    finally:
        if predictions:  # an image that cannot be read loses none of those before it
            write_json(json, predictions)


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
