"""Images of every mode that Pillow has, from files and in memory, are the picture that they show."""

import base64
import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image, ImageCms

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.modeling.image_loading import load_image, plain_image

COLOUR = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(
    (18, 12), Image.Resampling.BICUBIC
)
GREY = COLOUR.convert("L")
WIDE = np.asarray(GREY).astype(np.uint16) * 257
BILEVEL = COLOUR.convert("1")
FEW = COLOUR.quantize(16)
SRGB, LAB = (ImageCms.createProfile(space) for space in ("sRGB", "LAB"))
# the mode, an image of it, the picture that it shows, and how far colour spaces may be off
SHOWN = {
    "1": (BILEVEL, BILEVEL.convert("L"), 0),
    "L": (GREY, GREY, 0),
    "LA": (GREY.convert("LA"), GREY, 0),
    "La": (GREY.convert("LA").convert("La"), GREY, 0),
    "P": (FEW, FEW.convert("RGB"), 0),
    "PA": (FEW.convert("PA"), FEW.convert("RGB"), 0),
    "RGB": (COLOUR, COLOUR, 0),
    "RGBA": (COLOUR.convert("RGBA"), COLOUR, 0),
    "RGBa": (COLOUR.convert("RGBA").convert("RGBa"), COLOUR, 0),
    "RGBX": (COLOUR.convert("RGBX"), COLOUR, 0),
    "CMYK": (COLOUR.convert("CMYK"), COLOUR, 0),
    "YCbCr": (COLOUR.convert("YCbCr"), COLOUR, 3),
    "LAB": (ImageCms.profileToProfile(COLOUR, SRGB, LAB, outputMode="LAB"), COLOUR, 16),
    "HSV": (COLOUR.convert("HSV"), COLOUR, 5),
    "I": (Image.fromarray(WIDE.astype(np.int32)), GREY, 0),
    "I;16": (Image.fromarray(WIDE), GREY, 0),
    "I;16L": (Image.frombytes("I;16L", GREY.size, WIDE.astype("<u2").tobytes()), GREY, 0),
    "I;16B": (Image.frombytes("I;16B", GREY.size, WIDE.astype(">u2").tobytes()), GREY, 0),
    "I;16N": (Image.frombytes("I;16N", GREY.size, WIDE.tobytes()), GREY, 0),
    "F": (Image.fromarray(np.asarray(GREY, dtype=np.float32) / 255), GREY, 0),
}
CLEAR = Image.new("L", (4, 4), 40)  # in one grey, that is transparent


def with_key(image, key, **options):
    return reopened(image, "PNG", transparency=key, **options)


def with_clear_palette():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 9, 9, 9, 0], "RGBA")
    return image


TRANSPARENT = {
    "1": lambda: with_key(Image.new("1", (4, 4), 0), 0),
    "L": lambda: with_key(CLEAR, 40),
    "LA": lambda: Image.new("LA", (4, 4), (40, 0)),
    "La": lambda: Image.new("LA", (4, 4), (40, 0)).convert("La"),
    "P with an index": lambda: with_key(CLEAR.convert("P"), 40),
    "P with alphas": lambda: with_key(CLEAR.convert("P"), bytes(41)),
    "P with a palette of alphas": with_clear_palette,
    "PA": lambda: Image.merge("PA", [CLEAR.convert("P"), Image.new("L", (4, 4), 0)]),
    "RGB": lambda: with_key(CLEAR.convert("RGB"), (40, 40, 40)),
    "RGBA": lambda: Image.new("RGBA", (4, 4), (40, 40, 40, 0)),
    "RGBa": lambda: Image.new("RGBA", (4, 4), (40, 40, 40, 0)).convert("RGBa"),
    "I;16": lambda: with_key(Image.fromarray(np.full((4, 4), 10_000, dtype=np.uint16)), 10_000),
    "GIF": lambda: reopened(CLEAR.convert("P"), "GIF", transparency=40),
    "WebP": lambda: reopened(Image.new("RGBA", (4, 4), (40, 40, 40, 0)), "WEBP", lossless=True, exact=True),
}


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def reopened(image, form, **options):
    return Image.open(io.BytesIO(encoded(image, form, **options)))


def twelve_bit_tiff(levels):
    """A TIFF file of 12 bits a pixel, which Pillow reads but does not write; levels (H, W) in [0, 4095], W even."""
    pairs = levels.astype(np.uint16).reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    data = packed.astype(np.uint8).tobytes()
    height, width = levels.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(
        np.array([tag, 4], "<u2").tobytes() + np.array([1, value], "<u4").tobytes() for tag, value in tags.items()
    )
    header = b"II*\0" + np.array([8 + len(data)], "<u4").tobytes()
    return header + data + np.array([len(tags)], "<u2").tobytes() + entries + bytes(4)


