"""Training steps of ICL-MoE with `LongTailTrainer`: beside a naive baseline, and beside a plain loop of the same step."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from transformers import TrainerCallback

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.benchmark.data import whole_batches
from tailmoe.training.benchmark.measure import figure, seconds, synchronize
from tailmoe.training.benchmark.setting import (
    BATCH,
    BenchmarkImages,
    arguments,
    benchmark_images,
    cifar_config,
    make_network,
    naive_loader,
    operations,
)
from tailmoe.training.evaluation.inference import with_fast_layout
from tailmoe.training.objectives import ICLObjective
from tailmoe.training.trainer.epoch_lines import EpochLines
from tailmoe.training.trainer.trainer import LongTailTrainer

SMALL = {"num_labels": 10, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1]}
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
LEARNING_RATE = 0.01


def train_figures(device: str, repeats: int) -> list[dict]:
    """From images to updated weights; the naive baseline is a plain loop over images one by one, in torch's own layout."""
    images, config = benchmark_images(), cifar_config()
    model, objective = make_network(config, device)
    gflop, loader = operations(model, training=True, device=device), naive_loader(images)
    naive = plain_loop(model, objective, lambda: loader, device)
    times = trainer_times(config, images, device, repeats, naive)
    return [figure("ICL-MoE, ResNet-32, 3 experts", "images/s", BATCH, times, 1.3, batch_size=BATCH, gflop=gflop)]


def trainer_figures(device: str, repeats: int) -> list[dict]:
    """What the Trainer itself costs: a large and a small network, beside a plain loop with its batches and layout."""
    figures = []
    for name, config, rounds in (
        ("ResNet-32, 3 experts", cifar_config(), repeats),
        ("ResNet-8, 3 experts", cifar_config(**SMALL), 3 * repeats),
    ):
        images, (model, objective) = benchmark_images(num_classes=config.num_labels), make_network(config, device)
        loop = plain_loop(with_fast_layout(model), objective, whole_batches(images, device), device)
        times = trainer_times(config, images, device, rounds, loop)
        figures.append(figure(name, "images/s", BATCH, times, 0.97 if device == "cpu" else 0.9, batch_size=BATCH))
    return figures


def plain_loop(
    model: ICLMoEForImageClassification,
    objective: ICLObjective,
    epoch: Callable[[], Iterable[dict[str, Tensor]]],
    device: str,
) -> Callable[[], None]:
    """A training step without a Trainer, on the batches of epoch after epoch."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, **SGD)
    batches = (batch for _ in iter(int, 1) for batch in epoch())

    def step() -> None:
        batch = {name: value.to(device) for name, value in next(batches).items()}
        outputs = model(batch["pixel_values"])
        sum(objective(outputs, batch["labels"], progress=0.5).values()).backward()
        objective.update_state(outputs, batch["labels"])
        optimizer.step()
        optimizer.zero_grad()

    return step


class InTurn(TrainerCallback):
    """Times rounds of the Trainer's steps and, between them, of another's."""

    def __init__(self, naive: Callable[[], object], device: str):
        self.naive, self.device = naive, device
        self.steps = 1 if device == "cpu" else 100  # of a round: each look at the clock waits for a GPU
        self.times: dict[str, list[float]] = defaultdict(list)
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.steps == 0:
            synchronize(self.device)
            self.times["ours"].append((time.perf_counter() - self.start) / self.steps)
            self.times["naive"].append(seconds(self.naive, self.device, self.steps))
            self.start = time.perf_counter()


def trainer_times(
    config: ICLMoEConfig, images: BenchmarkImages, device: str, repeats: int, naive: Callable[[], object]
) -> dict[str, list[float]]:
    """Seconds a step of the Trainer (`ours`) and of `naive`, of `repeats` rounds after a warm-up of two."""
    clock, (model, objective) = InTurn(naive, device), make_network(config)
    with tempfile.TemporaryDirectory() as folder:
        changes = {"learning_rate": LEARNING_RATE, **SGD, "max_steps": (repeats + 2) * clock.steps}
        args = arguments(device, folder, logging_strategy="no", save_strategy="no", **changes)
        data = {"train_dataset": images.decoded, "processing_class": images.processor}
        trainer = LongTailTrainer(model, args, objective=objective, callbacks=[clock], **data)
        trainer.remove_callback(EpochLines)
        trainer.train()
    return {name: values[2:] for name, values in clock.times.items()}
