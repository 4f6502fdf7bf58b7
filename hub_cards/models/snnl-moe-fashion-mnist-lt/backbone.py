"""Backbones of transformers and timm, of whose last stage or blocks every expert has a copy.

Shape letters: B batch, M experts, D features.
"""

import copy
import inspect
import math
import re
from collections.abc import Collection, Generator, Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .backbone_config import check_depth
from .backbone_features import pooled_features
from .backbone_passes import Passes, called_parts

COPY = re.compile(r"\.experts\.\d+(?=\.)")  # in the name of a parameter that each expert has of its own


class ExpertCopies(nn.Module):
    """One copy of a backbone's module for each expert; a pass for an expert has the expert's copy in its place."""

    def __init__(self, module: nn.Module, num_experts: int):
        super().__init__()
        self.experts = nn.ModuleList(copy.deepcopy(module) for _ in range(num_experts))
        for each in self.modules():  # weights of its own for each, where none are loaded
            each.__dict__.pop("_is_hf_initialized", None)


class Backbone(nn.Module):
    """A model of transformers or timm that gives each expert's features of an image.

    What comes before the experts' copies is computed once; what comes after them, for each expert by itself, so that
    batch normalisation there sees one expert's features at a time.

    Args:
        config: Of the model, without its weights.
        num_experts: Number of copies of the last stages or blocks; 1 leaves the model as it is.
        expert_depth: How many of the last stages, or of the last blocks of a model without stages, are copied; None for
            a sixth of them: 1 of 4 stages, 2 of 12 blocks.

    Raises:
        ValueError: If the model has no list of stages or blocks, or one that is not longer than `expert_depth`.
    """

    def __init__(self, config: PreTrainedConfig, num_experts: int = 1, expert_depth: int | None = None):
        super().__init__()
        self.num_experts = num_experts
        self.model = _without_dense_pooler(AutoModel.from_config(config))
        self._no_split_modules = self.model._no_split_modules  # whole on one device
        stages = stage_names(self.model)
        parts = called_parts(self.model, [name for stage in stages for name in stage])
        self.stages = [[part for part in parts if _lies_in(part, stage)] for stage in stages]
        self.num_shared = len(stages)
        if num_experts > 1:
            depth = math.ceil(len(stages) / 6) if expert_depth is None else expert_depth
            check_depth(depth, len(stages), config.model_type)
            self.num_shared -= depth
        self.own = [part for stage in self.stages[self.num_shared :] for part in stage]
        self.shared = [part for part in parts if part not in self.own]
        for name in self.own:
            parent, _, child = name.rpartition(".")
            copies = ExpertCopies(self.model.get_submodule(name), num_experts)
            setattr(self.model.get_submodule(parent), child, copies)
        accepted = inspect.signature(self.model.forward).parameters
        # position embeddings for images of another size than the backbone's
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Features (B, M, D), and on request the maps or tokens that the experts share, the first stage's input first."""
        passes = self._passes()
        features = torch.stack([self._features(model, pixel_values) for model in passes], dim=1)
        if not output_hidden_states:
            return features, []
        shared = self.stages[: self.num_shared]
        states = [passes.given_to(shared[0]), *map(passes.given_by, shared)]
        return features, [state for state in states if len(state) == len(pixel_values)]

    def ask(self, pixel_values: Tensor) -> Generator[Tensor, Tensor | None, None]:
        """Each expert's features (n, D) in order; is sent which of the n images go on to the next one, None for all.

        Shared stages and blocks are computed once; what comes before them again for the images that go on.
        """
        passes = self._passes()
        for model in passes:
            go_on = yield self._features(model, pixel_values)
            if go_on is not None:
                pixel_values = pixel_values[go_on]
                passes.keep(go_on, [part for stage in self.stages[: self.num_shared] for part in stage])

    def _passes(self) -> Passes:
        copies = {name: self.model.get_submodule(name).experts for name in self.own}
        own = [{name: experts[index] for name, experts in copies.items()} for index in range(self.num_experts)]
        return Passes(self.model, own, self.shared)

    def _features(self, model: nn.Module, pixel_values: Tensor) -> Tensor:
        return pooled_features(model(pixel_values, **self.options), self.model.config)

    def load_weights(self, pretrained: PreTrainedModel, missing: Collection[str] = ()) -> None:
        """Take the weights of `pretrained`, each expert's copies too.

        Args:
            pretrained: The same network.
            missing: Names of weights that its checkpoint did not have.

        Raises:
            ValueError: If a weight is missing or has another shape.
        """
        source = {name: weight for name, weight in pretrained.state_dict().items() if name not in missing}
        own = self.model.state_dict()
        taken = {name: source.get(COPY.sub("", name)) for name in own}
        wrong = [name for name in own if taken[name] is None or taken[name].shape != own[name].shape]
        if wrong:
            raise ValueError(f"The backbone has no weight `{wrong[0]}` of shape {tuple(own[wrong[0]].shape)}.")
        self.model.load_state_dict(taken)

    def last_stages(self) -> list[nn.Module]:
        """What the last stage or block of each expert begins with; one alone where experts share it."""
        last = self.model.get_submodule(self.stages[-1][0])
        return list(last.experts) if isinstance(last, ExpertCopies) else [last]


def _lies_in(part: str, stage: Sequence[str]) -> bool:
    return any(part == name or part.startswith(f"{name}.") for name in stage)


def _without_dense_pooler(model: PreTrainedModel) -> PreTrainedModel:
    # it belongs to pretraining, and most checkpoints have no weights for it: the class token itself is taken
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.pooler = None
    return model


def stage_names(model: PreTrainedModel) -> list[list[str]]:
    """Names of the modules of each stage that a backbone runs, one after the other; of its blocks if it has no stages.

    They are the members of its outermost list of modules, and of other lists of that length beside it, as where embeddings,
    blocks and normalisation of a stage lie in lists of their own.

    Raises:
        ValueError: If there is no such list.
    """
    if hasattr(model, "timm_model"):
        return [[f"timm_model.{info['module']}"] for info in model.timm_model.feature_info]
    by_depth = sorted(
        model.named_modules(), key=lambda named: named[0].count(".")
    )  # stable: in the order of the model
    lists = {name: module for name, module in by_depth if isinstance(module, nn.ModuleList) and len(module) > 1}
    if not lists:
        raise ValueError(
            f"A {model.config.model_type} has no list of stages or blocks that experts could have of their own."
        )
    first = next(iter(lists))
    parent = first.rpartition(".")[0]
    beside = [
        name for name, each in lists.items() if name.rpartition(".")[0] == parent and len(each) == len(lists[first])
    ]
    return [[f"{name}.{index}" for name in beside] for index in range(len(lists[first]))]
