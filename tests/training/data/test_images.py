"""Decoding in detail: the pixels of the image processor, whole batches, and images that cannot be read."""

import io
import logging
import pickle
import struct
import zlib

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import ViTImageProcessor

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.data import DecodedImages, decode_image
from tailmoe.training.errors import BadInputError


@pytest.fixture(params=["ours", "transformers"])
def any_processor(request):
    size = {"height": 16, "width": 24}
    return TailMoEImageProcessor(size=size) if request.param == "ours" else ViTImageProcessor(size=size)


@pytest.fixture
def processor():
    return TailMoEImageProcessor(size={"height": 20, "width": 30})


def encode(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def dataset_of(*images, labels=None):
    """A split of encoded images: bytes, paths or None."""
    rows = [{"bytes": i, "path": None} if isinstance(i, bytes) else i and {"bytes": None, "path": i} for i in images]
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    rows = {"image": rows, "label": labels or list(range(len(rows)))}
    return datasets.Dataset.from_dict(rows, features=features).cast_column("image", datasets.Image())


def bomb():
    """A PNG of a few bytes that claims 30,000 x 30,000 pixels."""
    data = bytearray(encode(Image.new("L", (1, 1))))
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def bad_images(colour):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return {
        "text": b"this is no image",
        "truncated JPEG": encode(noise, "JPEG")[:1500],
        "truncated PNG": encode(noise)[:5000],
        "truncated GIF": encode(noise, "GIF")[:900],
        "zero bytes": b"",
        "missing": None,
        "bomb": bomb(),
        "file that is not there": "/no/such/picture.png",
        "broken header": b"\x89PNG\r\n\x1a\n" + bytes(40),
    }


# pixels


def test_training_sees_the_pixels_that_inference_sees(any_processor, colour):
    images = [colour, colour.rotate(90, expand=True), colour.resize((16, 24))]
    decoded = DecodedImages.from_dataset(dataset_of(*map(encode, images)), any_processor)
    assert decoded.pixel_values.shape == (3, 3, 16, 24)
    assert decoded.pixel_values.dtype == torch.uint8
    expected = any_processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close((decoded.pixel_values / 255 - 0.5) / 0.5, expected.float())


def test_more_images_than_one_chunk_keep_their_order(embedded):
    processor = TailMoEImageProcessor(num_channels=1, size={"height": 28, "width": 28})
    split = embedded["test"].select(range(100))
    decoded = DecodedImages.from_dataset(split, processor)
    assert decoded.labels.tolist() == split["label"][:]
    for index, image in enumerate(split["image"]):
        assert np.array_equal(decoded.pixel_values[index, 0], np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "F"])
def test_images_of_every_mode_are_decoded(processor, colour, mode):
    image = Image.new("LAB", colour.size, (99, 9, 9)) if mode == "LAB" else colour.convert("L").convert(mode)
    decoded = DecodedImages.from_dataset(dataset_of(encode(image, "TIFF")), processor)
    assert decoded.pixel_values.shape == (1, 3, 20, 30)


def test_images_of_all_modes_and_sizes_in_one_split_show_the_same_colour(any_processor):
    grey = Image.new("L", (40, 30), 120)
    clear = Image.new("RGBA", (9, 5), (120, 120, 120, 0))
    half = Image.new("LA", (9, 5), (0, 120))  # over white: 255 * (1 - 120 / 255)
    modes = [
        encode(grey.resize((5 + i, 90)).convert(mode), "TIFF") for i, mode in enumerate(("L", "RGB", "RGBA", "CMYK"))
    ]
    modes += [encode(grey.convert("P")), encode(grey.convert("CMYK"), "JPEG"), encode(grey.convert("LA"))]
    modes.append(encode(Image.fromarray(np.full((60, 7), 120 * 257, dtype=np.uint16))))
    others = [
        encode(clear),
        encode(clear.convert("LA")),
        encode(half),
        encode(grey.convert("P"), transparency=grey.convert("P").getpixel((0, 0))),
    ]
    decoded = DecodedImages.from_dataset(dataset_of(*modes, *others), any_processor).pixel_values
    assert decoded.shape == (12, 3, 16, 24)
    assert (decoded[:8].int() - 120).abs().max() <= 3, "JPEG and the web palette are near"
    assert (decoded[[8, 9, 11]] == 255).all(), "transparency is laid over white"
    assert (decoded[10] == 135).all()


def test_sixteen_bits_are_scaled_not_clipped():
    levels = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for form in ("PNG", "TIFF"):
        image = decode_image(encode(Image.fromarray(levels), form))
        assert np.asarray(image).tolist() == [[0, 1, 128, 255]]


def test_float_pixels_are_scaled_to_white():
    shares = np.array([[0, 0.5, 1]], dtype=np.float32)
    for white in (1, 200):
        image = decode_image(encode(Image.fromarray(shares * white), "TIFF"))
        assert np.asarray(image).tolist() == [[0, 128, 255]]
    with pytest.raises(BadInputError, match="not finite"):
        decode_image(encode(Image.fromarray(shares * np.nan), "TIFF"))


