"""Backbones of transformers and timm, of whose last stage or blocks every expert has a copy.

Shape letters: B batch, M experts, D features.
"""

import copy
import inspect
import math
import re
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .backbone_config import CLASS_TOKEN_FIRST
from .early_exit import ComputedOnce, with_parts

REFUSED = ("hgnet_v2", "pvt_v2")  # the one has no features, the other puts a batch together by the number of images
COPY = re.compile(r"\.experts\.\d+\.")  # in the name of a parameter that each expert has of its own


class ExpertCopies(nn.Module):
    """One copy of a backbone's module for each expert, computed one after the other.

    What comes out is a batch of M B images, those of the first expert first, so that the rest of the backbone, which
    treats each image for itself, needs no change. The first of several replicated modules is given B images and copies
    them; those after it are given M B.
    """

    def __init__(self, module: nn.Module, num_experts: int, first: bool):
        super().__init__()
        self.experts = nn.ModuleList(copy.deepcopy(module) for _ in range(num_experts))
        self.first = first

    def forward(self, hidden: Tensor, *args, **kwargs) -> Any:
        parts = [hidden] * len(self.experts) if self.first else hidden.chunk(len(self.experts))
        return _join([expert(part, *args, **kwargs) for expert, part in zip(self.experts, parts, strict=True)])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # what a backbone asks of its stage is the same for all copies
            return getattr(super().__getattr__("experts")[0], name)


