"""What the evaluation of a Trainer gives, of every image once, however many processes share them."""

from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from transformers import EvalPrediction

from tailmoe.training.data import DecodedImages, LazyImages
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.metrics import accuracy_metrics, classification_metrics
from tailmoe.training.trainer.arguments import LongTailTrainingArguments


def trainer_metrics(
    prediction: EvalPrediction, class_counts: list[int] | None, args: LongTailTrainingArguments
) -> dict[str, float]:
    """The metrics of a split that are numbers, with those of the shot groups where the training images are known."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    bounds = None if class_counts is None else args.shot_bounds(class_counts)
    metrics = classification_metrics(logits, prediction.label_ids, class_counts, shot_bounds=bounds)
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def check_best_metric(args: LongTailTrainingArguments, images: object, class_counts: list[int] | None) -> None:
    """Raise `BadInputError` if `trainer_metrics` will not give the metric that the arguments choose a model by."""
    name = args.metric_for_best_model
    if name is None or class_counts is None or not isinstance(images, DecodedImages | LazyImages):
        return
    known = {"loss"}
    if not args.prediction_loss_only:
        labels = images.labels.cpu()
        best = accuracy_metrics(labels, labels, len(class_counts), class_counts, args.shot_bounds(class_counts))
        known |= {"ece", *(metric for metric, value in best.items() if isinstance(value, float))}
    if name.removeprefix("eval_") not in known:
        raise BadInputError(
            f"`metric_for_best_model` must be one of {', '.join(sorted(known))}, got {name}: of a shot group only if "
            "it has a class with evaluation images."
        )


def rows_once(accelerator: Accelerator, count: int) -> int | None:
    """How many of a batch's `count` images no other process has; None where no process repeats any.

    Processes get as many images each: in the last batch some of them repeat the first images of the split, which
    `gather_for_metrics` leaves out. The same on all processes whether a number or None: they compute in step. A batch of
    repeats alone counts whole, as all of it is left out.
    """
    loader = accelerator.gradient_state
    if accelerator.num_processes == 1 or not loader.end_of_dataloader or loader.remainder <= 0:
        return None
    own = loader.remainder - accelerator.process_index * count
    return min(own, count) if own > 0 else count


def share_statistics(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the first one's running statistics, such as batch normalisation's; a checkpoint has those."""
    buffers = list(model.buffers())
    if accelerator.num_processes > 1 and buffers:
        broadcast(buffers)
