"""`tailmoe predict` on many files: written as it goes, unreadable ones named and left out on request, large ones read."""

import json

import datasets
import pytest
from PIL import Image

from tailmoe.training import cli
from tailmoe.training.data import DecodedImages
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation import predict as prediction


@pytest.fixture
def run(icl, processor, tmp_path):
    for part in (icl[0], processor):
        part.save_pretrained(tmp_path / "run")
    return str(tmp_path / "run")


@pytest.fixture
def some_files(tmp_path, fashion):
    """Makes images, of which those numbered in `bad` are none."""

    def make(count, bad=(), size=(28, 28)):
        paths = [tmp_path / f"{index}.png" for index in range(count)]
        for index, (path, row) in enumerate(zip(paths, fashion["test"].select(range(count)), strict=True)):
            path.write_bytes(b"no pixels") if index in bad else row["image"].resize(size).save(path)
        return [str(path) for path in paths]

    return make


def files_in(text):
    return [line for line in text.splitlines() if line.endswith(".png")]


def files_of(path):
    return [each["path"] for each in json.loads(path.read_text())]


def test_an_image_that_cannot_be_read_is_skipped_on_request_and_named(run, tmp_path, some_files, capsys, caplog):
    paths, file = some_files(40, bad=(3, 37)), tmp_path / "all.json"
    with caplog.at_level("WARNING"):
        assert cli.main(["predict", run, *paths, "--on-bad-image", "skip", "--json", str(file)]) == 0
    kept = [path for index, path in enumerate(paths) if index not in (3, 37)]
    assert files_of(file) == files_in(capsys.readouterr().out) == kept
    skipped = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(skipped) == 2
    assert f"`{paths[3]}` cannot be read as an image: it is not an image that Pillow knows" in skipped[0]
    assert paths[37] in skipped[1]


def test_an_image_that_cannot_be_read_loses_no_prediction_of_those_before_it(run, tmp_path, some_files, capsys):
    paths, file = some_files(40, bad=(37,)), tmp_path / "all.json"
    assert cli.main(["predict", run, *paths, "--json", str(file)]) == 2
    printed = capsys.readouterr()
    assert f"`{paths[37]}` cannot be read as an image" in printed.err
    assert "`--on-bad-image skip` leaves such files out" in printed.err
    assert files_of(file) == files_in(printed.out) == paths[:37]


def test_predictions_are_written_before_later_images_are_read(run, some_files, monkeypatch, capsys):
    shown, read = [], prediction.decode_image

    def reading(path):
        shown.append(len(files_in(capsys.readouterr().out)))
        return read(path)

    monkeypatch.setattr(prediction, "PREDICTED_AT_ONCE", 2)
    monkeypatch.setattr(prediction, "decode_image", reading)
    assert cli.main(["predict", run, *some_files(5)]) == 0
    assert shown == [0, 0, 2, 0, 2]


def test_where_no_image_can_be_read_nothing_is_written(run, tmp_path, some_files, capsys):
    file = tmp_path / "all.json"
    assert cli.main(["predict", run, *some_files(3, bad=range(3)), "--on-bad-image", "skip", "--json", str(file)]) == 2
    assert "None of the images can be read" in capsys.readouterr().err
    assert not file.exists()


def test_images_above_the_limit_of_pillow_are_read_everywhere_and_far_above_it_refused_with_the_remedy(
    run, processor, some_files, monkeypatch, capsys
):
    paths = some_files(3, size=(112, 112))
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a"]))
    split = datasets.Dataset.from_dict({"image": paths, "label": [0] * 3}, features=features)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 112 * 112 - 1)
    assert cli.main(["predict", run, *paths]) == 0
    assert len(DecodedImages.from_dataset(split, processor)) == 3
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 112 * 112 // 2 - 1)
    assert cli.main(["predict", run, *paths]) == 2
    assert "make it smaller; `--on-bad-image skip` leaves such files out" in capsys.readouterr().err
    with pytest.raises(BadInputError, match="make it smaller; `on_bad_image: skip` leaves such rows out"):
        DecodedImages.from_dataset(split, processor)
