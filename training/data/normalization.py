"""The scale in which networks take pixels."""

import torch
from torch import Tensor
from transformers import BaseImageProcessor


class Normalization(torch.nn.Module):
    """Scales and normalises uint8 images (B, C, H, W) to floats as the image processor does."""

    def __init__(self, processor: BaseImageProcessor):
        super().__init__()
        mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
        self.register_buffer("scale", processor.rescale_factor / std)
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> Tensor:
        return torch.mul(images, self.scale).add_(self.shift)
