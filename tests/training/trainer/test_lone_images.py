"""The last batch of an epoch, where it would be one image that batch normalisation cannot learn from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification
from tailmoe.training.data.samplers import BlockSampler, ClassSampler, lone_images, make_sampler
from tailmoe.training.errors import BadInputError

BATCH = 16


@pytest.fixture(scope="module")
def images(fashion):
    """33 images, some of each class."""
    labels = np.array(fashion["train"]["label"])
    rows = [row for c in range(10) for row in np.flatnonzero(labels == c)[:3]]
    return fashion["train"].select([*rows, *np.setdiff1d(np.arange(len(labels)), rows)[: 33 - len(rows)]])


@pytest.fixture
def narrowing():
    """A model whose last map is 1 x 1, and normalised over the batch."""
    torch.manual_seed(0)
    shape = {"hidden_sizes": [4] * 6, "depths": [1] * 6, "shallow_fusion": False}
    return ICLMoEForImageClassification(ICLMoEConfig(num_channels=1, num_labels=10, num_experts=1, **shape))


def test_an_epoch_leaves_it_out_is_as_long_as_it_says_and_resumes_exactly(
    make_trainer, narrowing, images, stop_at, caplog, tmp_path
):
    options = {"train": images, "per_device_train_batch_size": BATCH, "num_train_epochs": 2}
    whole = make_trainer(narrowing, output_dir=str(tmp_path / "whole"), **options)
    with caplog.at_level("INFO"):
        whole.train()
    assert whole.state.global_step == 4
    assert "leaves out one of the 33 training images" in caplog.text
    make_trainer(narrowing, callbacks=[stop_at(3)], **options).train()
    resumed = make_trainer(narrowing, **options)
    resumed.train(resume_from_checkpoint=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_each_epoch_leaves_out_another_image_by_chance(make_trainer, narrowing, images):
    trainer = make_trainer(narrowing, train=images, per_device_train_batch_size=BATCH)
    loader, left_out = trainer.get_train_dataloader(), []
    for epoch in range(8):
        loader.set_epoch(epoch)
        shown = [tuple(image.flatten().tolist()) for batch in loader for image in batch["pixel_values"]]
        assert len(shown) == 32
        everything = [tuple(image.flatten().tolist()) for image in trainer.train_dataset.pixel_values]
        left_out += [everything.index(each) for each in set(everything) - set(shown)]
    assert len(left_out) == 8
    assert len(set(left_out)) > 3


@pytest.mark.parametrize(
    ("num_images", "changes", "layer", "expected"),
    [
        (33, {}, nn.BatchNorm2d(1), 1),
        (33, {}, nn.LayerNorm(1), 0),
        (32, {}, nn.BatchNorm2d(1), 0),
        (34, {}, nn.BatchNorm2d(1), 0),
        (33, {"train_batch_size": 1}, nn.LayerNorm(1), 0),
        (33, {"dataloader_drop_last": True}, nn.BatchNorm2d(1), 0),
        (33, {"world_size": 2}, nn.BatchNorm2d(1), 0),
    ],
)
def test_an_image_is_left_out_only_where_it_would_be_alone(num_images, changes, layer, expected):
    args = {"train_batch_size": BATCH, "dataloader_drop_last": False, "world_size": 1} | changes
    assert lone_images(num_images, SimpleNamespace(**args), nn.Sequential(layer)) == expected


def test_samplers_of_ours_leave_one_out_too():
    labels = torch.arange(33) % 3
    assert len(list(ClassSampler(labels, 1.0, seed=0, left_out=1))) == 32
    streamed = BlockSampler(np.arange(33) // 4, BATCH, 2, seed=0, left_out=1)
    assert len(streamed) == len(set(streamed)) == 32


def test_the_sampler_shows_all_images_where_none_is_left_out(make_trainer, icl, images):
    trainer = make_trainer(icl[0], train=images, per_device_train_batch_size=8, dataloader_drop_last=True)
    assert sorted(make_sampler(trainer.train_dataset, trainer.train_dataset.labels, trainer.args)) == list(range(33))


def test_batches_of_one_image_are_refused_by_a_network_that_cannot_learn_from_them(make_trainer, narrowing, images):
    trainer = make_trainer(narrowing, train=images, per_device_train_batch_size=1)
    with pytest.raises(
        BadInputError, match="33 training images in batches of 1 cannot train a network with batch normalisation: make"
    ):
        trainer.train()
    args = SimpleNamespace(train_batch_size=BATCH, dataloader_drop_last=False, world_size=1)
    with pytest.raises(BadInputError, match="1 training image in batches of 16 cannot train"):
        lone_images(1, args, narrowing)


def test_a_run_without_a_whole_batch_is_refused(make_trainer, icl, images):
    trainer = make_trainer(icl[0], train=images, dataloader_drop_last=True, per_device_train_batch_size=34)
    with pytest.raises(
        BadInputError, match="leaves nothing of 33 training images, `per_device_train_batch_size` is 34"
    ):
        trainer.train()
