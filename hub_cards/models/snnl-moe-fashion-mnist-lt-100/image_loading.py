"""Images as models see them: of whatever Pillow reads the first frame, upright, with 8 bits a channel, grey or colour."""

import io
import os
import urllib.request
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

ADDRESSES = ("http://", "https://", "data:")
PATIENCE = 30  # seconds without an answer
SHRUNK = 4  # width and height of an image above Pillow's limit are divided by this


def load_image(source: str | os.PathLike | bytes) -> Image.Image:
    """The image of a file as `plain_image` makes it.

    Args:
        source: A path, an address on the web, a data URL, or the file's bytes.

    Raises:
        OSError: If there is no such file, or it is no whole image that Pillow knows; its decoders raise other errors, too.
        ValueError: If it has more than twice `PIL.Image.MAX_IMAGE_PIXELS`, or pixels that are not finite.
    """
    if isinstance(source, str) and source.startswith(ADDRESSES):
        with urllib.request.urlopen(source, timeout=PATIENCE) as answer:
            source = answer.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # up to twice the limit, where Pillow stops
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                return plain_image(image)
        except Image.DecompressionBombError:
            raise ValueError(
                f"it has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} megapixels, as files have that are made to fill the "
                "memory: make it smaller"
            ) from None


def plain_image(image: Image.Image) -> Image.Image:
    """An image of any mode as one of mode L if it is grey, else RGB.

    It is turned as its EXIF data say, transparency is laid over white, and integers and floats of more than 8 bits are
    scaled, where Pillow's own conversion clips them. Above Pillow's limit of pixels, it shrinks to a quarter of its width
    and height.

    Raises:
        ValueError: If it has pixels that are not finite.
    """
    image.load()
    white = _white(image)
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _scaled(image, white)
    elif image.has_transparency_data:
        image = _over_white(image)
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    limit = Image.MAX_IMAGE_PIXELS
    return image.reduce(SHRUNK) if limit is not None and image.width * image.height > limit else image


def _white(image: Image.Image) -> float:
    """The level of white that the mode of an image, or its file, means."""
    if image.mode == "F":
        return 1.0
    bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))[0]  # TIFF alone has 12, too
    return 2.0 ** min(bits, 16) - 1


def _scaled(image: Image.Image, white: float) -> Image.Image:
    """Integers and floats as 8 bits; white is `white`, or the brightest pixel above it."""
    pixels = np.asarray(image)
    if not np.isfinite(pixels).all():
        raise ValueError("it has pixels that are not finite")
    factor = 255 / max(white, float(pixels.max()))
    scaled = (pixels * np.float32(factor)).round().clip(0, 255).astype(np.uint8)
    if "transparency" in image.info:  # one level of grey
        scaled[pixels == image.info["transparency"]] = 255
    return Image.fromarray(scaled)


def _over_white(image: Image.Image) -> Image.Image:
    is_grey = image.mode in ("1", "L", "LA", "La")
    image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB").convert("L" if is_grey else "RGB")
