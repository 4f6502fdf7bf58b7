"""Random augmentation of whole batches of uint8 images, on the images' own device.

Every random number comes from a CPU generator: the same seed gives the same images on every device, and a step seeded by
(seed, step) can be repeated. Per-image parameters are tensors (B,); there is no loop over images and no wait for the device
(`non_blocking`: an ordinary copy to a GPU waits until its queue is empty).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tailmoe.training.augmentation.autoaugment import apply_sub_policies, draw_sub_policies
from tailmoe.training.augmentation.image_operations import choose
from tailmoe.training.errors import BadInputError


def crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Pad every side with `padding` zeros, then cut windows of the original size.

    Args:
        images: (B, C, H, W).
        top, left: (B,), integer, 0 to 2 * padding: the window's corner in the padded image; `padding` is no shift.
    """
    (batch, channels, height, width), device = images.shape, images.device
    padded = F.pad(images, (padding,) * 4)
    pitch = padded.shape[3]
    corners = (torch.arange(batch, device=device) * channels * padded.shape[2] + top) * pitch + left
    planes = torch.arange(channels, device=device)[:, None] * padded.shape[2]
    rows = corners[:, None, None] + (planes + torch.arange(height, device=device)) * pitch  # (B, C, H)
    # whole rows are copied, from wherever they start in memory
    return padded.flatten().unfold(0, width, 1).index_select(0, rows.flatten()).view(images.shape)


def resized_crop(images: Tensor, top: Tensor, left: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """Cut a window out of each image and bring it to the image's size, bilinearly.

    Args:
        images: (B, C, H, W), uint8.
        top, left: (B,), integer, the window's corner.
        heights, widths: (B,), integer, its size.
    """

    def positions(start: Tensor, size: Tensor, length: int) -> Tensor:  # (B, length), pixels' centres in [-1, 1]
        centres = (torch.arange(length, device=images.device) + 0.5) / length
        return 2 * (start[:, None] + centres * size[:, None]) / length - 1

    y, x = positions(top, heights, images.shape[2]), positions(left, widths, images.shape[3])
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False).round().to(torch.uint8)


