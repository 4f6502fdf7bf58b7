"""The command that measures this machine."""

import sys
from typing import Annotated, Literal

from typer import Argument, Option

from tailmoe.training.cli.options import Json
from tailmoe.training.errors import BadInputError

PARTS = ("data", "train", "trainer", "losses", "inference", "backbones", "memory")


def benchmark(
    parts: Annotated[
        list[str], Argument(metavar="PART", help=f"any of {', '.join(PARTS)}; all but memory if none is given")
    ] = (),
    device: Annotated[Literal["cpu", "cuda"], Option(help="what is measured")] = "cpu",
    repeats: Annotated[int, Option(metavar="N", help="rounds of each measurement")] = 10,
    json: Json = None,
) -> None:
    """Measure how fast this machine trains and predicts.

    Each part is measured in turn with a naive baseline, what one would write
    without tailmoe, and the machine's own limit. All take about twenty minutes
    on 2 cores.

    \b
    data       from encoded images to augmented, normalised batches
    train      ICL-MoE's training step, ResNet-32 with three experts, from
               images to updated weights
    trainer    LongTailTrainer beside a plain loop of the same step
    losses     each loss, forward and backward
    inference  one image and 256 at a time, by torch and by ONNX Runtime
    backbones  three experts on ResNet-50, ConvNeXt V2, Swin, DINOv2, ViT beside
               the plain backbone
    memory     on request: memory and speed against the size of the data set, on
               folders like ImageNet-LT and iNaturalist 2018

    With --json FILE.json memory is drawn, too, into FILE-memory.png.

    \b
      tailmoe benchmark
      tailmoe benchmark train inference --repeats 20
      tailmoe benchmark memory --json large.json
    """
    for part in parts:
        if part not in PARTS:
            raise BadInputError(f"`{part}` is not a part of the benchmark; give any of {', '.join(PARTS)}.")
    from tailmoe.hub_cards.benchmark_table import benchmark_table
    from tailmoe.training.benchmark.run import run_benchmark

    sys.stdout.write(f"\n{benchmark_table(run_benchmark(parts, device, repeats, json))}\n")