def test_photographs_are_turned_upright(colour):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = decode_image(encode(colour, "PNG", exif=exif))
    assert turned.size == (20, 30)
    assert np.array_equal(np.asarray(turned), np.asarray(colour.rotate(-90, expand=True)))


def test_mean_and_deviation_are_those_of_all_pixels_in_units_of_white():
    pixels = torch.randint(0, 256, (40, 3, 5, 7), dtype=torch.uint8)
    mean, std = DecodedImages(pixels, torch.zeros(40, dtype=torch.long)).mean_and_std()
    scaled = pixels.double() / 255
    assert mean == pytest.approx(scaled.mean(dim=(0, 2, 3)).tolist())
    assert std == pytest.approx(scaled.std(dim=(0, 2, 3), correction=0).tolist())


# batches


def test_a_batch_is_one_dict(colour, processor):
    decoded = DecodedImages.from_dataset(dataset_of(*[encode(colour)] * 5, labels=[4, 3, 2, 1, 0]), processor)
    assert len(decoded) == 5
    assert decoded[1]["pixel_values"].shape == (3, 20, 30)
    assert decoded[1]["labels"].shape == ()
    batches = list(DataLoader(decoded, batch_size=2, collate_fn=lambda batch: batch))
    assert [batch["labels"].tolist() for batch in batches] == [[4, 3], [2, 1], [0]]
    assert batches[0]["pixel_values"].shape == (2, 3, 20, 30)
    assert batches[0]["labels"].dtype == torch.int64


def test_decoded_images_can_be_pickled(colour, processor):
    decoded = DecodedImages.from_dataset(dataset_of(encode(colour)), processor)
    again = pickle.loads(pickle.dumps(decoded))
    assert torch.equal(again.pixel_values, decoded.pixel_values)
    assert again.labels.tolist() == [0]


# what cannot be read


def test_every_kind_of_bad_image_is_an_error_that_names_its_row(colour, processor):
    for kind, bad in bad_images(colour).items():
        with pytest.raises(BadInputError, match=r"Cannot read the image of row 1.*`on_bad_image: skip`") as error:
            DecodedImages.from_dataset(dataset_of(encode(colour), bad), processor)
        assert "\n" not in str(error.value), kind


def test_an_unreadable_file_is_named(tmp_path, colour, processor):
    colour.save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("this is no image")
    split = dataset_of(str(tmp_path / "good.png"), str(tmp_path / "bad.png"))
    with pytest.raises(BadInputError, match=r"row 1 \(.*bad\.png\): it is not an image that Pillow knows"):
        DecodedImages.from_dataset(split, processor)


def test_skipped_images_are_left_out_counted_and_named(colour, processor, caplog):
    bad = list(bad_images(colour).values())
    split = dataset_of(encode(colour), *bad, encode(colour), labels=[7, *[5] * len(bad), 8])
    with caplog.at_level(logging.WARNING):
        decoded = DecodedImages.from_dataset(split, processor, on_bad_image="skip")
    assert decoded.labels.tolist() == [7, 8]
    assert torch.equal(decoded.pixel_values[0], decoded.pixel_values[1])
    assert decoded.skipped == len(bad)
    assert len(caplog.records) == 1
    assert f"Skipped {len(bad)} unreadable images of {len(bad) + 2}" in caplog.text
    assert "row 1: it is not an image" in caplog.text
    assert "row 9" not in caplog.text


def test_chunks_of_nothing_but_bad_images_are_skipped_too(colour, processor):
    split = dataset_of(*[b"bad"] * 40, encode(colour), labels=[0] * 40 + [6])
    decoded = DecodedImages.from_dataset(split, processor, on_bad_image="skip")
    assert decoded.labels.tolist() == [6]
    assert decoded.skipped == 40


def test_nothing_but_bad_images_is_an_error_even_when_skipping(processor):
    with pytest.raises(BadInputError, match="None of the 2 images can be read, the first is the image of row 0"):
        DecodedImages.from_dataset(dataset_of(b"x", None), processor, on_bad_image="skip")


def test_a_wrong_argument_column_or_label_is_told(colour, processor):
    split = dataset_of(encode(colour))
    with pytest.raises(BadInputError, match="`on_bad_image` must be error or skip, got ignore"):
        DecodedImages.from_dataset(split, processor, on_bad_image="ignore")
    with pytest.raises(BadInputError, match="The split is empty"):
        DecodedImages.from_dataset(split.select([]), processor)
    with pytest.raises(BadInputError, match=r"There must be a column `image` .* the columns are img, label"):
        DecodedImages.from_dataset(split.rename_column("image", "img"), processor)
    with pytest.raises(BadInputError, match="There is no column `label`"):
        DecodedImages.from_dataset(split.rename_column("label", "y"), processor)


@pytest.mark.parametrize("between", [0, 20])
def test_a_processor_that_leaves_images_in_several_shapes_is_told(colour, between):
    images = [encode(colour)] * (1 + between) + [encode(colour.resize((8, 8)))] * 20
    processor = ViTImageProcessor(do_resize=False)
    with pytest.raises(BadInputError, match=r"`ViTImageProcessor.*` cannot bring the images to one shape") as error:
        DecodedImages.from_dataset(dataset_of(*images), processor)
    assert "\n" not in str(error.value)
