"""Which files are images: those that Pillow reads, known by their suffix, else by their first bytes."""

import contextlib
import os

from PIL import Image

with contextlib.suppress(ImportError):  # Pillow reads HEIC once this package is installed
    import pillow_heif

    pillow_heif.register_heif_opener()

Image.init()
# Pillow knows them without reading them
NO_PICTURES = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
READ = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN} - {
    suffix for suffix, name in Image.registered_extensions().items() if name in NO_PICTURES
}
HEIC = "in HEIC format, which is read after `pip install pillow-heif`"
CONVERT = "in {} format, which Pillow does not read: convert them to PNG or JPEG"
UNREAD = {
    HEIC: (".heic", ".heif", ".hif"),
    CONVERT.format("AVIF"): (".avif",),
    CONVERT.format("JPEG XL"): (".jxl",),
    CONVERT.format("SVG"): (".svg", ".svgz"),
    CONVERT.format("DICOM"): (".dcm", ".dicom"),
    CONVERT.format("a camera's raw"): (
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"),
    ),
}
REASON_OF = {suffix: reason for reason, suffixes in UNREAD.items() for suffix in suffixes if suffix not in READ}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
# those that tell by the first bytes; the others take anything
ACCEPTS = [accept for name, (_, accept) in Image.OPEN.items() if accept is not None and name not in NO_PICTURES]


def has_image_suffix(path: str) -> bool:
    """Whether the name is that of an image, whether Pillow reads it or not."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix in READ or suffix in REASON_OF


def unread_format(path: str) -> str | None:
    """Why Pillow does not read images with the suffix of this path; None if it does."""
    return REASON_OF.get(os.path.splitext(path)[1].lower())


def look_at(path: str) -> tuple[bool, str | None]:
    """Whether a file is an image, and if it is, why it cannot be read; None if it can.

    A file whose suffix says what it is is not opened.
    """
    if os.path.splitext(path)[1].lower() in READ:
        return True, None
    reason = unread_format(path)
    return (True, reason) if reason is not None else _look_inside(path)


def _look_inside(path: str) -> tuple[bool, str | None]:
    try:
        with open(path, "rb") as file:
            head = file.read(32)
        if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS and ".heic" not in READ:
            return True, HEIC
        if not any(accept(head) not in (False, None) for accept in ACCEPTS):
            return False, None
        with Image.open(path):
            return True, None
    except Image.DecompressionBombError:
        return True, None  # told when it is decoded
    except Exception:  # what only begins like an image makes Pillow's plugins raise errors of any type
        return False, None
