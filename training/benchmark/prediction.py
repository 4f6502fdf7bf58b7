"""Prediction with the CIFAR network: fused and exported, beside the model as it is."""

import copy
import tempfile
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.benchmark.measure import Figure, Spread, compare, matrix_product, times_in_turn
from tailmoe.training.benchmark.reference import looped_forward
from tailmoe.training.benchmark.setting import SIZE, cifar_config, make_network, random_batch
from tailmoe.training.evaluation import Runner
from tailmoe.training.inference import fuse_for_inference, onnx_runner

BATCH_SIZES = (1, 256)


def inference_figures(device: str, repeats: int) -> list[Figure]:
    """One image and 256 at a time: torch, and ONNX Runtime on the CPU."""
    plain, _ = make_network(cifar_config(), device)
    plain.eval()
    fused = fuse_for_inference(copy.deepcopy(plain))
    runners = {"torch": lambda x: fused(pixel_values=x)}
    if device == "cpu":
        processor = TailMoEImageProcessor(num_channels=3, size={"height": SIZE, "width": SIZE})
        with tempfile.TemporaryDirectory() as folder:
            exported = onnx_runner(fused, processor, folder)
        runners["ONNX Runtime"] = lambda x: exported(pixel_values=x)

    figures = []
    for batch_size in BATCH_SIZES:
        images, _ = random_batch(batch_size, device=device)
        work = _operations(plain, images)

        def reference(images=images):
            with torch.no_grad():
                looped_forward(plain, images)

        candidates = {name: _in_inference_mode(runner, images) for name, runner in runners.items()}
        product, product_work = matrix_product(device)
        times = times_in_turn({"reference": reference, **candidates, "product": product}, device, repeats, warmups=2)
        limit = Spread.of(times["product"]).per(product_work).median
        figures += [
            compare(
                "inference",
                f"{name}, {batch_size} at a time",
                "images/s",
                batch_size,
                {"ours": times[name], "reference": times["reference"]},
                target=1.5,
                largest_difference=_largest_difference(runner, plain, images),
                share_of_limit=work / Spread.of(times[name]).median / limit,
            )
            for name, runner in runners.items()
        ]
    return figures


def _in_inference_mode(runner: Runner, images: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            runner(images)

    return run


@torch.no_grad()
def _operations(model: nn.Module, images: Tensor) -> float:
    """Of the forward pass, in GFLOP."""
    with FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() / 1e9


@torch.inference_mode()
def _largest_difference(runner: Runner, plain: nn.Module, images: Tensor) -> float:
    return float((runner(images)["logits"] - looped_forward(plain, images).logits).abs().max())
