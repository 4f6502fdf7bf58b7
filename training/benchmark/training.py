"""Training steps of ICL-MoE: beside the obvious way, and beside a loop without a Trainer."""

import functools
import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.arguments import LongTailTrainingArguments
from tailmoe.training.benchmark.measure import (
    Figure,
    Spread,
    compare,
    matrix_product,
    seconds,
    synchronize,
    times_in_turn,
)
from tailmoe.training.benchmark.reference import ImagesOneByOne, LoopedICL, looped_forward
from tailmoe.training.benchmark.setting import (
    BATCH,
    CLASSES,
    EXPERTS,
    IN_THE_MIDDLE,
    BenchmarkImages,
    benchmark_images,
    cifar_config,
    make_network,
    random_batch,
)
from tailmoe.training.data.encoded_images import available_cores
from tailmoe.training.epoch_lines import EpochLines
from tailmoe.training.inference import with_fast_layout
from tailmoe.training.objectives import ICLObjective
from tailmoe.training.step_graphs import StepGraphs, can_record
from tailmoe.training.trainer import LongTailTrainer

SETTINGS = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


def train_figures(device: str, repeats: int) -> list[Figure]:
    """The whole way from images to updated parameters with `LongTailTrainer`, and its convolutions alone."""
    images, config = benchmark_images(), cifar_config()
    steps = steps_of_a_round(device)
    product, product_work = matrix_product(device)
    others = {"reference": obvious_step(images, device), "product": product}
    times = trainer_times(config, images, device, repeats, steps, others)
    model, _ = make_network(config, device)
    _, work = convolution_passes(model, random_batch(BATCH, device=device)[0])
    limit = Spread.of(times["product"]).per(product_work).median
    details = {"batch_size": BATCH, "experts": EXPERTS, "classes": CLASSES}
    details["share_of_limit"] = work / Spread.of(times["ours"]).median / limit
    figures = [compare("train", "ICL-MoE, ResNet-32, 3 experts", "images/s", BATCH, times, target=1.3, **details)]
    return [*figures, convolution_figure(device, repeats)]


def trainer_figures(device: str, repeats: int) -> list[Figure]:
    """`LongTailTrainer` beside a bare loop of the same step, for a large and for a small network."""
    small = cifar_config(num_labels=10, hidden_sizes=[16, 32, 64], depths=[1, 1, 1])
    figures = []
    for name, config, rounds in (
        ("ResNet-32, 3 experts", cifar_config(), repeats),
        ("ResNet-8, 3 experts", small, 3 * repeats),
    ):
        images = benchmark_images(num_classes=config.num_labels)
        bare = bare_step(make_trainer(config, images, device, max_steps=10**6), device)
        times = trainer_times(config, images, device, rounds, steps_of_a_round(device), {"reference": bare})
        target = 0.97 if device == "cpu" else 0.9
        figures.append(compare("trainer", name, "images/s", BATCH, times, target=target, batch_size=BATCH))
    return figures


def steps_of_a_round(device: str) -> int:
    """Steps between two looks at the clock; on a GPU many, because each look waits for the device."""
    return 1 if device == "cpu" else 100


class InTurn(TrainerCallback):
    """Times the Trainer's steps and, between them, those of others."""

    def __init__(self, others: dict[str, Callable[[], object]], device: str, steps: int):
        self.others, self.device, self.steps = others, device, steps
        self.times: dict[str, list[float]] = defaultdict(list)
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.steps:
            return
        synchronize(self.device)
        self.times["ours"].append((time.perf_counter() - self.start) / self.steps)
        for name, step in self.others.items():
            self.times[name].append(seconds(step, self.device, self.steps))
        self.start = time.perf_counter()


def trainer_times(
    config: ICLMoEConfig,
    images: BenchmarkImages,
    device: str,
    repeats: int,
    steps: int,
    others: dict[str, Callable[[], object]],
) -> dict[str, list[float]]:
    """Seconds a step of the Trainer and of others, by name, of `repeats` rounds after a warm-up of two."""
    clock = InTurn(others, device, steps)
    trainer = make_trainer(config, images, device, max_steps=(repeats + 2) * steps)
    trainer.add_callback(clock)
    trainer.remove_callback(EpochLines)
    trainer.train()
    return {name: values[2:] for name, values in clock.times.items()}


def make_trainer(config: ICLMoEConfig, images: BenchmarkImages, device: str, max_steps: int) -> LongTailTrainer:
    """A Trainer of ICL-MoE whose terms are the same at every step: all but diversity."""
    model, _ = make_network(config)
    with tempfile.TemporaryDirectory() as folder:
        args = LongTailTrainingArguments(
            output_dir=folder,
            max_steps=max_steps,
            per_device_train_batch_size=BATCH,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=device == "cpu",
            **SETTINGS,
        )
        return LongTailTrainer(
            model,
            args,
            train_dataset=images.decoded,
            processing_class=images.processor,
            objective=ICLObjective(config, diversity_until=0.0, contrast_from=0.0),
        )


