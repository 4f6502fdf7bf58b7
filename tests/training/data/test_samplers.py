"""Samplers: how often each class is drawn, the same order from the same seed, exact resume."""

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from tailmoe.training import LongTailTrainingArguments
from tailmoe.training.data import DecodedImages, LazyImages
from tailmoe.training.data.samplers import POWERS, ClassSampler

COUNTS = torch.tensor([8000, 1500, 400, 100])
LABELS = torch.repeat_interleave(torch.arange(4), COUNTS)[
    torch.randperm(10000, generator=torch.Generator().manual_seed(1))
]


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_classes_are_drawn_as_often_as_their_weight_says(power):
    drawn = torch.tensor(list(ClassSampler(LABELS, power, seed=0)))
    assert len(drawn) == len(LABELS)
    shares = COUNTS.double().pow(1 - power)
    shares /= shares.sum()
    found = torch.bincount(LABELS[drawn], minlength=4) / len(drawn)
    deviation = (shares * (1 - shares) / len(drawn)).sqrt()
    assert ((found - shares).abs() < 4 * deviation).all()
    rare = drawn[LABELS[drawn] == 3]
    assert rare.unique().numel() > 0.6 * min(len(rare), 100), "some images of a class are never drawn"


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = ClassSampler(LABELS, 1.0, seed)
        sampler.set_epoch(epoch)
        torch.rand(3)  # whatever else is random
        return list(sampler)

    assert order(0, 2) == order(0, 2)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_processes_share_one_order():
    def batches(index):
        loader = DataLoader(range(100), 5, sampler=ClassSampler(LABELS[:100], 0.5, seed=0))
        loader = prepare_data_loader(loader, num_processes=2, process_index=index, put_on_device=False, rng_types=[])
        loader.set_epoch(3)
        return [batch.tolist() for batch in loader]

    alone = ClassSampler(LABELS[:100], 0.5, seed=0)
    alone.set_epoch(3)
    first, second = batches(0), batches(1)
    assert [row for pair in zip(first, second, strict=True) for batch in pair for row in batch] == list(alone)


@pytest.mark.parametrize(
    ("sampler", "share", "kind", "step"),
    [("class_balanced", 0.5, DecodedImages, 7), ("square_root", 0.0, LazyImages, 3)],
)
def test_a_stopped_run_ends_as_one_never_stopped(make_trainer, icl, tmp_path, stop_at, sampler, share, kind, step):
    options = {"train_sampler": sampler, "image_memory_share": share, "num_train_epochs": 2}
    whole = make_trainer(*icl, output_dir=str(tmp_path / "whole"), **options)
    assert type(whole.train_dataset) is kind
    whole.train()
    make_trainer(*icl, callbacks=[stop_at(step)], **options).train()
    resumed = make_trainer(*icl, **options)
    resumed.train(resume_from_checkpoint=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    shuffled = make_trainer(*icl, output_dir=str(tmp_path / "shuffled"), **options | {"train_sampler": "shuffle"})
    assert not isinstance(shuffled._get_train_sampler(), ClassSampler)


def test_a_sampler_that_does_not_exist_is_told():
    assert set(POWERS) == {"shuffle", "square_root", "class_balanced"}
    with pytest.raises(ValueError, match=r'`train_sampler` must be one of shuffle, .*, got "balanced"'):
        LongTailTrainingArguments(output_dir="unused", train_sampler="balanced")
