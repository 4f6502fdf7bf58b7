"""What the benchmark runs on: the CIFAR network of ICL-MoE, images that ship with the project, and the naive baseline's."""

import io
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification, TailMoEImageProcessor
from tailmoe.training.data import DecodedImages, load_long_tailed, long_tailed_counts
from tailmoe.training.data.lazy_images import available_cores
from tailmoe.training.objectives import ICLObjective
from tailmoe.training.trainer.arguments import LongTailTrainingArguments

SIZE, CLASSES, EXPERTS, BATCH = 32, 100, 3, 128
PADDING, CUTOUT = 4, 16


@dataclass(frozen=True)
class BenchmarkImages:
    """Colour images as a file has them and as memory has them, with random labels."""

    encoded: list[bytes]
    decoded: DecodedImages
    processor: TailMoEImageProcessor


def benchmark_images(count: int = 2048, num_classes: int = CLASSES) -> BenchmarkImages:
    """The first FashionMNIST-LT images, brought to the form of CIFAR: 32x32, three channels, PNG."""
    encoded, pixels = [], []
    for row in load_long_tailed("fashion_mnist_lt")["train"].select(range(count)):
        image = row["image"].convert("RGB").resize((SIZE, SIZE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        encoded.append(buffer.getvalue())
        pixels.append(torch.from_numpy(np.array(image)))
    processor = TailMoEImageProcessor(num_channels=3, size={"height": SIZE, "width": SIZE})
    labels = torch.randint(num_classes, (count,), generator=torch.Generator().manual_seed(0))
    labels[:num_classes] = torch.arange(num_classes)  # every class has an image
    decoded = DecodedImages(torch.stack(pixels).permute(0, 3, 1, 2).contiguous(), labels)
    return BenchmarkImages(encoded, decoded, processor)


class NaiveImages(Dataset):
    """Decodes, crops, flips, normalises and cuts out each image when it is asked for."""

    def __init__(self, images: BenchmarkImages):
        self.encoded, self.labels = images.encoded, images.decoded.labels
        self.mean, self.std = images.processor.image_mean, images.processor.image_std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = ImageOps.expand(Image.open(io.BytesIO(self.encoded[index])), PADDING)
        left, top = random.randint(0, 2 * PADDING), random.randint(0, 2 * PADDING)
        image = image.crop((left, top, left + SIZE, top + SIZE))
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        pixels = (torch.from_numpy(np.array(image)) / 255 - torch.tensor(self.mean)) / torch.tensor(self.std)
        y, x = random.randrange(SIZE) - CUTOUT // 2, random.randrange(SIZE) - CUTOUT // 2
        pixels[max(y, 0) : y + CUTOUT, max(x, 0) : x + CUTOUT] = 0
        return {"pixel_values": pixels.permute(2, 0, 1), "labels": self.labels[index]}


def naive_loader(images: BenchmarkImages) -> DataLoader:
    """Shuffled batches of images one by one, by a process for each core."""
    return DataLoader(NaiveImages(images), BATCH, shuffle=True, num_workers=available_cores(), persistent_workers=True)


def cifar_config(**changes: object) -> ICLMoEConfig:
    """ResNet-32 with experts, of the standard width, for CIFAR-100-LT with imbalance factor 100."""
    num_labels = changes.get("num_labels", CLASSES)
    counts = long_tailed_counts(num_labels, 500, 100)
    return ICLMoEConfig(**{"num_experts": EXPERTS, "num_labels": num_labels, "class_counts": counts} | changes)


def make_network(config: ICLMoEConfig, device: str = "cpu") -> tuple[ICLMoEForImageClassification, ICLObjective]:
    """A network and its objective, whose terms are the same at every step: all but diversity; the same for a configuration."""
    torch.manual_seed(0)
    objective = ICLObjective(config, diversity_until=0.0, contrast_from=0.0)
    return ICLMoEForImageClassification(config).to(device), objective.to(device)


def random_batch(batch_size: int, size: int = SIZE, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Normalised images (B, 3, size, size) and labels (B,)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, size, size, generator=generator).to(device)
    return images, torch.randint(CLASSES, (batch_size,), generator=generator).to(device)


def arguments(device: str, folder: str = "unused", **changes: object) -> LongTailTrainingArguments:
    """Of a Trainer that augments as the naive baseline does."""
    fixed = {"auto_augment": False, "crop_padding": PADDING, "cutout_size": CUTOUT}
    fixed |= {"output_dir": folder, "per_device_train_batch_size": BATCH, "use_cpu": device == "cpu"}
    return LongTailTrainingArguments(**(fixed | {"report_to": "none", "disable_tqdm": True} | changes))


def operations(model: ICLMoEForImageClassification, training: bool, device: str) -> float:
    """Of one image forward, and in training backward, in GFLOP."""
    images, labels = random_batch(2, device=device)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        outputs = model(images, labels=labels if training else None)
        if training:
            outputs.loss.backward()
    return counter.get_total_flops() / len(images) / 1e9
