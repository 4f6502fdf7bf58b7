"""Pillow's operations on images, on whole batches of uint8 images and equal to Pillow's bit for bit.

"Equal" is to Pillow 12 on x86-64: nearest affine maps in 16.16 fixed point sampled at pixel centres, blends in float32 that
truncate and clip. Rotation equals `Image.rotate` of the RGBA image composited over grey. Sides below 16,384 pixels.
The device must have float64 (CPU and CUDA do): autocontrast rounds as Python floats do.

Images are (n, C, H, W), C = 1 or 3, on any device.
"""

import torch
from torch import Tensor

FILL = 128  # grey value of pixels that a geometric operation pulls in from outside


def choose(condition: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """`torch.where` of bytes, ten times as fast on a CPU: by masks of all bits or none."""
    mask = condition.to(torch.uint8) * 255
    return (chosen & mask) | (otherwise & ~mask)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Sample the nearest pixel at (m0 x + m1 y + m2, m3 x + m4 y + m5) / 65536 for each pixel (x, y) of the result;
    outside the image is grey. Images (n, C, H, W), matrix (n, 6) int32."""
    height, width = images.shape[2:]
    y = torch.arange(height, dtype=torch.int32, device=images.device).unsqueeze(1)
    x = torch.arange(width, dtype=torch.int32, device=images.device)
    m = matrix[:, :, None, None].unbind(1)
    column = (m[0] * x + m[1] * y + m[2]) >> 16  # (n, H, W)
    row = (m[3] * x + m[4] * y + m[5]) >> 16
    inner_column, inner_row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    outside = (column != inner_column) | (row != inner_row)
    source = (inner_row * width + inner_column).long().flatten(1).unsqueeze(1)
    sampled = images.flatten(2).gather(2, source.expand(-1, images.shape[1], -1)).view(images.shape)
    return choose(outside.unsqueeze(1), images.new_full((), FILL), sampled)


def lookup(images: Tensor, table: Tensor) -> Tensor:
    """Replace each pixel value v by table[..., v]. Images (n, C, H, W), table (n, 256) or (n, C, 256), uint8."""
    if table.dim() == 2:
        table = table.unsqueeze(1).expand(-1, images.shape[1], -1)
    return table.gather(2, images.flatten(2).long()).view(images.shape)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image (n, C, H, W) with its greyscale version by `factor` (n,): 0 is grey. Grey images stay as they are."""
    return images if images.shape[1] == 1 else _blend(_luma(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image (n, C, H, W) with its mean luma by `factor` (n,): 0 is one grey."""
    luma = _luma(images).flatten(1)
    count = luma.shape[1]
    mean = (2 * luma.sum(1) + count) // (2 * count)  # rounded half up
    return _blend(mean[:, None, None, None], images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image (n, C, H, W) with its smoothed version by `factor` (n,): 0 is smooth; border pixels do not change."""
    pixels = images.float()
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    weighted = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * pixels[:, :, 1:-1, 1:-1]  # of weight 13
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = ((2 * weighted + 13) / 26).floor()  # whole numbers, never a tie
    return _blend(smooth, images, factor)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image (n, C, H, W) to the range 0 to 255; a constant channel does not change."""
    darkest = images.flatten(2).amin(2, keepdim=True).double()
    span = images.flatten(2).amax(2, keepdim=True).double() - darkest
    scale = torch.full_like(span, 255).div(span.clamp(min=1))  # 255 / span takes a reciprocal: two roundings
    values = torch.arange(256, dtype=torch.float64, device=images.device)
    table = (values * scale + -darkest * scale).clamp(0, 255)
    return lookup(images, torch.where(span > 0, table, values).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image (n, C, H, W), in Pillow's integer arithmetic."""
    pixels = images.flatten(2).long()
    counts = pixels.new_zeros(*pixels.shape[:2], 256).scatter_add_(2, pixels, torch.ones_like(pixels))
    brightest = counts.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - brightest) // 255
    table = ((step // 2 + counts.cumsum(2) - counts) // step.clamp(min=1)).clamp(max=255)
    values = torch.arange(256, device=images.device)
    return lookup(images, torch.where(step > 0, table, values).to(torch.uint8))


def _luma(images: Tensor) -> Tensor:
    """ITU-R 601 luma in Pillow's fixed point: (n, C, H, W) -> (n, 1, H, W) int32."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, 1)
    return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """degenerate + factor (images - degenerate) in float32, clipped and truncated."""
    degenerate = degenerate.float()
    difference = images - degenerate
    return difference.mul_(factor.view(-1, 1, 1, 1)).add_(degenerate).clamp_(0, 255).to(torch.uint8)
