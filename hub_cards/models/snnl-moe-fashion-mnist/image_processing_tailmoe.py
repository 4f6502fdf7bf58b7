"""Image processor of both models."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import ImageInput, PILImageResampling
from transformers.processing_utils import ImagesKwargs, Unpack

from .image_loading import load_image, plain_image

LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in grey (ITU-R BT.601)


class TailMoEImageProcessorKwargs(ImagesKwargs, total=False):
    """Adds `num_channels`: 3 to convert every image to colour, 1 to convert it to grey."""

    num_channels: int


class TailMoEImageProcessor(PilBackend):
    """Converts images to colour or grey, resizes them, scales them to [0, 1] and normalises them.

    Images may be files, addresses, images of Pillow in any mode, or arrays of 8 bits a channel: see `fetch_images`.
    """

    valid_kwargs = TailMoEImageProcessorKwargs
    resample = PILImageResampling.BILINEAR
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    size = {"height": 32, "width": 32}  # noqa: RUF012 (as transformers declares it)
    do_resize = True
    do_rescale = True
    do_normalize = True
    num_channels = 3

    def __init__(self, **kwargs: Unpack[TailMoEImageProcessorKwargs]):
        super().__init__(**kwargs)
        self._check_num_channels(self.num_channels)
        self.image_mean, self.image_std = self._per_channel(self.image_mean), self._per_channel(self.image_std)

    @staticmethod
    def _check_num_channels(num_channels: int) -> None:
        if num_channels not in (1, 3):
            raise ValueError(f"`num_channels` must be 1 (grey) or 3 (colour), got {num_channels}.")

    def _per_channel(self, values: float | Sequence[float]) -> tuple[float, ...]:
        """One value for each channel; the class defaults are written for colour."""
        values = (values,) * self.num_channels if isinstance(values, int | float) else tuple(values)
        return values[: self.num_channels]

    def fetch_images(self, image_url_or_urls: ImageInput | str | os.PathLike) -> ImageInput:
        """Images as training and prediction see them: of files the first frame, upright, with 8 bits a channel.

        Transparency is laid over white, and 16-bit and float pixels are scaled. `load_image` of transformers, and so its
        pipelines, throw the transparency away and clip the pixels; what this gives, they leave as it is. Lists are
        lists of images, and arrays stay as they are.
        """
        if isinstance(image_url_or_urls, str | os.PathLike):
            return load_image(image_url_or_urls)
        if isinstance(image_url_or_urls, Image.Image):
            return plain_image(image_url_or_urls)
        return super().fetch_images(image_url_or_urls)

    def process_image(self, image: ImageInput, num_channels: int = 3, **kwargs) -> np.ndarray:
        # one image of any mode -> (num_channels, H, W)
        self._check_num_channels(num_channels)
        colour = super().process_image(image, **{**kwargs, "do_convert_rgb": True})
        if num_channels == 3:
            return colour
        if colour.dtype != np.uint8:
            return np.tensordot(LUMA, colour, axes=1)[None].astype(colour.dtype)
        # in 16-bit fixed point, so that the result is Pillow's own conversion to mode L; grey stays as it is
        fixed = np.round(LUMA * 2**16).astype(np.uint32)
        return ((np.tensordot(fixed, colour.astype(np.uint32), axes=1) + 2**15) >> 16).astype(np.uint8)[None]


__all__ = ["TailMoEImageProcessor"]
