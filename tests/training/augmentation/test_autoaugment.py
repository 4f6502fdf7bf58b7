"""AutoAugment in batches against Pillow, one image at a time: equal to the last bit."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from tailmoe.training.augmentation.autoaugment import (
    CIFAR10_POLICY,
    OPERATIONS,
    apply_operations,
    apply_sub_policies,
    draw_sub_policies,
)

MAGNITUDES = {
    "shear_x": np.linspace(0, 0.3, 10),
    "shear_y": np.linspace(0, 0.3, 10),
    "translate_x": np.linspace(0, 150 / 331, 10),
    "translate_y": np.linspace(0, 150 / 331, 10),
    "rotate": np.linspace(0, 30, 10),
    "color": np.linspace(0, 0.9, 10),
    "contrast": np.linspace(0, 0.9, 10),
    "sharpness": np.linspace(0, 0.9, 10),
    "brightness": np.linspace(0, 0.9, 10),
    "posterize": np.round(np.linspace(8, 4, 10)).astype(int),
    "solarize": np.linspace(256, 0, 10),
}


def augment_with_pillow(image: Image.Image, name: str, level: int, sign: int) -> Image.Image:
    """One operation of AutoAugment on one image, of level 0 to 9 and sign 1 or -1."""
    magnitude = MAGNITUDES[name][level] if name in MAGNITUDES else 0
    width, height = image.size
    signed = float(magnitude) * sign

    def affine(*matrix):
        grey = 128 if image.mode == "L" else (128, 128, 128)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=grey)

    def rotate():
        turned = image.convert("RGBA").rotate(signed)
        return Image.composite(turned, Image.new("RGBA", turned.size, (128,) * 4), turned).convert(image.mode)

    operations = {
        "shear_x": lambda: affine(1, signed, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, signed, 1, 0),
        "translate_x": lambda: affine(1, 0, signed * width, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, signed * height),
        "rotate": rotate,
        "color": lambda: ImageEnhance.Color(image).enhance(1 + signed),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(1 + signed),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(1 + signed),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(1 + signed),
        "posterize": lambda: ImageOps.posterize(image, int(magnitude)),
        "solarize": lambda: ImageOps.solarize(image, magnitude),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
    }
    return operations[name]()


def to_pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())


def to_tensor(image: Image.Image) -> torch.Tensor:
    array = torch.from_numpy(np.array(image))
    return array.unsqueeze(0) if array.dim() == 2 else array.permute(2, 0, 1)


def sample_images(channels: int, height: int, width: int) -> torch.Tensor:
    """Noise, dim noise, few-valued noise, constants, two-level images, gradients: (N, C, H, W) uint8."""
    rng = np.random.default_rng(0)
    shape = (channels, height, width)
    ramp = np.linspace(0, 255, width)
    images = [rng.integers(0, 256, shape) for _ in range(4)]
    images += [rng.integers(low, high, shape) for low, high in ((40, 90), (0, 3), (200, 256), (7, 240))]
    images += [np.clip(rng.normal(120, 40, shape), 0, 255), np.minimum(255, rng.exponential(20, shape))]
    images += [np.full(shape, value) for value in (0, 77, 255)]
    images += [np.where(rng.random(shape) < share, 30, 200) for share in (0.5, 0.01, 0.999)]
    images += [np.broadcast_to(ramp, shape), np.broadcast_to(ramp[::-1] / 2 + 20, shape)]
    images += [np.broadcast_to(np.linspace(3, 251, height)[:, None], shape)]
    images += [
        np.stack([np.roll(np.add.outer(np.arange(height), np.arange(width)), 5 * c, 1) for c in range(channels)])
    ]
    return torch.from_numpy(np.stack([np.asarray(image).astype(np.uint8) for image in images]))


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (32, 24)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_equals_pillow_at_every_level_and_sign(name, channels, size):
    originals = sample_images(channels, *size)
    cases = [(image, level, negative) for image in range(len(originals)) for level in range(10) for negative in (0, 1)]
    image, level, negative = torch.tensor(cases).unbind(1)
    batch = originals[image]
    result = apply_operations(batch, torch.full_like(level, OPERATIONS.index(name)), level, negative)
    pillow = [to_pillow(original) for original in originals]
    expected = torch.stack(
        [to_tensor(augment_with_pillow(pillow[i], name, lv, -1 if neg else 1)) for i, lv, neg in cases]
    )
    assert result.dtype == torch.uint8
    assert torch.equal(batch, originals[image]), "the input was changed"
    wrong = (result != expected).flatten(1).any(1).nonzero().squeeze(1).tolist()
    assert not wrong, f"{name}: {len(wrong)} of {len(cases)} differ, first (image, level, negative): {cases[wrong[0]]}"


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_of_few_and_of_clipped_histogram_steps_equal_pillow(channels):
    """Equalize divides by small steps on small images, and its table can pass 255."""
    rng = np.random.default_rng(1)
    for side in (1, 3, 5, 16, 20, 23, 27, 40):
        images = torch.from_numpy(rng.integers(0, rng.integers(2, 257), (40, channels, side, side)).astype(np.uint8))
        for name in ("equalize", "autocontrast", "contrast"):
            nine = torch.full((len(images),), 9)
            result = apply_operations(
                images, torch.full_like(nine, OPERATIONS.index(name)), nine, torch.zeros_like(nine)
            )
            expected = torch.stack([to_tensor(augment_with_pillow(to_pillow(image), name, 9, 1)) for image in images])
            assert torch.equal(result, expected), (name, side)


def test_autocontrast_equals_pillow_for_every_darkest_and_brightest_value():
    """Scale and offset are rounded as doubles: 255 * (v - low) / (high - low) alone is wrong by one now and then."""
    pairs = [(low, high) for low in range(256) for high in range(low + 1, 256)]
    pairs = random.Random(0).sample(pairs, 2000)
    images = torch.stack([torch.linspace(low, high, 256).round() for low, high in pairs]).view(-1, 1, 16, 16)
    images = images.to(torch.uint8)
    zeros = torch.zeros(len(images), dtype=torch.long)
    result = apply_operations(images, zeros + OPERATIONS.index("autocontrast"), zeros, zeros)
    expected = torch.stack([to_tensor(ImageOps.autocontrast(to_pillow(image))) for image in images])
    assert torch.equal(result, expected)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32)])
def test_the_whole_policy_equals_pillow_under_the_same_draws(channels, side):
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(256, (1500, channels, side, side), generator=generator, dtype=torch.uint8)
    originals = torch.cat([noise, sample_images(channels, side, side).repeat(25, 1, 1, 1)])
    sub_policy, applies, negative = draw_sub_policies(len(originals), generator)
    result = apply_sub_policies(originals, sub_policy, applies, negative)
    for i, original in enumerate(originals):
        image = to_pillow(original)
        for position, (name, _, level) in enumerate(CIFAR10_POLICY[sub_policy[i]]):
            if applies[i, position]:
                image = augment_with_pillow(image, name, level, -1 if negative[i, position] else 1)
        assert torch.equal(result[i], to_tensor(image)), CIFAR10_POLICY[sub_policy[i]]


def test_sub_policies_coins_and_signs_have_their_probabilities():
    count = 200_000
    sub_policy, applies, negative = draw_sub_policies(count, torch.Generator().manual_seed(0))
    frequency = torch.bincount(sub_policy, minlength=25) / count
    assert len(frequency) == 25
    torch.testing.assert_close(frequency, torch.full((25,), 1 / 25), atol=0.002, rtol=0)  # 4.5 standard deviations
    for i, pair in enumerate(CIFAR10_POLICY):
        of_this = applies[sub_policy == i].double()
        expected = torch.tensor([p for _, p, _ in pair], dtype=torch.float64)
        torch.testing.assert_close(of_this.mean(0), expected, atol=0.025, rtol=0)
        both = (of_this[:, 0] * of_this[:, 1]).mean()
        torch.testing.assert_close(both, expected.prod(), atol=0.025, rtol=0)  # the coins are independent
    assert not applies[sub_policy == 14, 1].any()  # probability 0
    torch.testing.assert_close(
        negative.double().mean(0), torch.full((2,), 0.5, dtype=torch.float64), atol=0.005, rtol=0
    )


def test_the_policy_is_a_well_formed_table_of_25_pairs():
    assert len(CIFAR10_POLICY) == 25
    for pair in CIFAR10_POLICY:
        for name, probability, level in pair:
            assert name in OPERATIONS
            assert 0 <= probability <= 1
            assert level in range(10)


def auto_augment(images, seed):
    return apply_sub_policies(images, *draw_sub_policies(len(images), torch.Generator().manual_seed(seed)))


def test_the_same_seed_gives_the_same_images_and_another_seed_others():
    images = sample_images(3, 32, 32).repeat(3, 1, 1, 1)
    first, again, other = (auto_augment(images, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_image_is_augmented_the_same_whatever_surrounds_it():
    images = sample_images(3, 32, 32).repeat(5, 1, 1, 1)
    draws = draw_sub_policies(len(images), torch.Generator().manual_seed(1))
    together = apply_sub_policies(images, *draws)
    alone = [apply_sub_policies(images[i : i + 1], *(draw[i : i + 1] for draw in draws)) for i in range(len(images))]
    assert torch.equal(together, torch.cat(alone))


def test_channels_last_images_give_the_same_values():
    images = sample_images(3, 32, 32)
    expected = auto_augment(images, 2)
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(auto_augment(strided, 2), expected)
