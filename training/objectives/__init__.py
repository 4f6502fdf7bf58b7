"""Objectives: modules that turn a model's outputs into named, weighted loss terms and hold the state they need.

`forward` gives the terms, `update_state` updates the state; the Trainer calls one, then the other, at every training step.
Neither waits for the device, so that a step can be recorded as a CUDA graph: which terms act (`active_terms`) is
all that is decided on the host.
Buffers (prototypes, confusion) and parameters (a learned temperature) are saved in every checkpoint.
"""

from tailmoe.training.objectives.balanced_softmax import BalancedSoftmaxObjective
from tailmoe.training.objectives.icl import ICLObjective
from tailmoe.training.objectives.objective import Objective
from tailmoe.training.objectives.shike import SHIKEObjective
from tailmoe.training.objectives.snnl import SNNLObjective

__all__ = [
    "BalancedSoftmaxObjective",
    "ICLObjective",
    "Objective",
    "SHIKEObjective",
    "SNNLObjective",
]
