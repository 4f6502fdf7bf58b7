"""A trained model, and its metrics on a split."""

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedModel,
)
from transformers.utils import cached_file

import tailmoe.modeling  # noqa: F401 (registers our models)
from tailmoe.training.data import DecodedImages, LazyImages, load_images, load_long_tailed
from tailmoe.training.data.lazy_images import image_loader, report_unreadable
from tailmoe.training.data.long_tailed import label_array
from tailmoe.training.data.normalization import Normalization
from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.data.splits import load_split
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.answers import write_labelled
from tailmoe.training.evaluation.early_exit import early_exit_metrics, set_early_exit
from tailmoe.training.evaluation.inference import OUTPUTS, Runner, fuse_for_inference, onnx_runner
from tailmoe.training.evaluation.metrics import (
    classification_metrics,
    expert_specialization_entropy,
    gate_load_balance,
    pairwise_embedding_similarity,
)
from tailmoe.training.evaluation.weights import check_weights
from tailmoe.training.faults import naming_faults
from tailmoe.training.results.results import RESULTS_NAME, RunResults

BATCH_SIZE = 256


def load_model(model: str) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A model fused for inference and its image processor, from a run's folder or a Hub id.

    Raises:
        BadInputError: If there is no image classification model of that name, or its weights are of another network.
    """
    path = Path(model)
    if path.exists() and not (path / "config.json").is_file():
        raise BadInputError(f"`{model}` is not a model: it holds no config.json. Give a run's folder or a Hub id.")
    try:
        loaded, weights = AutoModelForImageClassification.from_pretrained(model, output_loading_info=True)
        processor = AutoImageProcessor.from_pretrained(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInputError(f"`{model}` cannot be loaded as an image classification model: {reason}") from None
    check_weights(f"`{model}`", weights["missing_keys"], weights["unexpected_keys"])
    return fuse_for_inference(loaded), processor


def load_runner(name: str, backend: str = "torch") -> tuple[Runner, PreTrainedModel, BaseImageProcessor]:
    """What runs a saved model, called with `pixel_values` as the model is, besides the model and its image processor.

    Args:
        name: A run's folder or a Hub id.
        backend: `"torch"` or `"onnx"`.

    Raises:
        BadInputError: If there is no such model, or ONNX Runtime is asked for and not installed.
    """
    model, processor = load_model(name)
    if backend == "torch":
        return model, model, processor
    return onnx_runner(model, processor, name), model, processor


@naming_faults()
@torch.inference_mode()
def predict_split(
    run: Runner,
    images: DecodedImages | LazyImages,
    processor: BaseImageProcessor,
    device: torch.device | str = "cpu",
    on_bad_image: str = "error",
) -> dict[str, Tensor]:
    """What `run` returns for a split, on the CPU: `labels`, `logits`, and the others of `OUTPUTS` if any."""
    normalization = Normalization(processor).to(device)
    outputs = defaultdict(list)
    for batch in tqdm(image_loader(images, BATCH_SIZE), desc="Evaluating", unit="batch", leave=False, disable=None):
        report_unreadable([batch], on_bad_image)
        output = run(pixel_values=normalization(batch["pixel_values"].to(device)))
        outputs["labels"].append(batch["labels"])
        for name in OUTPUTS:
            if output.get(name) is not None:
                outputs[name].append(output[name].float().cpu())
    return {name: torch.cat(parts) for name, parts in outputs.items()}


def evaluate_images(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    images: DecodedImages | LazyImages,
    class_counts: list[int] | None,
    on_bad_image: str = "error",
    run: Runner | None = None,
    shot_bounds: ShotBounds | None = None,
) -> dict:
    """All metrics of the model on a split, with those of its experts, gate or early exit, as `results.json` has them.

    `run` runs the model where it is not the model itself that does.
    """
    outputs = predict_split(run or model.eval(), images, processor, model.device, on_bad_image)
    return _metrics(model, processor, outputs, class_counts, shot_bounds)


def _metrics(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    outputs: dict[str, Tensor],
    class_counts: list[int] | None,
    shot_bounds: ShotBounds | None,
) -> dict:
    metrics = classification_metrics(
        outputs["logits"], outputs["labels"], class_counts, outputs.get("expert_logits"), shot_bounds
    )
    if "num_experts_used" in outputs:
        metrics["early_exit"] = early_exit_metrics(model, processor, outputs["num_experts_used"])
    if "gate_probs" in outputs:
        similarity, matrix = pairwise_embedding_similarity(model.first_expert_weights().detach().cpu())
        metrics |= {
            "expert_specialization_entropy": expert_specialization_entropy(outputs["gate_probs"]),
            "gate_load_balance": gate_load_balance(outputs["gate_probs"]),
            "pairwise_embedding_similarity": similarity,
            "expert_similarity_matrix": np.asarray(matrix).tolist(),
        }
    return metrics


def evaluate_model(
    model_name: str,
    data: dict,
    split: str | None = "test",
    on_bad_image: str = "error",
    backend: str = "torch",
    early_exit_threshold: float | None = None,
    raw_logits: bool = True,
    csv: Path | None = None,
) -> dict:
    """Metrics of a saved model on a data set, and `shot_bounds`, those of the images that it was trained on.

    Args:
        model_name: A run's folder or a Hub id.
        data: Arguments of `load_long_tailed`; of `load_split` if not `raw_logits`.
        split: `"train"` or `"test"`; as in `load_split` if not `raw_logits`.
        on_bad_image: `"error"` or `"skip"`.
        backend: `"torch"` or `"onnx"`.
        early_exit_threshold: Takes the place of the model's own.
        raw_logits: Measure a split as training makes it, with images held out where the data has no test split. Otherwise
            all images of the data, or of one of its own splits.
        csv: Written, a row an image, see `write_labelled`.

    Raises:
        BadInputError: If the model or the data cannot be read, the data has a class the model does not know, or the model
            has no early exit.
    """
    if early_exit_threshold is not None and backend != "torch":
        raise BadInputError(
            f"`--early-exit-threshold` is for `--backend torch`, got {backend}: exported models ask every expert."
        )
    run, model, processor = load_runner(model_name, backend)
    if early_exit_threshold is not None:
        set_early_exit(model, early_exit_threshold)
    dataset, labels = rows_for_model(model_name, model, data, split, raw_logits)
    images = load_images(dataset, processor, on_bad_image)
    images.labels = images.rows  # which images could be read is known afterwards
    outputs = predict_split(run, images, processor, model.device, on_bad_image)
    rows = outputs["labels"]
    outputs["labels"] = labels[rows]
    counts = getattr(model.config, "class_counts", None)
    bounds = shot_bounds_of(model_name, counts)
    metrics = _metrics(model, processor, outputs, counts, bounds)
    if csv is not None:
        write_labelled(csv, model, outputs, dataset, rows)
    return metrics | {"shot_bounds": asdict(bounds)}


def images_for_model(
    model_name: str,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    data: dict,
    split: str | None,
    on_bad_image: str,
    raw_logits: bool,
) -> DecodedImages | LazyImages:
    """A split as the model sees it, labelled with the model's class ids.

    Args, Raises: As `evaluate_model`.
    """
    dataset, labels = rows_for_model(model_name, model, data, split, raw_logits)
    images = load_images(dataset, processor, on_bad_image)
    images.labels = labels[images.rows]
    return images


def rows_for_model(
    model_name: str, model: PreTrainedModel, data: dict, split: str | None, raw_logits: bool
) -> tuple[datasets.Dataset, Tensor]:
    """A split, and the model's class ids of its rows: (N,), int64.

    Args, Raises: As `evaluate_model`.
    """
    if raw_logits and split == "validation":
        raise BadInputError(
            "`--split validation` is of data that is given by `--data`; a run has the splits train and test."
        )
    dataset = load_long_tailed(**data)[split] if raw_logits else load_split(**data, split=split)
    known = {name: int(index) for name, index in model.config.label2id.items()}
    names = dataset.features["label"].names
    unknown = [names[label] for label in dataset.unique("label") if names[label] not in known]
    if unknown:
        raise BadInputError(
            f"Class `{unknown[0]}` of the data is unknown to `{model_name}`, whose classes are "
            f"{', '.join(list(known)[:10])}{', ...' if len(known) > 10 else ''}."
        )
    return dataset, torch.tensor([known.get(name, -1) for name in names])[label_array(dataset)]


def shot_bounds_of(model_name: str, class_counts: list[int] | None) -> ShotBounds:
    """Those of the results beside a model, else of its training counts; without counts there are no groups to bound."""
    if class_counts is None:
        return ShotBounds()
    path = cached_file(model_name, RESULTS_NAME, _raise_exceptions_for_missing_entries=False)
    return ShotBounds.of(class_counts) if path is None else RunResults.load(path).dataset.shot_bounds


def data_of_run(run: str) -> dict:
    """The `data` section of the recipe that a run was trained with.

    Raises:
        BadInputError: If `run` is not the folder of a run.
    """
    path = Path(run) / RESULTS_NAME
    if not path.is_file():
        raise BadInputError(f"`{run}` has no {RESULTS_NAME} that names its data: give --data.")
    return RunResults.load(path).recipe["data"]
