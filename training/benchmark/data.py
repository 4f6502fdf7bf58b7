"""From encoded images to normalised batches."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.data import DataLoader

from tailmoe.training.benchmark.measure import figure, times_in_turn
from tailmoe.training.benchmark.setting import BATCH, BenchmarkImages, arguments, benchmark_images, naive_loader
from tailmoe.training.data.images import whole_batch
from tailmoe.training.trainer.batches import AugmentedBatches


def data_figures(device: str, repeats: int) -> list[dict]:
    """Epochs of 2,048 images of 32x32 pixels, without and with AutoAugment."""
    images = benchmark_images()
    loader, count = naive_loader(images), len(images.encoded)

    def naive_epoch() -> None:
        for batch in loader:
            for value in batch.values():
                value.to(device)

    plain, augmented = whole_batches(images, device), whole_batches(images, device, auto_augment=True)
    candidates = {"naive": naive_epoch}
    candidates |= {"ours": lambda: deque(plain(), maxlen=0), "AutoAugment": lambda: deque(augmented(), maxlen=0)}
    times = times_in_turn(candidates, device, repeats, least=0.3)
    return [
        figure("crop, flip, Cutout", "images/s", count, times, 10.0, batch_size=BATCH),
        figure("with AutoAugment", "images/s", count, {"ours": times["AutoAugment"]}, batch_size=BATCH),
    ]


def whole_batches(
    images: BenchmarkImages, device: str, **changes: object
) -> Callable[[], Iterator[dict[str, Tensor]]]:
    """Epochs of batches as the Trainer makes them; `changes` are of its arguments."""
    batches = AugmentedBatches.of_arguments(arguments(device, **changes), images.processor)
    loader = DataLoader(images.decoded.to(device), BATCH, shuffle=True, collate_fn=whole_batch)

    def epoch() -> Iterator[dict[str, Tensor]]:
        source = iter(loader)
        for step in itertools.count():
            taken = batches.take(source, 1, step)
            if not taken:
                return
            yield batches.finish(taken[0])

    return epoch
