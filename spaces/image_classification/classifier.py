"""A mixture of experts from the Hub, and all that the page asks of it."""

import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image
from torch import Tensor, nn
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

    @property
    def is_icl(self) -> bool:
        """Whether it is an ICL-MoE; else it is an SNNL-MoE."""
        return self.model.config.model_type == "icl_moe"

    def group(self, c: int) -> str:
        """Shot group of a class: many, medium or few."""
        count, bounds = self.counts[c], self.bounds
        return "many" if count > bounds["many_above"] else "few" if count < bounds["few_below"] else "medium"

    def confusions(self, c: int) -> list[int]:
        """How many test images of a class were taken for each class, as the results tell."""
        line = self.results["metrics"]["confusion_matrix"][c]  # such as `0:90 7:10`
        counts = dict(cell.split(":") for cell in line.split())
        return [int(counts.get(str(k), 0)) for k in range(len(self.labels))]

    def view(self, image: Image.Image) -> View:
        """Look at one image."""
        inputs = self.processor(image, return_tensors="pt")
        with self.lock, torch.enable_grad():
            outputs, maps = self._with_maps(inputs["pixel_values"].requires_grad_())
            answers = outputs["expert_logits"][0].argmax(dim=-1)
            heat = self._grad_cam(self._expert_logits(outputs), answers, maps)
        gate = outputs.get("gate_probs")
        return View(
            image=image,
            logits=outputs["logits"][0].detach(),
            expert_probabilities=outputs["expert_logits"][0].detach().softmax(dim=-1),
            gate=None if gate is None else gate[0].detach(),
            maps=heat,
        )

    def _with_maps(self, pixel_values: Tensor) -> tuple[dict, list[Tensor]]:
        """The model's outputs, and for each expert the maps that its answer is traced back to: (1, D, H, W) or tokens.

        These are an expert's last maps, or what the last stage or block of a backbone is given.
        """
        maps: list[Tensor] = []
        if getattr(self.model, "backbone", None) is not None:
            parts = self.model.backbone.last_stages()
            hooks = [part.register_forward_pre_hook(lambda _, given: maps.append(given[0])) for part in parts]
        else:
            parts = list(self.model.experts) if self.is_icl else [self.model.extractor[-1]]
            hooks = [part.register_forward_hook(lambda *call: maps.append(call[-1])) for part in parts]
        try:
            outputs = self.model(pixel_values)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs, maps * (self.num_experts // len(maps))

    @staticmethod
    def _grad_cam(expert_logits: Tensor, answers: Tensor, maps: list[Tensor]) -> Tensor:
        """Logits (M, C), answers (M,) -> (M, H, W): each expert's maps, weighed by what each channel adds to its answer."""
        heat = []
        for logits, answer, hidden in zip(expert_logits, answers, maps, strict=True):
            (gradient,) = torch.autograd.grad(logits[answer], hidden, retain_graph=True)
            weights, channels = as_map(gradient).mean(dim=(-2, -1)), as_map(hidden.detach())
            heat.append((weights[..., None, None] * channels)[0].sum(dim=0).relu())
        heat = torch.stack(heat)
        return heat / heat.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)

    def _expert_logits(self, outputs: dict) -> Tensor:
        """(M, C), with gradients; balanced heads, that read detached features, are asked again."""
        model = self.model
        if not self.is_icl:
            return outputs["expert_logits"][0]
        head = model.classifier if model.balanced_classifier is None else model.balanced_classifier
        return head(outputs["expert_features"])[0]

    @property
    def num_experts(self) -> int:
        return self.model.config.num_experts

    def probabilities(self, logits: Tensor, prior: Tensor) -> Tensor:
        """Probabilities (C,) where classes occur as in `prior` (C,), which sums to 1 (Saerens et al., 2002)."""
        return (logits - self.own_prior().log() + prior.log()).softmax(dim=-1)

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

    def own_prior(self) -> Tensor:
        """The prior that the model's own answer assumes: the one it is aimed at, or what its training left.

        Training added tau log n to the logits, with balanced heads n itself, so that n^(1 - tau) is left. Models of before
        these fields were saved do not have them.
        """
        config = self.model.config
        if getattr(config, "label_prior", None) is not None:
            return torch.tensor(config.label_prior).clamp(min=torch.finfo(torch.float).tiny)
        tau = getattr(config, "training_logit_adjustment", None)
        if tau is None:
            tau = 1.0 if self.is_icl and config.balanced_heads else 0.0
        return self.training_prior() if tau == 0 else ((1 - tau) * self.training_prior().log()).softmax(dim=-1)

    def expert_similarity(self) -> Tensor:
        """Cosine similarity (M, M) of the experts' first-layer weights."""
        if self.is_icl:
            backbone = getattr(self.model, "backbone", None)
            experts = self.model.experts if backbone is None else backbone.last_stages()
            weights = [next(weight for weight in expert.parameters() if weight.dim() > 1) for expert in experts]
        else:
            weights = list(self.model.expert_hidden.weight)
        rows = nn.functional.normalize(torch.stack([weight.detach().flatten() for weight in weights]), dim=1)
        return rows @ rows.T


def as_map(hidden: Tensor) -> Tensor:
    """(B, D, H, W) as it is; of tokens (B, tokens, D) those of the places: class and register tokens come first."""
    if hidden.dim() == 4:
        return hidden
    side = math.isqrt(hidden.shape[1])
    return hidden[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))


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
