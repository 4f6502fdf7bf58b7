"""Accuracy against operations: a saved model with early exit at several thresholds."""

from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from tailmoe.training.evaluation.early_exit import set_early_exit
from tailmoe.training.evaluation.evaluate import evaluate_images, images_for_model, load_model, shot_bounds_of
from tailmoe.training.results.environment import describe_environment
from tailmoe.training.results.scores import ACCURACIES

METRICS = (*ACCURACIES.values(), "ece", "early_exit")


def early_exit_curve(
    model_name: str,
    thresholds: Sequence[float],
    data: dict,
    split: str | None = "test",
    on_bad_image: str = "error",
    raw_logits: bool = True,
) -> dict:
    """Metrics of a saved model at several thresholds and without early exit, with the environment they were measured in.

    Args, Raises: As `evaluate_model`.

    Returns:
        `model`, `data`, `split`, `num_images`; `without`, the metrics of the whole ensemble; `points`, those at each
        threshold, with what `early_exit_metrics` returns in `early_exit`; and `describe_environment`.
    """
    model, processor = load_model(model_name)
    for threshold in thresholds:  # a wrong one is told before anything is measured
        set_early_exit(model, threshold)
    images = images_for_model(model_name, model, processor, data, split, on_bad_image, raw_logits)
    counts = getattr(model.config, "class_counts", None)
    bounds, results = shot_bounds_of(model_name, counts), []
    for threshold in tqdm([None, *sorted(thresholds)], desc="Thresholds", leave=False, disable=None):
        model.config.early_exit_threshold = threshold
        metrics = evaluate_images(model, processor, images, counts, on_bad_image, shot_bounds=bounds)
        results.append({name: metrics[name] for name in METRICS if name in metrics})
    return {
        "model": Path(model_name).name,
        "data": data,
        "split": split,
        "num_images": len(images),
        "without": results[0],
        "points": results[1:],
        **describe_environment(),
    }
