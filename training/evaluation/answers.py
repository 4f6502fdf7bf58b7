"""What a model answers to an image, and such answers as the rows of a CSV file."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from tailmoe.training.data.streaming import has_places
from tailmoe.training.data.tree import printable
from tailmoe.training.errors import BadInputError

LABELS_TOLD = 3
ROWS_AT_ONCE = 1000


class AnswerTable:
    """A CSV file, UTF-8, whose rows are written one by one; the first one names the columns.

    Nothing is written before the first row, so that a file that is there stays where no image can be read.
    """

    def __init__(self, path: Path):
        self.path, self.file, self.num_rows = path, None, 0

    def __enter__(self) -> "AnswerTable":
        return self

    def __exit__(self, *error: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, row: dict[str, object]) -> None:
        """Write a row, of the same columns as the first."""
        if self.file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.file = self.path.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise BadInputError(f"`--csv` {self.path} cannot be written: {error.strerror}.") from None
            self.writer = csv.DictWriter(self.file, [*row], lineterminator="\n")
            self.writer.writeheader()
        self.writer.writerow(row)
        self.num_rows += 1
        self.file.flush()


def answer(model: PreTrainedModel, output: Mapping[str, Tensor | None], row: int, top_k: int) -> dict:
    """The answer to the image in row `row` of a batch.

    Args:
        model: Tells labels and training counts.
        output: `logits` (B, C), and, if any, `expert_logits` (B, M, C) and `gate_probs` (B, K).
        row: In [0, B).
        top_k: Labels told.

    Returns:
        `labels`, `experts`, `gate_probs`: see `predict_images`.
    """
    experts, gate = output.get("expert_logits"), output.get("gate_probs")
    return {
        "labels": _top_labels(model, output["logits"][row], top_k),
        "experts": [] if experts is None else [_top_labels(model, logits, top_k) for logits in experts[row]],
        "gate_probs": None if gate is None else gate[row].tolist(),
    }


def answer_row(answer: dict) -> dict[str, object]:
    """An answer as columns: label and probability of each label told, and the share of the experts that gave the first.

    `agreement` is empty where the model has no experts, or leaves some out by early exit.
    """
    row = {}
    for number, told in enumerate(answer["labels"], start=1):
        suffix = "" if number == 1 else f"_{number}"
        row |= {f"label{suffix}": told["label"], f"probability{suffix}": f"{told['probability']:.6f}"}
    experts = [expert[0]["label"] for expert in answer["experts"]]
    return row | {"agreement": f"{experts.count(row['label']) / len(experts):.4f}" if experts else ""}


def predicted_row(answer: dict) -> dict[str, object]:
    """The answer to a file, as `predict_images` yields it, as the row of a table."""
    return {"file": printable(answer["path"])} | answer_row(answer)


def write_labelled(
    path: Path, model: PreTrainedModel, outputs: dict[str, Tensor], dataset: datasets.Dataset, rows: Tensor
) -> None:
    """Write what a model answers to labelled images as CSV, those to whose label it gives the least probability first.

    Columns are `file` (empty where the data holds the image itself), its `row` in the data, `true_label`, `true_probability`,
    those of `answer_row`, `correct`, and `label_looks_wrong`: see `_looks_wrong`.

    Args:
        path: The file.
        model: Tells labels.
        outputs: As of `predict_split`, of N images.
        dataset: Holds the images.
        rows: (N,), where in `dataset` they are.
    """
    labels = outputs["labels"]
    probabilities = outputs["logits"].float().softmax(dim=-1)
    true, wrong = probabilities.gather(1, labels[:, None])[:, 0], _looks_wrong(probabilities, labels)
    with AnswerTable(path) as table:
        for place, (number, file) in _in_order(true.argsort(stable=True), rows, dataset):
            told = answer_row(answer(model, outputs, place, LABELS_TOLD))
            truth = {
                "true_label": model.config.id2label[labels[place].item()],
                "true_probability": f"{true[place].item():.6f}",
            }
            judged = {
                "correct": _yes_or_no(told["label"] == truth["true_label"]),
                "label_looks_wrong": _yes_or_no(wrong[place].item()),
            }
            table.write({"file": file, "row": number} | truth | told | judged)


def _looks_wrong(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Images which another class fits as well as the images labelled with it: (N,), bool.

    The predicted class is another than the label, and at least as probable as it is on average for the images that are
    labelled with it (confident learning, Northcutt et al., JAIR 2021, Eq. 1). What a model was trained on it may know by heart.
    """
    sums = torch.zeros(probabilities.shape[1]).index_add(0, labels, probabilities.gather(1, labels[:, None])[:, 0])
    counts = labels.bincount(minlength=probabilities.shape[1])
    averages = sums / counts  # nan for a class without images, which nothing reaches
    highest, predicted = probabilities.max(dim=1)
    return (predicted != labels) & (highest >= averages[predicted])


def _in_order(order: Tensor, rows: Tensor, dataset: datasets.Dataset) -> Iterator[tuple[int, tuple[int, str]]]:
    """For each image in this order its place, its row and its file."""
    streamed = has_places(dataset)
    encoded = dataset.select_columns("image").cast_column("image", datasets.Image(decode=False))
    for places in tqdm(order.split(ROWS_AT_ONCE), desc="Writing rows", unit="batch", leave=False, disable=None):
        numbers = rows[places].tolist()
        images = encoded[numbers]["image"]
        for place, number, image in zip(places.tolist(), numbers, images, strict=True):
            yield place, (number, "" if streamed else printable(image["path"] or ""))


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _top_labels(model: PreTrainedModel, logits: Tensor, top_k: int) -> list[dict]:
    probabilities, classes = logits.float().softmax(dim=-1).topk(min(top_k, len(logits)))
    counts = getattr(model.config, "class_counts", None)
    return [
        {
            "label": model.config.id2label[index],
            "probability": probability,
            "training_images": None if counts is None else counts[index],
        }
        for probability, index in zip(probabilities.tolist(), classes.tolist(), strict=True)
    ]
