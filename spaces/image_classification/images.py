"""Visitors' images: whatever is uploaded, an image or one sentence that says why it is none."""

import warnings
from pathlib import Path

import gradio as gr
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder
from PIL import Image
from transformers import BaseImageProcessor

MOST_PIXELS = 40_000_000  # decoded: 120 MB
Image.MAX_IMAGE_PIXELS = MOST_PIXELS


def visitor_image(**options: object) -> gr.Image:
    """A `gr.Image` that hands over the file's path as it is: gradio itself would decode anything, without limits."""
    image = gr.Image(type="filepath", **options)
    image.preprocess = _path_alone
    return image


def _path_alone(payload: ImageData | None) -> str | None:
    return None if payload is None else payload.path


def open_image(path: str, processor: BaseImageProcessor) -> Image.Image:
    """The first frame of an image file as the model's image processor takes it: upright, 8 bits a channel.

    Raises:
        gr.Error: If it was not uploaded, is not an image, truncated, or larger than 40 megapixels.
    """
    # gradio makes sure of that for components; what a program sends to an endpoint may be any path of this machine
    if not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("This is no uploaded file: upload an image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
        return processor.fetch_images(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise gr.Error(f"This image has more than {MOST_PIXELS // 1_000_000} megapixels: make it smaller.") from None
    except Exception:  # on broken bytes Pillow's decoders raise errors of any type
        raise gr.Error("This file cannot be read as an image: choose a whole PNG, JPEG, GIF or WebP file.") from None
