"""Prediction with the CIFAR network: fused and exported, beside the model as it is."""

import copy
import tempfile

import torch

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.benchmark.measure import Figure, compare, times_in_turn
from tailmoe.training.benchmark.reference import looped_forward
from tailmoe.training.benchmark.setting import SIZE, cifar_config, make_network, random_batch
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

        def reference(images=images):
            with torch.no_grad():
                looped_forward(plain, images)

        candidates = {name: _in_inference_mode(runner, images) for name, runner in runners.items()}
        times = times_in_turn({"reference": reference, **candidates}, device, repeats, warmups=2)
        figures += [
            compare(
                "inference",
                f"{name}, {batch_size} at a time",
                "images/s",
                batch_size,
                {"ours": times[name], "reference": times["reference"]},
                target=1.5,
                largest_difference=_largest_difference(runner, plain, images),
            )
            for name, runner in runners.items()
        ]
    return figures


def _in_inference_mode(runner, images):
    def run() -> None:
        with torch.inference_mode():
            runner(images)

    return run


@torch.inference_mode()
def _largest_difference(runner, plain, images) -> float:
    return float((runner(images)["logits"] - looped_forward(plain, images).logits).abs().max())
