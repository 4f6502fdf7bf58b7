"""AutoAugment's CIFAR-10 policy on whole batches of uint8 images, with Pillow's operations, see `image_operations`.

Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019: table 7 (25 sub-policies of two
operations). Magnitudes have the ten levels of the Pillow version that long-tailed work trains with (P. Popien,
DeepVoltaire/AutoAugment). Two things follow the paper's own code where that version differs: shears sample the nearest
pixel (there: bicubic), and rotations go both ways (there, in older copies: anticlockwise only).
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tailmoe.training.augmentation.image_operations import (
    affine,
    autocontrast,
    color,
    contrast,
    equalize,
    lookup,
    sharpness,
)

LEVELS = 10

# ((operation, probability, level), (operation, probability, level)); each sub-policy is equally likely.
CIFAR10_POLICY = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)

# Magnitude at level 9 (level 0 does nothing): shear per pixel, share of the image's side, degrees, change of the factor 1.
STRENGTHS = {"shear_x": 0.3, "shear_y": 0.3, "translate_x": 150 / 331, "translate_y": 150 / 331, "rotate": 30.0}
STRENGTHS |= {"color": 0.9, "contrast": 0.9, "sharpness": 0.9, "brightness": 0.9}
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
POINTWISE = ("brightness", "posterize", "solarize", "invert")
OPERATIONS = (*GEOMETRIC, *POINTWISE, "color", "contrast", "sharpness", "autocontrast", "equalize")


def draw_sub_policies(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw for each of `count` images its sub-policy (count,), which of the two operations apply (count, 2) and their
    signs (count, 2), 0 for positive and 1 for negative. All on the CPU."""
    probability = torch.tensor([[p for _, p, _ in pair] for pair in CIFAR10_POLICY], dtype=torch.float64)
    sub_policy = torch.randint(len(CIFAR10_POLICY), (count,), generator=generator)
    applies = torch.rand(count, 2, generator=generator, dtype=torch.float64) < probability[sub_policy]
    negative = torch.randint(2, (count, 2), generator=generator)
    return sub_policy, applies, negative


def apply_sub_policies(images: Tensor, sub_policy: Tensor, applies: Tensor, negative: Tensor) -> Tensor:
    """Apply to each image the operations drawn for it by `draw_sub_policies`, the first of the pair first."""
    operation = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in CIFAR10_POLICY])[sub_policy]
    level = torch.tensor([[level for _, _, level in pair] for pair in CIFAR10_POLICY])[sub_policy]
    operation = operation.where(applies, torch.tensor(-1))
    for position in range(2):
        images = apply_operations(images, operation[:, position], level[:, position], negative[:, position])
    return images


def apply_operations(images: Tensor, operation: Tensor, level: Tensor, negative: Tensor) -> Tensor:
    """Apply to image i the operation OPERATIONS[operation[i]], or none where that is -1.

    Args:
        images: (B, C, H, W), uint8, C = 1 or 3, any device.
        operation, level (0 to 9), negative (0 or 1): (B,), int64, on the CPU, so that grouping does not wait for the device.
    """
    untouched = (operation < 0).nonzero().squeeze(1)
    order, parts = [untouched], [images.index_select(0, untouched.to(images.device, non_blocking=True))]
    for names, function, parameter in PASSES:
        first = OPERATIONS.index(names[0])
        members = ((operation >= first) & (operation < first + len(names))).nonzero().squeeze(1)
        if len(members) == 0:
            continue
        arguments = []
        if parameter is not None:
            table = _parameter_table(names, parameter, *images.shape[2:])
            choice = (operation[members] - first, level[members], negative[members])
            arguments.append(table[choice].to(images.device, non_blocking=True))
        order.append(members)
        parts.append(function(images.index_select(0, members.to(images.device, non_blocking=True)), *arguments))
    place = torch.cat(order).argsort().to(images.device, non_blocking=True)
    return torch.cat(parts).index_select(0, place)


@lru_cache(maxsize=64)
def _parameter_table(names: tuple[str, ...], parameter: Callable[..., Tensor], height: int, width: int) -> Tensor:
    """The parameters of a pass by [operation of `names`, level, negative]."""
    rows = [
        parameter(name, level, sign, height, width) for name in names for level in range(LEVELS) for sign in (1, -1)
    ]
    return torch.stack(rows).unflatten(0, (len(names), LEVELS, 2))


def _magnitude(name: str, level: int, sign: int) -> float:
    return sign * float(np.linspace(0.0, STRENGTHS[name], LEVELS)[level])


def _factor(name: str, level: int, sign: int, height: int, width: int) -> Tensor:
    """Blending factor, scalar float32."""
    return torch.tensor(1 + _magnitude(name, level, sign), dtype=torch.float32)


def _matrix(name: str, level: int, sign: int, height: int, width: int) -> Tensor:
    """The six numbers of `affine` (6,) int32, from result to source, rounded as Pillow does."""
    magnitude = _magnitude(name, level, sign)
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    if name == "shear_x":
        b = magnitude
    elif name == "shear_y":
        d = magnitude
    elif name == "translate_x":
        c = magnitude * width
    elif name == "translate_y":
        f = magnitude * height
    else:
        angle = -math.radians(magnitude % 360.0)
        a = e = round(math.cos(angle), 15)
        b = round(math.sin(angle), 15)
        d = -b
        c = a * (-width / 2) + b * (-height / 2) + width / 2
        f = d * (-width / 2) + e * (-height / 2) + height / 2
    numbers = (a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5)
    return torch.tensor([math.floor(v * 65536.0 + 0.5) for v in numbers], dtype=torch.int32)


def _values(name: str, level: int, sign: int, height: int, width: int) -> Tensor:
    """The new value of each of the 256 pixel values, (256,) uint8."""
    value = torch.arange(256)
    if name == "brightness":
        new = (value * _factor(name, level, sign, height, width)).clamp(max=255)
    elif name == "posterize":
        dropped = 8 - int(np.linspace(8, 4, LEVELS).round()[level])
        new = value >> dropped << dropped
    else:
        threshold = float(np.linspace(256, 0, LEVELS)[level]) if name == "solarize" else 0
        new = torch.where(value < threshold, value, 255 - value)
    return new.to(torch.uint8)


# Operations that share a pass, the function over the images they fell on, and its parameter by operation, level and sign.
PASSES: tuple[tuple[tuple[str, ...], Callable[..., Tensor], Callable[..., Tensor] | None], ...] = (
    (GEOMETRIC, affine, _matrix),
    (POINTWISE, lookup, _values),
    (("color",), color, _factor),
    (("contrast",), contrast, _factor),
    (("sharpness",), sharpness, _factor),
    (("autocontrast",), autocontrast, None),
    (("equalize",), equalize, None),
)
