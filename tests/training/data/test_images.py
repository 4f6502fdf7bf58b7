"""Images decoded once: the processor's pixels, whole batches, and bad files named or skipped."""

import io
import pickle

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from tailmoe.modeling import TailMoEImageProcessor
from tailmoe.training.data import DecodedImages, decode_image
from tailmoe.training.errors import BadInputError


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def shoe(fashion):
    return fashion["test"][0]["image"]


def dataset_of(*sources):
    """A data set of encoded images, some of them bad; each a label of its own."""
    features = {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=[f"{i}" for i in range(9)])}
    rows = [source if isinstance(source, dict | None) else {"bytes": source, "path": None} for source in sources]
    data = datasets.Dataset.from_dict(
        {"image": rows, "label": list(range(len(rows)))}, features=datasets.Features(features)
    )
    return data.cast_column("image", datasets.Image())


def test_pixels_are_those_of_the_image_processor_before_scaling(fashion, processor):
    decoded = DecodedImages.from_dataset(fashion["test"], processor)
    assert decoded.pixel_values.dtype == torch.uint8
    assert decoded.pixel_values.shape == (len(fashion["test"]), 1, 28, 28)
    assert decoded.labels.tolist() == fashion["test"]["label"]
    for index in (0, 17, 49):
        assert np.array_equal(decoded[index]["pixel_values"][0], np.asarray(fashion["test"][index]["image"]))


def test_grey_images_become_colour_and_are_resized_as_the_processor_says(fashion):
    decoded = DecodedImages.from_dataset(fashion["test"], TailMoEImageProcessor())
    assert decoded.pixel_values.shape[1:] == (3, 32, 32)


def test_a_batch_comes_whole_and_in_the_order_asked_for(fashion, processor):
    decoded = DecodedImages.from_dataset(fashion["test"], processor)
    batch = decoded.__getitems__([5, 2, 5])
    assert torch.equal(batch["labels"], decoded.labels[[5, 2, 5]])
    assert torch.equal(batch["pixel_values"][1], decoded[2]["pixel_values"])
    assert len(pickle.loads(pickle.dumps(decoded))) == len(decoded)


def test_mean_and_deviation_are_those_of_all_pixels(fashion):
    decoded = DecodedImages.from_dataset(fashion["test"], TailMoEImageProcessor())
    mean, std = decoded.mean_and_std()
    pixels = decoded.pixel_values.double() / 255
    assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())


def bad_sources(shoe):
    jpeg = encoded(shoe.resize((200, 200)), "JPEG")
    return {
        "text": b"words, not pixels",
        "empty": b"",
        "truncated png": encoded(shoe)[:-150],
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "none": None,
        "no such file": {"bytes": None, "path": "gone.png"},
    }


@pytest.mark.parametrize("kind", ["text", "empty", "truncated png", "truncated jpeg", "none", "no such file"])
def test_a_bad_image_is_named_by_its_row_and_file(shoe, processor, kind):
    data = dataset_of(encoded(shoe), encoded(shoe), bad_sources(shoe)[kind])
    with pytest.raises(BadInputError, match=r"row 2") as error:
        DecodedImages.from_dataset(data, processor)
    assert "\n" not in str(error.value)
    assert "`on_bad_image: skip`" in str(error.value)
    assert ("gone.png" in str(error.value)) == (kind == "no such file")


def test_bad_images_are_skipped_counted_and_logged_when_asked(shoe, processor, caplog):
    bad = list(bad_sources(shoe).values())
    decoded = DecodedImages.from_dataset(
        dataset_of(encoded(shoe), *bad, encoded(shoe)), processor, on_bad_image="skip"
    )
    assert decoded.labels.tolist() == [0, 7]
    assert decoded.skipped == 6
    assert "Skipped 6 unreadable images" in caplog.text
    assert "row 1" in caplog.text


def test_a_split_without_a_readable_image_is_an_error_even_when_skipping(shoe, processor):
    with pytest.raises(BadInputError, match="None of the 2 images can be read"):
        DecodedImages.from_dataset(dataset_of(b"a", b"b"), processor, on_bad_image="skip")
    with pytest.raises(BadInputError, match="The split is empty"):
        DecodedImages.from_dataset(dataset_of(encoded(shoe)).select([]), processor)
    with pytest.raises(BadInputError, match="`on_bad_image` must be error or skip, got ignore"):
        DecodedImages.from_dataset(dataset_of(encoded(shoe)), processor, on_bad_image="ignore")


def test_a_decompression_bomb_is_a_bad_image(monkeypatch, shoe):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadInputError, match="decompression bomb"):
        decode_image(encoded(shoe))


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16))
    decoded = np.asarray(decode_image(encoded(ramp)))
    np.testing.assert_allclose(decoded, np.linspace(0, 255, 64).reshape(8, 8), atol=0.6)


def test_an_image_that_says_it_lies_on_its_side_is_set_upright():
    image, exif = Image.new("RGB", (30, 20)), Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    assert decode_image(encoded(image, "JPEG", exif=exif)).size == (20, 30)
