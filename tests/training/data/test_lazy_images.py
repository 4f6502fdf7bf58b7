"""Splits that stay encoded: the same batches as decoded ones, decoded by other processes, chosen by size."""

import logging

import datasets
import pytest
import torch

from tailmoe.training.data import DecodedImages, LazyImages, lazy_images, load_images
from tailmoe.training.data.lazy_images import available_cores, image_loader
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.evaluate import predict_split


@pytest.fixture
def broken(fashion):
    """Ten images of which the fourth cannot be read."""
    rows = fashion["train"].select(range(10)).cast_column("image", datasets.Image(decode=False))
    images = [image if i != 3 else {"bytes": b"no image", "path": None} for i, image in enumerate(rows["image"])]
    return datasets.Dataset.from_dict({"image": images, "label": rows["label"][:]}, rows.features).cast_column(
        "image", datasets.Image()
    )


def test_batches_equal_those_of_decoded_images(fashion, processor):
    encoded = LazyImages(fashion["train"], processor)
    decoded = DecodedImages.from_dataset(fashion["train"], processor)
    assert len(encoded) == len(decoded)
    assert torch.equal(encoded.labels, decoded.labels)
    rows = [5, 0, 17]
    ours, theirs = encoded.__getitems__(rows), decoded.__getitems__(rows)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_statistics_of_a_small_split_are_those_of_all_its_images(fashion, processor):
    split = fashion["test"].select(range(40))
    ours = LazyImages(split, processor).mean_and_std()
    theirs = DecodedImages.from_dataset(split, processor).mean_and_std()
    torch.testing.assert_close(ours, theirs)


def test_processes_of_their_own_decode_in_the_order_of_the_split(fashion, processor):
    split = fashion["test"].select(range(23))
    loader = image_loader(LazyImages(split, processor), batch_size=8)
    assert loader.num_workers == available_cores()
    together = torch.cat([batch["pixel_values"] for batch in loader])
    assert torch.equal(together, DecodedImages.from_dataset(split, processor).pixel_values)
    assert image_loader(DecodedImages.from_dataset(split, processor), 8).num_workers == 0


@pytest.mark.parametrize(("share", "kind"), [(0.5, DecodedImages), (0.0, LazyImages)])
def test_the_size_of_a_split_against_the_free_memory_chooses_and_the_log_tells(
    fashion, processor, caplog, share, kind
):
    with caplog.at_level(logging.INFO, lazy_images.__name__):
        images = load_images(fashion["test"], processor, memory_share=share)
    assert type(images) is kind
    assert ("decoded batch by batch" in caplog.text) == (kind is LazyImages)


def test_an_unreadable_image_is_missing_from_its_batch_and_named(broken, processor):
    batch = LazyImages(broken, processor).__getitems__([2, 3, 4])
    assert len(batch["pixel_values"]) == len(batch["labels"]) == 2
    assert batch["unreadable"] == ["the image of row 3: it is not an image that Pillow knows"]


def test_evaluation_stops_at_an_unreadable_image_or_skips_it(broken, processor, icl, caplog):
    images = LazyImages(broken, processor)
    with pytest.raises(BadInputError, match="row 3"):
        predict_split(icl[0], images, processor)
    outputs = predict_split(icl[0], images, processor, on_bad_image="skip")
    assert len(outputs["logits"]) == len(outputs["labels"]) == 9
    assert "Skipped the image of row 3" in caplog.text


def test_statistics_of_a_split_without_a_readable_image_are_an_error(broken, processor):
    with pytest.raises(BadInputError, match="None of the images can be read"):
        LazyImages(broken.select([3]), processor).mean_and_std()


def test_training_from_encoded_images_ends_where_training_from_decoded_ones_ends(make_trainer, icl):
    def trained(share):
        trainer = make_trainer(*icl, image_memory_share=share, num_train_epochs=1)
        trainer.train()
        return type(trainer.train_dataset), trainer.model.state_dict()

    (first, decoded), (second, encoded) = trained(0.5), trained(0.0)
    assert (first, second) == (DecodedImages, LazyImages)
    assert all(torch.equal(encoded[name], value) for name, value in decoded.items())
