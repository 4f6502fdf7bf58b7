"""Training on long-tailed images: data, losses, objectives, the Trainer and the command line."""

import importlib

# imported when asked for: the command line's --help must not wait for torch
HOMES = {
    "ICLObjective": "objectives",
    "LongTailTrainer": "trainer.trainer",
    "LongTailTrainingArguments": "trainer.arguments",
    "SNNLObjective": "objectives",
}
__all__ = list(HOMES)


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
