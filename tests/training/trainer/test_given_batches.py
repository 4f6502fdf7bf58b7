"""Data sets that give pixel values themselves, streamed ones, columns of other names, images without labels."""

import datasets
import pytest
import torch
from torch.utils.data import Dataset, Subset

from tailmoe.training import LongTailTrainer, LongTailTrainingArguments
from tailmoe.training.data import class_counts
from tailmoe.training.data.own_batches import labels_of
from tailmoe.training.errors import BadInputError


class Noise(Dataset):
    """Images of noise, whose labels only the examples tell."""

    dtype, keys = torch.float64, ("pixel_values", "labels")

    def __len__(self):
        return 40

    def __getitem__(self, index):
        image = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(index)).to(self.dtype)
        return dict(zip(self.keys, (image, index % 10), strict=True))


class Told(Noise):
    labels = tuple(index % 10 for index in range(40))


class Renamed(Noise):
    keys = ("image", "label")


@pytest.fixture
def make(tmp_path, fashion, processor, icl):
    def make(train, evaluated=None, model=None, collator=None, **changes):
        arguments = {"max_steps": 2, "save_strategy": "no", "per_device_train_batch_size": 16, "disable_tqdm": True}
        args = LongTailTrainingArguments(output_dir=str(tmp_path), report_to="none", **arguments | changes)
        return LongTailTrainer(
            model or icl[0], args, train, evaluated or fashion["test"], processor, data_collator=collator
        )

    return make


def collated(examples):
    return {name: torch.stack([torch.as_tensor(each[name]) for each in examples]) for name in examples[0]}


@pytest.mark.parametrize("collator", [None, collated])
def test_a_data_set_of_ones_own_trains_and_is_evaluated_and_the_log_tells_once_what_does_not_act(
    make, caplog, collator
):
    trainer = make(Noise(), Noise(), collator=collator)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    assert caplog.text.count("without `crop_padding`, `horizontal_flip`, `auto_augment`, `cutout_size`") == 1
    assert "those of the model's configuration are taken" in caplog.text
    assert trainer.class_counts == trainer.model.config.class_counts


def test_a_transform_gives_the_batches_and_the_column_the_counts(make, fashion, processor):
    def transform(rows):
        return {"pixel_values": processor(rows["image"], return_tensors="pt")["pixel_values"], "labels": rows["label"]}

    trainer = make(fashion["train"].with_transform(transform), fashion["test"].with_transform(transform))
    plain = make(fashion["train"])
    assert trainer.class_counts == class_counts(fashion["train"])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], rel=1e-4)
    trainer.train()
    assert "eval_few_accuracy" in trainer.evaluate()


def test_streamed_images_are_decoded_and_augmented_as_others(make, fashion, caplog):
    trainer = make(fashion["train"].to_iterable_dataset(), fashion["test"].to_iterable_dataset())
    expected = trainer.evaluate(fashion["test"])["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    trainer.train()
    assert "taken as they are" not in caplog.text, "uint8 images are augmented"


def test_without_labels_that_can_be_read_and_counts_there_are_no_shot_groups(make, icl, caplog):
    icl[0].config.class_counts = None
    trainer = make(Noise())
    assert trainer.class_counts is None
    assert "eval_few_accuracy" not in trainer.evaluate()
    assert "no shot groups are measured" in caplog.text


def test_labels_are_told_by_an_attribute_and_by_parts_of_a_data_set(fashion):
    assert labels_of(Told()).tolist() == list(Told.labels)
    assert labels_of(Subset(Told(), [3, 11])).tolist() == [3, 1]
    assert (
        labels_of(torch.utils.data.ConcatDataset([Told(), fashion["test"]]))[40:].tolist() == fashion["test"]["label"]
    )
    assert labels_of(torch.utils.data.ConcatDataset([Told(), Noise()])) is None


@pytest.mark.parametrize(
    ("train", "changes", "message"),
    [
        (Renamed(), {}, "A batch must have `pixel_values` and `labels`, got "),
        (Noise(), {"train_sampler": "class_balanced"}, "`train_sampler` class_balanced needs the labels of"),
    ],
)
def test_what_gives_no_images_or_labels_is_refused(make, train, changes, message):
    with pytest.raises(BadInputError, match=message):
        make(train, **changes).train()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda batch: {"pixel_values": batch["pixel_values"].float()}, "gives no `labels`"),
        (lambda batch: batch | {"labels": batch["labels"] + 5}, "Label 14 is out of range"),
        (lambda batch: batch | {"labels": batch["labels"].float()}, "`labels` must be a whole number for each of 16 images"),
        (lambda batch: batch | {"pixel_values": batch["pixel_values"][0]}, "must be floats or uint8 of shape"),
        (lambda batch: batch["nothing"], "Examples cannot be made a batch"),
    ],
)  # fmt: skip
def test_wrong_batches_of_a_collator_are_refused(make, given, message):
    with pytest.raises(BadInputError, match=message):
        make(Told(), collator=lambda examples: given(collated(examples))).train()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": -1}, "`max_steps` is missing"),
        ({"train_sampler": "square_root"}, "`train_sampler` square_root chooses images, and a streamed"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(make, fashion, changes, message):
    with pytest.raises(BadInputError, match=message):
        make(fashion["train"].to_iterable_dataset(), **changes)


def test_columns_of_other_names_are_found_by_their_types(make, fashion):
    names = {"image": "img", "label": "labels"}
    renamed = {split: images.rename_columns(names) for split, images in fashion.items()}
    trainer = make(renamed["train"], renamed["test"])
    assert trainer.class_counts == class_counts(fashion["train"])
    assert trainer.evaluate().keys() == make(fashion["train"]).evaluate().keys()
    assert trainer.evaluate(renamed["test"])["eval_loss"] == make(fashion["train"]).evaluate()["eval_loss"]


def test_columns_that_could_both_be_meant_are_refused(make, fashion):
    two = fashion["train"].rename_column("label", "fine").add_column("coarse", fashion["train"]["label"][:])
    two = two.cast_column("coarse", datasets.ClassLabel(num_classes=10))
    with pytest.raises(BadInputError, match="The label column could be fine or coarse: `rename_column` makes one"):
        make(two)


def test_images_without_labels_are_predicted(make, fashion):
    trainer = make(fashion["train"])
    expected = trainer.predict(fashion["test"])
    unlabelled = trainer.predict(fashion["test"].remove_columns("label"))
    assert (unlabelled.predictions == expected.predictions).all()
    assert unlabelled.label_ids is None
    with pytest.raises(BadInputError, match="The label column is none of image"):
        trainer.evaluate(fashion["test"].remove_columns("label"))
