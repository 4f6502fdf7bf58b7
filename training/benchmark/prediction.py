"""Prediction with the CIFAR network: fused and exported, beside the model as it is loaded."""

import copy
import tempfile
from functools import partial

import torch
from torch import Tensor

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.benchmark.measure import figure, times_in_turn
from tailmoe.training.benchmark.setting import SIZE, cifar_config, make_network, operations, random_batch
from tailmoe.training.evaluation.inference import Runner, fuse_for_inference, onnx_runner

BATCH_SIZES = (1, 256)


def inference_figures(device: str, repeats: int) -> list[dict]:
    """One image and 256 at a time: torch, and ONNX Runtime on the CPU."""
    plain = make_network(cifar_config(), device)[0].eval()
    runners: dict[str, Runner] = {"torch": fuse_for_inference(copy.deepcopy(plain))}
    if device == "cpu":
        processor = TailMoEImageProcessor(num_channels=3, size={"height": SIZE, "width": SIZE})
        with tempfile.TemporaryDirectory() as folder:
            runners["ONNX Runtime"] = onnx_runner(runners["torch"], processor, folder)
    gflop, figures = operations(plain, training=False, device=device), []
    for batch_size in BATCH_SIZES:
        images, _ = random_batch(batch_size, device=device)
        candidates = {name: partial(_logits, run, images) for name, run in (runners | {"naive": plain}).items()}
        times = times_in_turn(candidates, device, repeats)
        for name in runners:
            both = {"ours": times[name], "naive": times["naive"]}
            figures.append(figure(f"{name}, {batch_size} at a time", "images/s", batch_size, both, 1.5, gflop=gflop))
    return figures


@torch.inference_mode()
def _logits(run: Runner, images: Tensor) -> Tensor:
    return run(pixel_values=images)["logits"]