def draw_windows(
    count: int, height: int, width: int, min_area: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Corner and size of random windows, (count,) each: between `min_area` and all of the area, 3:4 to 4:3 (Szegedy et al., 2015)."""
    area, ratio, y, x = torch.rand(4, count, generator=generator)
    area = (min_area + (1 - min_area) * area) * height * width
    ratio = ((2 * ratio - 1) * math.log(4 / 3)).exp()  # width by height
    heights = (area / ratio).sqrt().round().clamp(1, height)
    widths = (area * ratio).sqrt().round().clamp(1, width)
    corners = (y * (height - heights + 1)).floor(), (x * (width - widths + 1)).floor()
    return tuple(each.long() for each in (*corners, heights, widths))


def horizontal_flip(images: Tensor, flip: Tensor) -> Tensor:
    """Mirror the images (B, C, H, W), uint8, where `flip` (B,), bool, is true."""
    return choose(flip[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, center_y: Tensor, center_x: Tensor, size: int, fill: Tensor | None = None) -> Tensor:
    """Overwrite a square of each image, clipped at the border: pixels from center - size // 2, `size` of them each way.

    DeVries & Taylor 2017 zero the square after normalisation: `fill` is then the data's mean colour.

    Args:
        images: (B, C, H, W), uint8.
        center_y, center_x: (B,), integer, a pixel of the image.
        fill: (C,), uint8; None is black.
    """
    height, width = images.shape[2:]
    inside_y = _in_span(height, center_y, size)[:, None, :, None]
    inside_x = _in_span(width, center_x, size)[:, None, None, :]
    color = images.new_zeros(1) if fill is None else fill.to(images, non_blocking=True)
    return choose(inside_y & inside_x, color[:, None, None], images)


def _in_span(length: int, center: Tensor, size: int) -> Tensor:
    """Which of `length` positions lie in the span of `size` around each center: (B, length)."""
    offset = torch.arange(length, device=center.device) - (center - size // 2).unsqueeze(1)
    return (offset >= 0) & (offset < size)


def draw_mixup(count: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draw the partners and the weight of mixup for a batch of `count` images, from a CPU generator.

    Args:
        alpha: above 0; the weight is max(l, 1 - l), l ~ Beta(alpha, alpha), one for the batch.

    Returns:
        The permutation (count,) and the weight in [0.5, 1].

    Raises:
        BadInputError: if `alpha` is not above 0.
    """
    if not alpha > 0:
        raise BadInputError(f"`alpha` of mixup must be above 0, got {alpha}.")
    permutation = torch.randperm(count, generator=generator)
    # torch's public Beta takes no generator.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    return permutation, max(share, 1 - share)


def mixup(images: Tensor, permutation: Tensor, weight: float | Tensor) -> Tensor:
    """Mix each image with another of the batch (Zhang et al., "mixup", ICLR 2018).

    The loss is then weight * loss(labels) + (1 - weight) * loss(labels[permutation]).

    Args:
        images: (B, C, H, W), floating point.
        permutation: (B,), each image's partner.
        weight: in [0, 1].

    Raises:
        BadInputError: if the images are not floating point.
    """
    if not images.is_floating_point():
        raise BadInputError(f"`images` of mixup must be floating point (mix after normalising), got {images.dtype}.")
    return weight * images + (1 - weight) * images[permutation]


@dataclass(frozen=True)
class BatchAugmentation:
    """Crops, flip, AutoAugment and Cutout, in this order: the training augmentation of SHIKE and ICL.

    Attributes:
        crop_padding: zeros added on each side before a random crop of the original size, in pixels; 0 is no crop.
        min_crop_area: least share of the image's area in a random window that is resized to the image's size; 1 is no window.
        horizontal_flip: mirror half of the images.
        auto_augment: apply AutoAugment's CIFAR-10 policy; images must then have 1 or 3 channels.
        cutout_size: side of the square that Cutout overwrites, in pixels; 0 is no Cutout. ICL uses 16 on 32x32 images.
        fill: the square's colour, one value 0 to 255 per channel; None is black. The data's mean colour is what Cutout's
            authors use.

    Raises:
        BadInputError: if a field is out of range, or if images do not fit the fields.
    """

    crop_padding: int = 4
    horizontal_flip: bool = True
    auto_augment: bool = False
    cutout_size: int = 0
    fill: tuple[int, ...] | None = None
    min_crop_area: float = 1.0

    def __post_init__(self):
        for name in ("crop_padding", "cutout_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise BadInputError(f"`{name}` must be a whole number of pixels, 0 or more, got {value!r}.")
        for name in ("horizontal_flip", "auto_augment"):
            value = getattr(self, name)
            if type(value) is not bool:
                raise BadInputError(f"`{name}` must be true or false, got {value!r}.")
        if not 0 < self.min_crop_area <= 1:
            raise BadInputError(f"`min_crop_area` must be above 0 and at most 1, got {self.min_crop_area!r}.")
        if self.fill is not None:
            if not isinstance(self.fill, (tuple, list)) or not all(
                type(v) is int and 0 <= v <= 255 for v in self.fill
            ):
                raise BadInputError(f"`fill` must be one whole number 0 to 255 per channel, got {self.fill!r}.")
            object.__setattr__(self, "fill", tuple(self.fill))  # a recipe gives a list

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment images (B, C, H, W), uint8, each with its own parameters; a new tensor on the same device."""
        return self.apply(images, self.draw(images, generator))

    def draw(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Parameters for images (B, C, H, W): (B, 5 to 14), int64, on the CPU; rows of several batches may be joined.

        All are drawn even when unused, so that runs with and without Cutout share their crops.
        """
        self._check(images)
        count, _, height, width = images.shape
        shifts = torch.randint(2 * self.crop_padding + 1, (2, count), generator=generator)
        flip = torch.randint(2, (1, count), generator=generator)
        center_y = torch.randint(height, (1, count), generator=generator)
        center_x = torch.randint(width, (1, count), generator=generator)
        parameters = [*shifts, *flip, *center_y, *center_x]
        if self.auto_augment:
            sub_policy, applies, negative = draw_sub_policies(count, generator)
            parameters += [sub_policy, *applies.long().unbind(1), *negative.unbind(1)]
        if self.min_crop_area < 1:
            parameters += draw_windows(count, height, width, self.min_crop_area, generator)
        return torch.stack(parameters, dim=1)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Augment images (B, C, H, W), uint8, by the parameters that `draw` drew for them."""
        geometry = parameters[:, :5].to(images.device, non_blocking=True)
        top, left, flip, center_y, center_x = geometry.unbind(dim=1)
        if self.crop_padding:
            images = crop(images, top, left, self.crop_padding)
        if self.min_crop_area < 1:
            images = resized_crop(images, *parameters[:, -4:].to(images.device, non_blocking=True).unbind(dim=1))
        if self.horizontal_flip:
            images = horizontal_flip(images, flip.bool())
        if self.auto_augment:
            images = apply_sub_policies(images, parameters[:, 5], parameters[:, 6:8].bool(), parameters[:, 8:10])
        if self.cutout_size:
            fill = None if self.fill is None else torch.tensor(self.fill, dtype=torch.uint8)
            images = cutout(images, center_y, center_x, self.cutout_size, fill)
        return images

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise BadInputError(
                f"`images` must be uint8 (B, C, H, W), got {images.dtype} of shape {tuple(images.shape)}."
            )
        channels = images.shape[1]
        if self.auto_augment and channels not in (1, 3):
            raise BadInputError(f"`auto_augment` needs images of 1 or 3 channels, got {channels}.")
        if self.fill is not None and len(self.fill) != channels:
            raise BadInputError(f"`fill` must have one value per channel, {channels}, got {self.fill}.")
