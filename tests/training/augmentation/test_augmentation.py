"""Batched augmentation against numpy and Pillow, one image at a time."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tailmoe.training.augmentation.transforms import (
    BatchAugmentation,
    crop,
    cutout,
    draw_mixup,
    draw_windows,
    horizontal_flip,
    mixup,
    resized_crop,
)
from tailmoe.training.errors import BadInputError

SHAPES = [(40, 3, 32, 32), (40, 1, 28, 28), (12, 3, 20, 33)]


def noise(shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_equals_padding_and_cropping_each_image(shape, padding):
    images, (_, _, height, width) = noise(shape), shape
    top, left = torch.randint(2 * padding + 1, (2, len(images)), generator=seeded(1))
    result = crop(images, top, left, padding)
    for image, y, x, out in zip(images, top, left, result, strict=True):
        for channel, out_channel in zip(image, out, strict=True):
            padded = ImageOps.expand(Image.fromarray(channel.numpy()), padding, fill=0)
            box = (int(x), int(y), int(x) + width, int(y) + height)
            assert np.array_equal(np.array(padded.crop(box)), out_channel.numpy())


def test_crop_at_the_padding_is_no_shift_and_at_zero_brings_in_a_black_edge():
    images = noise((2, 3, 8, 8)) | 1
    result = crop(images, torch.tensor([4, 0]), torch.tensor([4, 4]), padding=4)
    assert torch.equal(result[0], images[0])
    assert torch.equal(result[1, :, 4:], images[1, :, :4])
    assert not result[1, :, :4].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_resized_crop_is_that_of_pillow(shape):
    images, (_, _, height, width) = noise(shape), shape
    windows = draw_windows(len(images), height, width, 0.2, seeded(1))
    result = resized_crop(images, *windows)
    for image, top, left, h, w, out in zip(images, *windows, result, strict=True):
        for channel, out_channel in zip(image, out, strict=True):
            cut = Image.fromarray(channel[top : top + h, left : left + w].numpy())
            expected = np.array(cut.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
            found = out_channel.numpy().astype(int)  # at the window's edge it sees the pixels beside
            inside = np.abs(expected - found)[height // 4 : -height // 4, width // 4 : -width // 4]
            assert inside.max() <= 1


def test_windows_are_inside_the_image_and_as_large_as_asked_for():
    top, left, height, width = draw_windows(4000, 40, 60, 0.3, seeded(0))
    assert ((top >= 0) & (left >= 0) & (top + height <= 40) & (left + width <= 60)).all()
    share = height * width / 2400
    assert share.min() > 0.25
    assert share.max() > 0.9
    assert share.mean() == pytest.approx(0.65, abs=0.05)
    images = noise((3, 3, 20, 20))
    zeros = torch.zeros(3, dtype=torch.long)
    assert torch.equal(resized_crop(images, zeros, zeros, zeros + 20, zeros + 20), images)


def test_windows_change_none_of_the_other_draws():
    images = noise((8, 3, 20, 20))
    plain, cut = (BatchAugmentation(min_crop_area=area).draw(images, seeded(0)) for area in (1.0, 0.5))
    assert torch.equal(plain, cut[:, :5])
    assert not torch.equal(BatchAugmentation(0, False, min_crop_area=0.5)(images, seeded(0)), images)


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_the_chosen_images_only(shape):
    images = noise(shape)
    flip = torch.rand(len(images), generator=seeded(2)) < 0.5
    for image, flipped, out in zip(images, flip, horizontal_flip(images, flip), strict=True):
        expected = image.numpy()[:, :, ::-1] if flipped else image.numpy()
        assert np.array_equal(out.numpy(), expected)


@pytest.mark.parametrize("fill", [None, (125, 3, 255)])
@pytest.mark.parametrize("size", [1, 2, 7, 16, 80])
def test_cutout_overwrites_a_square_clipped_at_the_border(size, fill):
    images = noise((60, 3, 32, 24))
    center_y = torch.cat([torch.tensor([0, 31]), torch.randint(32, (58,), generator=seeded(3))])
    center_x = torch.cat([torch.tensor([0, 23]), torch.randint(24, (58,), generator=seeded(4))])
    color = None if fill is None else torch.tensor(fill, dtype=torch.uint8)
    result = cutout(images, center_y, center_x, size, color)
    for image, y, x, out in zip(images.numpy(), center_y.tolist(), center_x.tolist(), result.numpy(), strict=True):
        expected = image.copy()
        y0, x0 = y - size // 2, x - size // 2
        square = expected[:, max(y0, 0) : y0 + size, max(x0, 0) : x0 + size]
        square[:] = np.reshape(fill or (0, 0, 0), (3, 1, 1))
        assert np.array_equal(out, expected)


def test_nothing_enabled_returns_the_images_as_they_are():
    images = noise((6, 3, 32, 32))
    assert torch.equal(BatchAugmentation(crop_padding=0, horizontal_flip=False)(images, seeded(0)), images)


FULL = BatchAugmentation(auto_augment=True, cutout_size=16, fill=(125, 123, 114))


def test_the_same_seed_gives_the_same_batch_and_another_seed_another():
    images = noise((64, 3, 32, 32))
    kept = images.clone()
    first, again, other = (FULL(images, seeded(seed)) for seed in (7, 7, 8))
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, kept), "the input was changed"


def test_cutout_comes_last_so_its_square_has_the_fill_colour():
    images = noise((64, 3, 32, 32))
    without = BatchAugmentation(auto_augment=True)(images, seeded(7))
    result = FULL(images, seeded(7))
    filled = (result == torch.tensor([125, 123, 114], dtype=torch.uint8)[:, None, None]).all(1)  # (B, H, W)
    assert (filled.flatten(1).sum(1) >= 8 * 8).all()
    assert torch.equal(result.where(~filled.unsqueeze(1), without), without), "Cutout changed the other draws"


def test_every_offset_and_mirror_image_is_equally_likely_and_independent_between_images():
    images = torch.zeros(20_000, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 255
    images[:, :, 4, 5] = 100  # tells left from right
    result = BatchAugmentation(crop_padding=2)(images, seeded(0))
    position = (result == 255).flatten(1).int().argmax(1)
    counts = torch.bincount(position, minlength=81).view(9, 9)
    assert counts[2:7, 2:7].sum() == 20_000
    assert (counts[2:7, 2:7] - 800).abs().max() < 140  # 5 standard deviations
    mirrored = (result.flatten(1).gather(1, position.unsqueeze(1) - 1) == 100).float().mean()
    assert abs(mirrored - 0.5) < 0.018


def test_cutout_centers_cover_the_image_evenly():
    images = torch.full((16_000, 1, 8, 8), 9, dtype=torch.uint8)
    result = BatchAugmentation(crop_padding=0, horizontal_flip=False, cutout_size=1)(images, seeded(0))
    hits = (result == 0).sum(0)
    assert hits.sum() == 16_000
    assert (hits - 250).abs().max() < 80  # 5 standard deviations


def test_nothing_waits_for_the_device():
    """A meta tensor has no values: reading one, as a wait for the device would, raises."""
    images = torch.empty(32, 3, 32, 32, dtype=torch.uint8, device="meta")
    assert FULL(images, seeded(0)).shape == images.shape


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_padding": -1}, "`crop_padding` must be a whole number of pixels, 0 or more, got -1"),
        ({"crop_padding": 4.0}, "`crop_padding` must be a whole number of pixels, 0 or more, got 4.0"),
        ({"cutout_size": "16"}, "`cutout_size` must be a whole number of pixels, 0 or more, got '16'"),
        ({"cutout_size": True}, "`cutout_size` must be a whole number of pixels"),
        ({"horizontal_flip": 0.5}, "`horizontal_flip` must be true or false, got 0.5"),
        ({"auto_augment": "cifar10"}, "`auto_augment` must be true or false, got 'cifar10'"),
        ({"min_crop_area": 0}, "`min_crop_area` must be above 0 and at most 1, got 0"),
        ({"fill": (0, 256, 0)}, "`fill` must be one whole number 0 to 255 per channel, got \\(0, 256, 0\\)"),
        ({"fill": (0.5, 0.5, 0.5)}, "`fill` must be one whole number 0 to 255 per channel"),
        ({"fill": 128}, "`fill` must be one whole number 0 to 255 per channel, got 128"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_right(fields, message):
    with pytest.raises(BadInputError, match=message):
        BatchAugmentation(**fields)


@pytest.mark.parametrize(
    ("augmentation", "images", "message"),
    [
        (BatchAugmentation(), torch.zeros(2, 3, 8, 8), "must be uint8 \\(B, C, H, W\\), got torch.float32"),
        (BatchAugmentation(), noise((3, 8, 8)), "got torch.uint8 of shape \\(3, 8, 8\\)"),
        (BatchAugmentation(auto_augment=True), noise((2, 4, 8, 8)), "1 or 3 channels, got 4"),
        (BatchAugmentation(fill=(1, 2, 3)), noise((2, 1, 8, 8)), "one value per channel, 1, got \\(1, 2, 3\\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(augmentation, images, message):
    with pytest.raises(BadInputError, match=message):
        augmentation(images, seeded(0))


def test_a_list_from_a_recipe_becomes_a_tuple():
    assert BatchAugmentation(fill=[1, 2, 3]) == BatchAugmentation(fill=(1, 2, 3))


def test_mixup_is_the_weighted_sum_by_hand():
    images = torch.tensor([0.0, 10.0, 100.0]).view(3, 1, 1, 1)
    permutation, weight = draw_mixup(3, 1.0, seeded(0))
    assert sorted(permutation.tolist()) == [0, 1, 2]
    values = [0.0, 10.0, 100.0]
    expected = [weight * values[i] + (1 - weight) * values[j] for i, j in enumerate(permutation.tolist())]
    assert mixup(images, permutation, weight).flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("alpha", "mean"), [(1.0, 0.75), (0.2, 0.899), (8.0, 0.598)])
def test_mixup_weight_is_the_larger_share_of_a_beta_draw(alpha, mean):
    """E max(l, 1 - l): 3/4 for the uniform; for the others 1/2 + E|l - 1/2| = 1/2 + 4^-alpha / (alpha B(alpha, alpha))."""
    generator = seeded(0)
    weights = torch.tensor([draw_mixup(2, alpha, generator)[1] for _ in range(4000)])
    assert weights.min() >= 0.5
    assert weights.max() <= 1.0
    assert weights.mean().item() == pytest.approx(mean, abs=0.01)


def test_mixup_draws_from_its_generator_alone():
    draws = []
    for global_seed in (1, 2):
        np.random.seed(global_seed)
        torch.manual_seed(global_seed)
        draws.append(draw_mixup(16, 0.5, seeded(9)))
    assert torch.equal(draws[0][0], draws[1][0])
    assert draws[0][1] == draws[1][1]
    assert draws[0][1] != draw_mixup(16, 0.5, seeded(10))[1]


def test_mixup_refuses_a_bad_alpha_and_integer_images():
    with pytest.raises(BadInputError, match="`alpha` of mixup must be above 0, got 0"):
        draw_mixup(2, 0, seeded(0))
    with pytest.raises(BadInputError, match="floating point"):
        mixup(noise((2, 1, 4, 4)), torch.tensor([1, 0]), 0.5)
