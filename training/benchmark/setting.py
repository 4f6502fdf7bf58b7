"""What the benchmark runs on: the CIFAR network of ICL-MoE, and images that ship with the project."""

import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification, TailMoEImageProcessor
from tailmoe.training.data import DecodedImages, load_long_tailed, long_tailed_counts
from tailmoe.training.objectives import ICLObjective

SIZE, CLASSES, EXPERTS, BATCH = 32, 100, 3, 128
IN_THE_MIDDLE = 0.7  # progress with the contrastive term, which most of a run has


@dataclass(frozen=True)
class BenchmarkImages:
    """Colour images as a file has them and as memory has them, with random labels."""

    encoded: list[bytes]
    decoded: DecodedImages
    processor: TailMoEImageProcessor


def benchmark_images(count: int = 2048, num_classes: int = CLASSES) -> BenchmarkImages:
    """The first FashionMNIST-LT images, brought to the form of CIFAR: 32x32, three channels, PNG."""
    dataset = load_long_tailed("fashion_mnist_lt")["train"]
    encoded, pixels = [], []
    for row in dataset.select(range(count)):
        image = row["image"].convert("RGB").resize((SIZE, SIZE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        encoded.append(buffer.getvalue())
    processor = TailMoEImageProcessor(num_channels=3, size={"height": SIZE, "width": SIZE})
    for data in encoded:
        image = Image.open(io.BytesIO(data))
        pixels.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3))
    labels = torch.randint(num_classes, (count,), generator=torch.Generator().manual_seed(0))
    labels[:num_classes] = torch.arange(num_classes)  # every class has an image
    return BenchmarkImages(
        encoded, DecodedImages(torch.stack(pixels).permute(0, 3, 1, 2).contiguous(), labels), processor
    )


def cifar_config(num_experts: int = EXPERTS, num_labels: int = CLASSES, **changes: object) -> ICLMoEConfig:
    """ResNet-32 with experts, of the standard width, for CIFAR-100-LT with imbalance factor 100."""
    counts = long_tailed_counts(num_labels, 500, 100)
    return ICLMoEConfig(num_experts=num_experts, num_labels=num_labels, class_counts=counts, **changes)


def make_network(config: ICLMoEConfig, device: str = "cpu") -> tuple[ICLMoEForImageClassification, ICLObjective]:
    """A network and its objective, the same for the same configuration."""
    torch.manual_seed(0)
    return ICLMoEForImageClassification(config).to(device), ICLObjective(config).to(device)


def random_batch(
    batch_size: int, size: int = SIZE, num_classes: int = CLASSES, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Normalised images (B, 3, size, size) and labels (B,)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, size, size, generator=generator).to(device)
    return images, torch.randint(num_classes, (batch_size,), generator=generator).to(device)
