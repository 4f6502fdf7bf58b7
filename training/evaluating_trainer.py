"""Evaluation of a Trainer: every image counts once, however many processes share them."""

import datasets
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import BaseImageProcessor, EvalPrediction
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.data import DecodedImages, EncodedImages, load_images
from tailmoe.training.errors import BadInputError
from tailmoe.training.metrics import accuracy_metrics, classification_metrics
from tailmoe.training.safe_trainer import SafeTrainer


def check_skipping(images: Dataset | None, args: LongTailTrainingArguments) -> None:
    """Raise `BadInputError` if several processes would skip images of batches that they share."""
    if args.world_size > 1 and isinstance(images, EncodedImages) and args.on_bad_image == "skip":
        raise BadInputError("Several processes cannot skip images of a batch: mend them, `on_bad_image: error`.")


def loaded(dataset: object, processor: BaseImageProcessor, args: LongTailTrainingArguments, desc: str) -> object:
    """The images of a `datasets.Dataset`, or of each in a dict of them; anything else as it is."""
    if isinstance(dataset, dict):
        return {name: loaded(each, processor, args, desc) for name, each in dataset.items()}
    if not isinstance(dataset, datasets.Dataset):
        return dataset
    return load_images(dataset, processor, args.on_bad_image, args.image_memory_share, desc)


class EvaluatingTrainer(SafeTrainer):
    """What `LongTailTrainer` does to evaluate; see there.

    Processes get as many images each: the last of them repeat the first images of the split. What was gathered leaves
    them out, and so does the loss, which transformers takes of whole batches.
    """

    def check_best_metric(self) -> None:
        """Raise `BadInputError` if evaluation will not give the metric that the arguments choose a model by."""
        name, images = self.args.metric_for_best_model, self.eval_dataset
        ours = self.compute_metrics == self._compute_metrics and isinstance(images, DecodedImages | EncodedImages)
        if name is None or self.class_counts is None or not ours:
            return
        known = {"loss"}
        if not self.args.prediction_loss_only:
            labels, bounds = images.labels.cpu(), self._shot_bounds(self.class_counts)
            best = accuracy_metrics(labels, labels, len(self.class_counts), self.class_counts, bounds)
            known |= {"ece", *(metric for metric, value in best.items() if isinstance(value, float))}
        if name.removeprefix("eval_") not in known:
            raise BadInputError(
                f"`metric_for_best_model` must be one of {', '.join(sorted(known))}, got {name}: of a shot group only if "
                "it has a class with evaluation images."
            )

    def share_statistics(self) -> None:
        """Give every process the first one's running statistics, such as batch normalisation's; a checkpoint has those."""
        buffers = list(self.model.buffers())
        if self.args.world_size > 1 and buffers:
            broadcast(buffers)

    def evaluate(self, eval_dataset: object = None, *args, **kwargs) -> dict[str, float]:
        """As in transformers, of any split that `LongTailTrainer` takes."""
        return super().evaluate(self._loaded(eval_dataset), *args, **kwargs)

    def predict(self, test_dataset: object, *args, **kwargs) -> PredictionOutput:
        """As in transformers, of any split that `LongTailTrainer` takes."""
        return super().predict(self._loaded(test_dataset), *args, **kwargs)

    def _loaded(self, dataset: object) -> object:
        return loaded(dataset, self.processing_class, self.args, "Decoding images")

    def evaluation_loop(self, dataloader: DataLoader, *args, **kwargs) -> EvalLoopOutput:
        """As in transformers, by processes that hold the same model."""
        check_skipping(dataloader.dataset, self.args)
        self.share_statistics()
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, object]:
        """The model's own loss in evaluation, without images that another batch has already."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        rows = self._rows_once(len(inputs["labels"]))
        if rows is not None:
            loss = super().compute_loss(model, {name: value[:rows] for name, value in inputs.items()})
        return (loss, outputs) if return_outputs else loss

    def _rows_once(self, count: int) -> int | None:
        """How many of a batch's first images no other has; None where no process repeats any.

        The same on all processes whether a number or None: they compute in step. A batch of repeats alone counts whole,
        as what was gathered leaves it out.
        """
        loader = self.accelerator.gradient_state
        if self.args.world_size == 1 or not loader.end_of_dataloader or loader.remainder <= 0:
            return None
        own = loader.remainder - self.args.process_index * count
        return min(own, count) if own > 0 else count

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        counts = self.class_counts or getattr(self.model.config, "class_counts", None)
        bounds = counts and self._shot_bounds(counts)
        metrics = classification_metrics(logits, prediction.label_ids, counts, shot_bounds=bounds)
        return {name: value for name, value in metrics.items() if isinstance(value, float)}
