"""The model families: the one place that tells which models there are, and what is particular to each."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from transformers import PreTrainedConfig, PreTrainedModel

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
)
from tailmoe.training.objectives import (
    BalancedSoftmaxObjective,
    ICLObjective,
    Objective,
    SHIKEObjective,
    SNNLObjective,
)

# options of ICL's objective that leave nothing of it but cross-entropy
CROSS_ENTROPY_ALONE = {"competition": "none", "collaboration_weight": 0, "diversity_weight": 0, "contrast_weight": 0}


@dataclass(frozen=True)
class ModelFamily:
    """One model with its configuration, its objectives and its card.

    Args:
        title: What tables and cards call it.
        config, model: Its classes, of `tailmoe.modeling`.
        objectives: Those that train it, by their names in recipes, that of its paper first.
        paper_tags: Of its paper on the Hub.
        kind: What a network with these fields and a recipe's objective (None for the model's own loss) amounts to: the name
            of a paragraph of the card's template, which has another for all others.
        paper_kinds: The kinds that are fine-tuned by the paper's objective.
    """

    title: str
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    objectives: dict[str, type[Objective]] = field(default_factory=dict)
    paper_tags: tuple[str, ...] = ()
    kind: Callable[[dict, dict | None], str] = lambda config, objective: "mixture of experts"
    paper_kinds: tuple[str, ...] = ("mixture of experts",)

    @property
    def config_fields(self) -> list[str]:
        """Names of the fields that its configuration adds to those of every model."""
        inherited = {each.name for each in fields(PreTrainedConfig)}
        return [each.name for each in fields(self.config) if each.name not in inherited]

    @property
    def exits_early(self) -> bool:
        """Whether its experts can be asked in order until the answer is sure."""
        return "early_exit_threshold" in self.config_fields


def _kind_of_icl(config: dict, objective: dict | None) -> str:
    """Besides `icl` one plain network, or its network by cross-entropy or by Balanced Softmax alone."""
    if objective is not None and objective["type"] == "balanced_softmax":
        return "balanced_softmax"
    if objective is not None and any(objective.get(key) != value for key, value in CROSS_ENTROPY_ALONE.items()):
        return "icl"
    return "cross_entropy" if config["num_experts"] == 1 and not config["balanced_heads"] else "icl_network"


def _kind_of_snnl(config: dict, objective: dict | None) -> str:
    """Besides `snnl` the same mixture without the loss."""
    return "mixture" if objective is None or objective.get("snnl_weight") == 0 else "snnl"


FAMILIES: dict[str, ModelFamily] = {  # by `config.model_type`
    "icl_moe": ModelFamily(
        title="ICL-MoE",  # its paper is not on the Hub
        config=ICLMoEConfig,
        model=ICLMoEForImageClassification,
        objectives={"icl": ICLObjective, "balanced_softmax": BalancedSoftmaxObjective, "shike": SHIKEObjective},
        kind=_kind_of_icl,
        paper_kinds=("icl",),
    ),
    "snnl_moe": ModelFamily(
        title="SNNL-MoE",
        config=SNNLMoEConfig,
        model=SNNLMoEForImageClassification,
        objectives={"snnl": SNNLObjective},
        paper_tags=("arxiv:2603.26734",),
        kind=_kind_of_snnl,
        paper_kinds=("snnl", "mixture"),
    ),
}


def objectives() -> dict[str, type[Objective]]:
    """The objectives of all families by their names in recipes."""
    return {name: each for family in FAMILIES.values() for name, each in family.objectives.items()}
