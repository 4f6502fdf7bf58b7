"""Streaming: the same images as without, every one once an epoch, each row group read once, exact resume, and the Hub."""

import logging
import re

import datasets
import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from tailmoe.training.data import LazyImages, load_images, load_long_tailed, samplers, streaming
from tailmoe.training.data.lazy_images import image_loader
from tailmoe.training.data.samplers import BlockSampler
from tailmoe.training.errors import BadInputError


@pytest.fixture(scope="module")
def parquet_files(tmp_path_factory, fashion):
    """Two files of training images, in row groups of 8, and one of test images."""
    folder = tmp_path_factory.mktemp("stream")
    for index in range(2):
        part = fashion["train"].shard(2, index, contiguous=True)
        part.to_parquet(folder / f"train-{index}.parquet", batch_size=8)
    fashion["test"].to_parquet(folder / "test.parquet", batch_size=8)
    return folder


@pytest.fixture
def streamed(parquet_files, fashion, processor):
    splits = load_long_tailed(str(parquet_files), streaming=True)
    return LazyImages(splits["train"], processor)


def test_a_streamed_split_has_the_labels_classes_and_pixels_of_the_files(parquet_files, fashion, processor, caplog):
    with caplog.at_level(logging.INFO, "tailmoe"):
        splits = load_long_tailed(str(parquet_files), streaming=True)
    assert "its images are read as they are needed" in caplog.text
    for split, rows in splits.items():
        assert {name: rows.features[name] for name in ("image", "label")} == fashion[split].features
        assert rows["label"][:] == fashion[split]["label"][:]
    streamed = load_images(splits["train"], processor, memory_share=0)
    assert type(streamed) is LazyImages
    plain = LazyImages(fashion["train"], processor)
    order = np.random.default_rng(0).permutation(len(plain)).tolist()
    assert torch.equal(streamed.__getitems__(order)["pixel_values"], plain.__getitems__(order)["pixel_values"])
    assert len(set(streamed.blocks)) == 2 * -(-len(plain) // 2 // 8)
    assert plain.blocks is None


def test_hold_out_and_long_tail_work_on_streamed_rows(parquet_files):
    file = str(parquet_files / "test.parquet")
    arguments = {"imbalance_factor": 2, "selection": "shuffled"}
    plain, streamed = load_long_tailed(file, **arguments), load_long_tailed(file, streaming=True, **arguments)
    for split in plain:
        assert plain[split]["label"][:] == streamed[split]["label"][:]


@pytest.mark.parametrize("processes", [1, 2])
def test_every_image_is_seen_once_an_epoch_and_every_row_group_read_by_one_worker(processes):
    blocks, batch, workers = np.arange(4000) // 10, 20, 2
    seen, readers = [], {}
    for process in range(processes):
        sampler = BlockSampler(blocks, batch, processes * workers, seed=0)
        loader = DataLoader(range(len(blocks)), batch, sampler=sampler)
        loader = prepare_data_loader(loader, None, processes, process, put_on_device=False, rng_types=[])
        loader.set_epoch(1)
        for index, rows in enumerate(loader):
            seen += rows.tolist()
            for block in set(blocks[rows].tolist()):
                readers.setdefault(block, set()).add((process, index % workers))
    assert sorted(seen) == list(range(len(blocks)))
    assert np.mean([len(each) for each in readers.values()]) < 1.2


def test_the_order_changes_with_the_epoch_and_mixes_row_groups():
    sampler = BlockSampler(np.arange(1000) // 10, 20, 2, seed=0)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    assert first == again
    assert list(sampler) != first
    assert len({row // 10 for row in first[:20]}) > 5


def test_a_row_group_is_read_once_an_epoch_by_a_process_that_keeps_a_few(streamed, monkeypatch):
    monkeypatch.setattr(samplers, "WINDOW", 4)
    streaming._row_group.cache_clear()
    order = list(BlockSampler(streamed.blocks, 16, 1, seed=0))
    for start in range(0, len(order), 16):
        streamed.__getitems__(order[start : start + 16])
    assert streaming._row_group.cache_info().misses == len(set(streamed.blocks))


def test_a_stopped_run_ends_as_one_never_stopped(make_trainer, icl, streamed, tmp_path, stop_at):
    options = {"train": streamed, "num_train_epochs": 2, "dataloader_num_workers": 2}
    whole = make_trainer(*icl, output_dir=str(tmp_path / "whole"), **options)
    whole.train()
    make_trainer(*icl, callbacks=[stop_at(7)], **options).train()
    resumed = make_trainer(*icl, **options)
    resumed.train(resume_from_checkpoint=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_rare_classes_cannot_be_drawn_more_often_from_a_stream(make_trainer, icl, streamed):
    trainer = make_trainer(*icl, train=streamed, train_sampler="square_root")
    with pytest.raises(BadInputError, match="`train_sampler` square_root asks for images in any order"):
        trainer.train()


def test_an_unreadable_image_is_named_with_its_row_and_file(tmp_path, processor):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    images = [{"bytes": b"no image", "path": None}] * 4
    datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features).to_parquet(tmp_path / "a.parquet")
    split = load_long_tailed(str(tmp_path / "a.parquet"), streaming=True)["train"]
    unreadable = LazyImages(split, processor).__getitems__([1])["unreadable"]
    assert re.search(r"\(row [0-3] of row group 0 of ", unreadable[0])  # the split draws which are of training
    assert unreadable[0].endswith("a.parquet): it is not an image that Pillow knows")


def test_a_data_set_on_the_hub_is_read_without_downloading_it(hub, parquet_files, processor, fashion):
    from huggingface_hub import HfApi

    HfApi().create_repo("zoo/pictures", repo_type="dataset")
    HfApi().upload_folder(repo_id="zoo/pictures", repo_type="dataset", folder_path=parquet_files, path_in_repo="data")
    splits = load_long_tailed("zoo/pictures", streaming=True)
    images = LazyImages(splits["train"], processor)
    assert images.labels.tolist() == fashion["train"]["label"][:]
    pixels = torch.cat([batch["pixel_values"] for batch in image_loader(images, 64)])  # by other processes
    plain = LazyImages(fashion["train"], processor)
    assert torch.equal(pixels, plain.__getitems__(range(len(plain)))["pixel_values"])


def test_a_data_set_on_the_hub_of_another_form_is_refused(hub, tmp_path, pictures):
    from huggingface_hub import HfApi

    (tmp_path / "train" / "cat").mkdir(parents=True)
    pictures[0].save(tmp_path / "train" / "cat" / "0.png")
    HfApi().create_repo("zoo/files", repo_type="dataset")
    HfApi().upload_folder(repo_id="zoo/files", repo_type="dataset", folder_path=tmp_path)
    with pytest.raises(
        BadInputError, match=r"`zoo/files` is not of Parquet files, which `streaming` reads: .*refs/convert"
    ):
        load_long_tailed("zoo/files", streaming=True)


def test_image_files_stay_where_they_are_with_and_without_streaming(image_folder):
    folder = str(image_folder(train_cat=6, train_dog=5))
    plain, streamed = load_long_tailed(folder), load_long_tailed(folder, streaming=True)
    assert plain["train"]["label"][:] == streamed["train"]["label"][:]
