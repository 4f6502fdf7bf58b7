"""Long-tailed splits of image data sets, and their images decoded once."""

import importlib

# imported when asked for: counts and splits must not wait for torch and transformers
HOMES = {
    "DecodedImages": "images",
    "LazyImages": "lazy_images",
    "class_counts": "long_tailed",
    "decode_image": "images",
    "load_images": "lazy_images",
    "load_long_tailed": "splits",
    "long_tailed_counts": "long_tailed",
    "make_long_tailed": "long_tailed",
}
__all__ = list(HOMES)


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