def _join(outputs: Sequence[Any]) -> Any:
    """The experts' outputs along the batch; sizes and the like are the same for all."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, tuple | list):
        return type(first)(_join(parts) for parts in zip(*outputs, strict=True))
    return first


def _pooled(outputs: ModelOutput, model_type: str) -> Tensor:
    """Features (B, D): those that the model pools, its class token, or the mean of its maps.

    Raises:
        ValueError: If it gives tokens of which none is known to be its class token.
    """
    pooled = outputs.get("pooler_output")
    if pooled is None:
        pooled = outputs.last_hidden_state
    if pooled.dim() == 4:  # maps (B, D, H, W)
        return pooled.mean(dim=(-2, -1))
    if pooled.dim() == 3 and model_type not in CLASS_TOKEN_FIRST:
        raise ValueError(
            f"A backbone of type {model_type} cannot be used: it is not known which of its tokens to take."
        )
    return pooled[:, 0] if pooled.dim() == 3 else pooled


class Backbone(nn.Module):
    """A model of transformers or timm that gives each expert's features of an image.

    Args:
        config: Of the model, without its weights.
        num_experts: Number of copies of the last stages or blocks; 1 leaves the model as it is.
        expert_depth: How many of the last stages, or of the last blocks of a model without stages, are copied; None for
            a sixth of them: 1 of 4 stages, 2 of 12 blocks.

    Raises:
        ValueError: If the model has no list of stages or blocks, or one that is not longer than `expert_depth`, or cannot
            run the copies as one batch.
    """

    def __init__(self, config: PreTrainedConfig, num_experts: int = 1, expert_depth: int | None = None):
        super().__init__()
        self.num_experts = num_experts
        self.model = _without_dense_pooler(AutoModel.from_config(config))
        self._no_split_modules = self.model._no_split_modules  # whole on one device
        self.num_shared_states = None
        if num_experts > 1:
            if config.model_type in REFUSED:
                raise ValueError(f"Experts cannot have copies of parts of a backbone of type {config.model_type}.")
            names = stage_names(self.model)
            if expert_depth is None:
                expert_depth = math.ceil(len(names) / 6)
            self.num_shared_states = 1 + len(names) - expert_depth  # the embeddings' first
            if expert_depth >= len(names):
                raise ValueError(
                    f"`expert_depth` must be below {len(names)}, the stages or blocks of a {config.model_type} backbone, "
                    f"got {expert_depth}: the first of them are shared."
                )
            for index, name in enumerate(names[-expert_depth:]):
                parent, _, child = name.rpartition(".")
                copies = ExpertCopies(self.model.get_submodule(name), num_experts, first=index == 0)
                for module in copies.modules():  # weights of its own for each, where none are loaded
                    module.__dict__.pop("_is_hf_initialized", None)
                setattr(self.model.get_submodule(parent), child, copies)
        accepted = inspect.signature(self.model.forward).parameters
        # position embeddings for images of another size than the backbone's
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Features (B, M, D), and on request the maps or tokens that the experts share, the first stage's first."""
        outputs = self.model(pixel_values, output_hidden_states=output_hidden_states, **self.options)
        features = _pooled(outputs, self.model.config.model_type).unflatten(0, (self.num_experts, -1)).transpose(0, 1)
        states = (outputs.get("hidden_states") or ())[: self.num_shared_states]
        return features, [state for state in states if len(state) == len(pixel_values)]

    def ask(self, pixel_values: Tensor) -> Generator[Tensor, Tensor | None, None]:
        """Each expert's features (n, D) in order; is sent which of the n images go on to the next one, None for all.

        What comes before the first stage or block is computed again for the images that go on; shared stages and blocks
        are computed once.
        """
        copies = {name: part for name, part in self.model.named_modules() if isinstance(part, ExpertCopies)}
        shared = {
            name: ComputedOnce(self.model.get_submodule(name)) for name in stage_names(self.model)[: -len(copies)]
        }
        for index in range(self.num_experts):
            one_expert = with_parts(self.model, shared | {name: part.experts[index] for name, part in copies.items()})
            go_on = yield _pooled(one_expert(pixel_values, **self.options), self.model.config.model_type)
            if go_on is not None:
                pixel_values = pixel_values[go_on]
                for stage in shared.values():
                    stage.keep(go_on)

    def load_weights(self, pretrained: PreTrainedModel) -> None:
        """Take the weights of `pretrained`, each expert's copies too.

        Raises:
            ValueError: If a weight is missing or has another shape.
        """
        source = pretrained.state_dict()
        own = self.model.state_dict()
        taken = {name: source.get(COPY.sub(".", name)) for name in own}
        wrong = [name for name in own if taken[name] is None or taken[name].shape != own[name].shape]
        if wrong:
            raise ValueError(f"The backbone has no weight `{wrong[0]}` of shape {tuple(own[wrong[0]].shape)}.")
        self.model.load_state_dict(taken)

    def last_stages(self) -> list[nn.Module]:
        """The last stage or block of each expert; one alone where experts share it."""
        last = self.model.get_submodule(stage_names(self.model)[-1])
        return list(last.experts) if isinstance(last, ExpertCopies) else [last]

    def shared_modules(self) -> list[nn.Module]:
        """The parts that are not copied, as far from the root as they are whole."""
        return _without_copies(self.model)


def _without_copies(module: nn.Module) -> list[nn.Module]:
    if not any(isinstance(each, ExpertCopies) for each in module.modules()):
        return [module]
    if isinstance(module, ExpertCopies):
        return []
    return [part for child in module.children() for part in _without_copies(child)]


def _without_dense_pooler(model: PreTrainedModel) -> PreTrainedModel:
    # it belongs to pretraining, and most checkpoints have no weights for it: the class token itself is taken
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.pooler = None
    return model


def stage_names(model: PreTrainedModel) -> list[str]:
    """Names of the modules that a backbone runs one after the other: its stages, or its blocks if it has none.

    Raises:
        ValueError: If there is no such list.
    """
    if hasattr(model, "timm_model"):
        return [f"timm_model.{info['module']}" for info in model.timm_model.feature_info]
    by_depth = sorted(
        model.named_modules(), key=lambda named: named[0].count(".")
    )  # stable: in the order of the model
    for name, module in by_depth:
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            return [f"{name}.{index}" for index in range(len(module))]
    raise ValueError(
        f"A {model.config.model_type} has no list of stages or blocks that experts could have of their own."
    )