def bare_step(trainer: LongTailTrainer, device: str) -> Callable[[], None]:
    """The step of this trainer in a loop of one's own, on its own network: the same batches, objective and optimizer."""
    trainer.create_optimizer()
    model, objective, optimizer = trainer.model.train(), trainer.objective, trainer.optimizer
    loader, active = trainer.get_train_dataloader(), objective.active_terms(IN_THE_MIDDLE)
    stream = forever(lambda: iter(loader))
    number = itertools.count()

    def update(inputs: dict[str, Tensor], active: tuple[str, ...]) -> Tensor:
        batch = trainer.batches.finish({name: inputs[name] for name in ("pixel_values", "labels")})
        outputs = model(batch["pixel_values"])
        loss = sum(objective(outputs, batch["labels"], IN_THE_MIDDLE, active).values())
        loss.backward()
        objective.observe(outputs, batch["labels"])
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    run = StepGraphs(update, trainer.args.device) if can_record(trainer.args) else update

    def step() -> None:
        (batch,) = trainer.batches.take(stream, 1, next(number))
        run(batch, active)

    return step


def forever(epoch: Callable[[], Iterator]) -> Iterator:
    """Epoch after epoch."""
    while True:
        yield from epoch()


def obvious_step(images: BenchmarkImages, device: str) -> Callable[[], None]:
    """A training step the obvious way: images one by one, NCHW, loops over experts, samples and classes."""
    one_by_one = ImagesOneByOne(images.encoded, images.decoded.labels, images.processor, auto_augment=True)
    loader = DataLoader(one_by_one, BATCH, shuffle=True, num_workers=available_cores(), persistent_workers=True)
    update = obvious_update(*make_network(cifar_config(), device))
    stream = forever(lambda: iter(loader))

    def step() -> None:
        batch = next(stream)
        update(batch["pixel_values"].to(device), batch["labels"].to(device))

    return step


def obvious_update(model: ICLMoEForImageClassification, objective: ICLObjective) -> Callable[[Tensor, Tensor], None]:
    """Forward, backward and update in loops."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), foreach=False, lr=0.01, momentum=0.9, weight_decay=5e-4)
    looped = LoopedICL(objective)

    def update(pixel_values: Tensor, labels: Tensor) -> None:
        outputs = looped_forward(model, pixel_values)
        loss = sum(looped(outputs, labels, IN_THE_MIDDLE).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        looped.observe(outputs, labels)
        loss.item()

    return update


def fast_update(model: ICLMoEForImageClassification, objective: ICLObjective) -> Callable[[Tensor, Tensor], None]:
    """Forward, backward and update as the Trainer does them."""
    model = with_fast_layout(model).train()
    optimizer = torch.optim.SGD(model.parameters(), fused=True, lr=0.01, momentum=0.9, weight_decay=5e-4)

    def update(pixel_values: Tensor, labels: Tensor) -> None:
        outputs = model(pixel_values)
        loss = sum(objective(outputs, labels, IN_THE_MIDDLE).values())
        loss.backward()
        objective.observe(outputs, labels)
        optimizer.step()
        optimizer.zero_grad()

    return update


def convolution_figure(device: str, repeats: int) -> Figure:
    """All convolutions of the network, forward and backward, beside the machine's product of large matrices."""
    model, _ = make_network(cifar_config(), device)
    convolutions, work = convolution_passes(with_fast_layout(model), random_batch(BATCH, device=device)[0])
    product, product_work = matrix_product(device)

    def all_convolutions() -> None:
        for run in convolutions:
            run()

    times = times_in_turn({"ours": all_convolutions, "product": product}, device, repeats)
    limit = Spread.of(times["product"]).per(product_work)
    rate = Spread.of(times["ours"]).per(work)
    details = {"limit": "float32 product of large matrices", "limit_rate": limit.median}
    details |= {"share_of_limit": rate.median / limit.median, "target_share": 0.8}
    return Figure("train", "its convolutions alone", "GFLOP/s", rate, details=details)


def convolution_passes(model: nn.Module, pixel_values: Tensor) -> tuple[list[Callable[[], object]], float]:
    """A function for each convolution that runs it forward and backward, and their work in GFLOP."""
    calls: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, _: calls.append((module, inputs[0].detach())))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model(pixel_values)
    for hook in hooks:
        hook.remove()
    passes, work = [], 0.0
    for index, (convolution, inputs) in enumerate(calls):
        first = index == 0  # nobody needs the gradient of the images
        with torch.no_grad():
            outputs = convolution(inputs)
        inputs = inputs.clone().requires_grad_(not first)
        wanted = [convolution.weight] if first else [inputs, convolution.weight]

        passes.append(functools.partial(_both_ways, convolution, inputs, wanted, torch.ones_like(outputs)))
        work += (1 + len(wanted)) * 2 * outputs.numel() * convolution.weight[0].numel() / 1e9
    return passes, work


def _both_ways(convolution: nn.Conv2d, inputs: Tensor, wanted: list[Tensor], gradient: Tensor) -> None:
    torch.autograd.grad(convolution(inputs), wanted, gradient)
