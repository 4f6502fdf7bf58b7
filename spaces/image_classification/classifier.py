"""A mixture of experts from the Hub, and all that the page asks of it."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForImageClassification

BOUNDS = {"many_above": 100, "few_below": 20}  # training images of a class, where its results name no others
POSITIONS = 41  # of the slider of priors, where its line is drawn


@dataclass(frozen=True)
class View:
    """What the model makes of one image, for M experts and C classes.

    Args:
        image: As the model sees it, but for its size.
        logits: (C,), the ensemble's.
        expert_probabilities: (M, C).
        gate: (M,), the gate's weights; None for a model without a gate.
        maps: (M, H, W) in [0, 1]: Grad-CAM of each expert's own first answer (Selvaraju et al., ICCV 2017).
    """

    image: Image.Image
    logits: Tensor
    expert_probabilities: Tensor
    gate: Tensor | None
    maps: Tensor


class Classifier:
    """A model with its image processor and, where its repository has them, its results.

    Args:
        model_id: A repository on the Hub, or a folder.
        revision: The commit it is pinned to.

    Raises:
        ValueError: If the model has no experts, or does not tell how many training images a class had.
    """

    def __init__(self, model_id: str, revision: str | None = None):
        # the model's code lies beside its weights, and the owner of this page chose the repository
        options = {"revision": revision, "trust_remote_code": True}
        self.model = AutoModelForImageClassification.from_pretrained(model_id, **options).eval()
        self.processor = AutoImageProcessor.from_pretrained(model_id, **options)
        config = self.model.config
        if config.model_type not in ("icl_moe", "snnl_moe") or config.class_counts is None:
            raise ValueError(
                f"{model_id} is no ICL-MoE or SNNL-MoE that knows its training counts: give another MODEL_ID."
            )
        self.name = model_id.rstrip("/").rpartition("/")[2]
        self.labels: list[str] = [config.id2label[c] for c in range(config.num_labels)]
        self.counts: list[int] = list(config.class_counts)
        self.results = _results(model_id, revision)
        self.bounds = BOUNDS | ((self.results or {}).get("dataset", {}).get("shot_bounds") or {})
        self.lock = threading.Lock()  # one image at a time: the hooks belong to the model

    def group(self, c: int) -> str:
        """Shot group of a class: many, medium or few."""
        count, bounds = self.counts[c], self.bounds
        if count > bounds["many_above"]:
            return "many"
        return "few" if count < bounds["few_below"] else "medium"

    def confusions(self, c: int) -> list[int]:
        """How many test images of a class were taken for each class, as the results tell."""
        line = self.results["metrics"]["confusion_matrix"][c]  # such as `0:90 7:10`
        counts = dict(cell.split(":") for cell in line.split())
        return [int(counts.get(str(k), 0)) for k in range(len(self.labels))]

    def view(self, image: Image.Image) -> View:
        """Look at one image."""
        inputs = self.processor(image, return_tensors="pt")
        with self.lock:
            maps, outputs = self.model.grad_cam(inputs["pixel_values"])
        gate = outputs.get("gate_probs")
        return View(
            image=image,
            logits=outputs["logits"][0].detach(),
            expert_probabilities=outputs["expert_logits"][0].detach().softmax(dim=-1),
            gate=None if gate is None else gate[0].detach(),
            maps=maps[0],
        )

    def probabilities(self, logits: Tensor, prior: Tensor) -> Tensor:
        """Probabilities (C,) where classes occur as in `prior` (C,), which sums to 1 (Saerens et al., 2002)."""
        return (logits - self.model.log_assumed_prior() + prior.log()).softmax(dim=-1)

    def along_priors(self, logits: Tensor, own: Tensor, most: int = 5) -> dict[int, list[float]]:
        """Probability at evenly spaced positions of the slider, of the classes that are probable anywhere on it.

        Args:
            logits: (C,).
            own: The visitor's prior (C,), see `prior_at`.
            most: Classes at most.
        """
        places = [2 * n / (POSITIONS - 1) for n in range(POSITIONS)]
        along = torch.stack([self.probabilities(logits, prior_at(p, self.training_prior(), own)) for p in places])
        highest = along.amax(dim=0).topk(min(most, len(logits))).indices
        return {c: along[:, c].tolist() for c in highest.tolist()}

    def training_prior(self) -> Tensor:
        """How often the classes occur in the training images: (C,)."""
        counts = torch.tensor(self.counts, dtype=torch.float)
        return counts / counts.sum()

    def expert_similarity(self) -> Tensor:
        """Cosine similarity (M, M) of the experts' first-layer weights."""
        rows = F.normalize(self.model.first_expert_weights().detach().flatten(1), dim=1)
        return rows @ rows.T


def prior_at(position: float, training: Tensor, own: Tensor) -> Tensor:
    """The prior (C,) at a position of the slider.

    Args:
        position: 0 for `training`, 1 for all classes equal, 2 for `own`; between 0 and 1 logarithms are mixed, as in logit
            adjustment, between 1 and 2 shares.
        training: (C,), above 0.
        own: (C,), at least 0, not all 0.
    """
    if position <= 1:
        return ((1 - position) * training.log()).softmax(dim=-1)
    equal = torch.full_like(training, 1 / len(training))
    return (2 - position) * equal + (position - 1) * own / own.sum()


def _results(model_id: str, revision: str | None) -> dict | None:
    path = Path(model_id) / "results.json"
    if not Path(model_id).is_dir():
        try:
            path = Path(hf_hub_download(model_id, "results.json", revision=revision))
        except EntryNotFoundError:
            return None
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
