"""Batches between loader and model: the same whether augmented one by one or many steps ahead."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from tailmoe.training.augmentation.transforms import BatchAugmentation
from tailmoe.training.data.normalization import Normalization
from tailmoe.training.errors import BadInputError
from tailmoe.training.trainer import batches as augmented_batches
from tailmoe.training.trainer.batches import AugmentedBatches


def stream(processor, accumulation=1, **changes):
    args = SimpleNamespace(
        device=torch.device("cpu"),
        seed=0,
        process_index=0,
        world_size=1,
        gradient_accumulation_steps=accumulation,
        mixup_alpha=0.0,
        on_bad_image="error",
    )
    for name, value in changes.items():
        setattr(args, name, value)
    return AugmentedBatches(args, BatchAugmentation(auto_augment=True, cutout_size=4), Normalization(processor))


def epoch(batches=7, size=8):
    generator = torch.Generator().manual_seed(0)
    for index in range(batches):
        count = size if index < batches - 1 else size - 3
        pixels = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
        yield {"pixel_values": pixels, "labels": torch.full((count,), index)}


def all_of(batches, accumulation=1, batch_count=7):
    source, taken, step = epoch(batch_count), [], 0
    while part := batches.take(source, accumulation, step):
        taken.append(part)
        step += 1
    return taken


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("at_once", [1, 3 * 8 * 28 * 28, 2**25])
def test_batches_augmented_ahead_equal_those_augmented_one_by_one(processor, monkeypatch, accumulation, at_once):
    monkeypatch.setattr(augmented_batches, "AUGMENTED_AT_ONCE", 0)
    one_by_one = all_of(stream(processor, accumulation), accumulation)
    monkeypatch.setattr(augmented_batches, "AUGMENTED_AT_ONCE", at_once)
    ahead = all_of(stream(processor, accumulation), accumulation)
    assert [len(part) for part in ahead] == [len(part) for part in one_by_one]
    for ours, theirs in zip(chain(*ahead), chain(*one_by_one), strict=True):
        assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
        assert torch.equal(ours["labels"], theirs["labels"])


@pytest.mark.parametrize(("at_once", "left"), [(0, 6), (3 * 8 * 28 * 28, 4), (2**25, 0)])
def test_as_many_batches_as_fit_are_taken_ahead(processor, monkeypatch, at_once, left):
    monkeypatch.setattr(augmented_batches, "AUGMENTED_AT_ONCE", at_once)
    source = epoch()
    stream(processor).take(source, 1, 0)
    assert len(list(source)) == left


def test_a_new_epoch_drops_what_was_augmented_ahead_of_the_old_one(processor):
    batches = stream(processor)
    batches.take(epoch(), 1, 0)
    (first,) = batches.take(epoch(), 1, 1)
    assert first["labels"].unique().tolist() == [0]


def test_floating_point_images_of_another_data_set_pass_unchanged(processor):
    batch = {"pixel_values": torch.rand(2, 1, 4, 4), "labels": torch.zeros(2)}
    batches = stream(processor)
    (taken,) = batches.take(iter([batch]), 1, 0)
    assert batches.finish(taken)["pixel_values"] is batch["pixel_values"]


def test_mixup_mixes_normalised_images_and_brings_the_partners_labels(processor):
    batches = stream(processor, mixup_alpha=1.0)
    (taken,) = batches.take(epoch(), 1, 0)
    taken["labels"] = torch.arange(8)
    finished = batches.finish(taken)
    plain = batches.normalization(taken["pixel_values"])
    expected = finished["weight"] * plain + (1 - finished["weight"]) * plain[finished["mixed_labels"]]
    torch.testing.assert_close(finished["pixel_values"], expected)


@pytest.mark.parametrize("labels", [3, 0])
def test_unreadable_images_are_an_error_or_skipped_unless_nothing_is_left(processor, caplog, labels):
    bad = {
        "pixel_values": torch.zeros(labels, 1, 28, 28, dtype=torch.uint8),
        "labels": torch.zeros(labels),
        "unreadable": ["the image of row 4 (x.png): it is truncated"],
    }
    with pytest.raises(BadInputError, match=r"Cannot read the image of row 4 \(x.png\): it is truncated"):
        stream(processor).take(iter([dict(bad)]), 1, 0)
    skipping = stream(processor, on_bad_image="skip")
    if labels:
        (taken,) = skipping.take(iter([dict(bad)]), 1, 0)
        assert "unreadable" not in taken
        assert "Skipped the image of row 4" in caplog.text
    else:
        with pytest.raises(BadInputError, match="None of the images of a batch"):
            skipping.take(iter([dict(bad)]), 1, 0)
