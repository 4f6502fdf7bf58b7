"""Long-tailed splits of image data sets, and their images decoded once."""

from tailmoe.training.data.images import DecodedImages, decode_image
from tailmoe.training.data.long_tailed import class_counts, long_tailed_counts, make_long_tailed
from tailmoe.training.data.sources import load_long_tailed

__all__ = [
    "DecodedImages",
    "class_counts",
    "decode_image",
    "load_long_tailed",
    "long_tailed_counts",
    "make_long_tailed",
]