@pytest.mark.parametrize("mode", SHOWN)
def test_an_image_of_any_mode_is_the_picture_that_it_shows(mode):
    image, picture, distance = SHOWN[mode]
    assert image.mode == mode
    plain = plain_image(image)
    assert plain.mode == picture.mode
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(picture)).max() <= distance
    assert np.array_equal(plain_image(plain), plain), "what is plain stays as it is"


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_what_is_transparent_is_white(mode):
    image = TRANSPARENT[mode]()
    plain = plain_image(image)
    assert plain.mode == ("L" if mode in ("1", "L", "LA", "La", "I;16") else "RGB")
    assert (np.asarray(plain) == 255).all()


def test_half_transparent_pixels_are_laid_over_white():
    assert plain_image(Image.new("LA", (1, 1), (0, 120))).getpixel((0, 0)) == 135
    assert plain_image(Image.new("RGBA", (1, 1), (0, 255, 0, 120))).getpixel((0, 0)) == (135, 255, 135)


def test_twelve_bits_reach_white():
    levels = np.array([[0, 2048], [1024, 4095]])
    for image in (load_image(twelve_bit_tiff(levels)), plain_image(Image.open(io.BytesIO(twelve_bit_tiff(levels))))):
        assert np.asarray(image).tolist() == [[0, 128], [64, 255]]


def test_of_an_animation_the_first_frame_is_taken():
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        frames = encoded(GREY, form, save_all=True, append_images=[GREY.rotate(180)], **options)
        assert np.array_equal(np.asarray(load_image(frames).convert("L")), np.asarray(GREY)), form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_photographs_are_upright_from_files_and_in_memory(form):
    tags = Image.Exif()
    tags[0x0112] = 6  # turned by a quarter
    content = encoded(COLOUR, form, exif=tags)
    stored = Image.open(io.BytesIO(encoded(COLOUR, form)))
    upright = np.asarray(stored.rotate(-90, expand=True))
    assert np.array_equal(load_image(content), upright)
    assert np.array_equal(plain_image(Image.open(io.BytesIO(content))), upright)


@pytest.mark.filterwarnings("error")
def test_files_paths_bytes_and_addresses_give_the_same_image_and_leave_no_file_open(tmp_path):
    content = encoded(GREY.convert("LA"), "PNG")
    (tmp_path / "image.png").write_bytes(content)
    address = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    for source in (content, tmp_path / "image.png", str(tmp_path / "image.png"), address):
        assert np.array_equal(load_image(source), GREY)
    with pytest.raises(FileNotFoundError):
        load_image(str(tmp_path / "other.png"))


def test_an_image_on_the_web_is_read_as_its_file(tmp_path):
    (tmp_path / "image.png").write_bytes(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"))

    class Folder(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Folder) as server:
        threading.Thread(target=server.serve_forever).start()
        image = load_image(f"http://127.0.0.1:{server.server_port}/image.png")
        server.shutdown()
    assert np.array_equal(image, Image.new("RGB", (4, 4), "white"))


def test_an_image_above_the_limit_of_pillow_is_read_at_a_quarter_and_twice_as_large_a_one_is_refused(monkeypatch):
    photograph = COLOUR.resize((40, 32))
    expected = photograph.reduce(4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 32 - 1)
    assert np.array_equal(load_image(encoded(photograph, "PNG")), expected)
    assert np.array_equal(plain_image(photograph.convert("RGBA")), expected)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 32)
    assert load_image(encoded(photograph, "PNG")).size == (40, 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(ValueError, match=r"it has more than 2 megapixels, .* make it smaller"):
        load_image(encoded(Image.new("1", (1500, 1500)), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(encoded(Image.new("1", (1500, 1500)), "PNG")).size == (1500, 1500)


def test_pixels_that_are_not_finite_are_refused():
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="pixels that are not finite"):
            plain_image(Image.fromarray(np.array([[0.5, value]], dtype=np.float32)))


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("mode", SHOWN)
def test_the_image_processor_sees_the_picture(mode, num_channels):
    image, picture, distance = SHOWN[mode]
    processor = TailMoEImageProcessor(num_channels=num_channels, do_rescale=False, do_normalize=False)
    seen, expected = (processor(each, return_tensors="np")["pixel_values"] for each in (image, picture))
    assert np.abs(seen.astype(int) - expected).max() <= distance
