import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

from tailmoe.modeling import TailMoEImageProcessor


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def pixels(processor, image, **kwargs):
    return processor(image, return_tensors="np", **kwargs)["pixel_values"]


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_any_mode_become_grey_or_colour(photo, num_channels, mode):
    processor = TailMoEImageProcessor(num_channels=num_channels)
    assert pixels(processor, photo.convert(mode)).shape == (1, num_channels, 32, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2000)])
def test_images_of_any_size_are_resized(size):
    assert pixels(TailMoEImageProcessor(), Image.new("RGB", size)).shape == (1, 3, 32, 32)


def test_grey_is_pillows_own_and_a_grey_image_stays_as_it_is(photo):
    processor = TailMoEImageProcessor(num_channels=1, do_resize=False, do_rescale=False, do_normalize=False)
    grey = photo.convert("L")
    assert np.array_equal(pixels(processor, photo)[0, 0], np.asarray(grey))
    assert np.array_equal(pixels(processor, grey)[0, 0], np.asarray(grey))


def test_a_float_image_gives_the_grey_of_its_integer_twin(photo):
    processor = TailMoEImageProcessor(num_channels=1, do_resize=False, do_rescale=False, do_normalize=False)
    integers = np.asarray(photo)
    as_float = pixels(processor, integers.astype(np.float32))
    np.testing.assert_allclose(as_float, pixels(processor, integers).astype(float), atol=0.51)


def test_transparency_is_laid_over_white(photo):
    photo.putalpha(0)
    raw = pixels(TailMoEImageProcessor(), photo, do_rescale=False, do_normalize=False)
    assert (raw == 255).all()


def test_pixels_are_scaled_and_normalised():
    processor = TailMoEImageProcessor(num_channels=1, image_mean=[0.25], image_std=[0.5])
    np.testing.assert_allclose(pixels(processor, Image.new("L", (8, 8), 255)), 1.5, rtol=1e-6)


def test_an_image_processor_survives_saving(photo, tmp_path):
    processor = TailMoEImageProcessor(
        num_channels=1, size={"height": 28, "width": 28}, image_mean=[0.3], image_std=[0.4]
    )
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(loaded) is TailMoEImageProcessor
    assert np.array_equal(pixels(loaded, photo), pixels(processor, photo))


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"`num_channels` must be 1 \(grey\) or 3 \(colour\), got 4"):
        TailMoEImageProcessor(num_channels=4)
    with pytest.raises(ValueError, match=r"`num_channels` must be 1 \(grey\) or 3 \(colour\), got 7"):
        TailMoEImageProcessor()(Image.new("L", (8, 8)), num_channels=7)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_one_mean_and_deviation_stand_for_all_channels(photo, num_channels):
    one = TailMoEImageProcessor(num_channels=num_channels, image_mean=0.3, image_std=0.4)
    each = TailMoEImageProcessor(
        num_channels=num_channels, image_mean=[0.3] * num_channels, image_std=[0.4] * num_channels
    )
    assert np.array_equal(pixels(one, photo), pixels(each, photo))
