"""`tailmoe predict` on many files: written as it goes, unreadable ones named and left out on request, large ones read."""

import csv
import json
import types
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from tailmoe.training import cli
from tailmoe.training.data import DecodedImages
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation import predict as prediction
from tailmoe.training.evaluation.answers import write_labelled


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


def rows_in(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def nested(tmp_path, some_files):
    """A folder with images in it and in folders below, beside files that are none."""
    folder = tmp_path / "photos"
    (folder / "b" / "deep er").mkdir(parents=True)
    for path, place in zip(some_files(4), ("z.png", "b/1.png", "b/deep er/ü.png", "no suffix"), strict=True):
        Path(path).rename(folder / place)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_folders_are_predicted_with_those_below_them_in_the_order_of_their_names(run, nested, capsys, monkeypatch):
    monkeypatch.chdir(nested.parent)
    assert cli.main(["predict", run, "photos", "photos/z.png", "--csv", "out/answers.csv"]) == 0
    rows = rows_in(nested.parent / "out" / "answers.csv")
    below = ["photos/b/1.png", "photos/b/deep er/ü.png", "photos/no suffix", "photos/z.png"]
    assert [row["file"] for row in rows] == [*below, "photos/z.png"]
    assert capsys.readouterr().out == "5 of 5 images are in out/answers.csv.\n"


def test_a_table_of_predictions_has_the_answers_that_are_shown_else(run, tmp_path, some_files):
    files = [tmp_path / name for name in ("answers.csv", "answers.json")]
    words = ["predict", run, *some_files(3), "--top-k", "2", "--csv", str(files[0]), "--json", str(files[1])]
    assert cli.main(words) == 0
    for row, told in zip(rows_in(files[0]), json.loads(files[1].read_text()), strict=True):
        assert [*row] == ["file", "label", "probability", "label_2", "probability_2", "agreement"]
        assert [row["label"], row["label_2"]] == [each["label"] for each in told["labels"]]
        assert float(row["probability_2"]) == pytest.approx(told["labels"][1]["probability"], abs=1e-6)
        same = [expert[0]["label"] == row["label"] for expert in told["experts"]]
        assert float(row["agreement"]) == pytest.approx(sum(same) / len(same), abs=1e-4)


def test_a_table_keeps_the_answers_before_an_image_that_cannot_be_read(run, tmp_path, some_files, capsys):
    paths, file = some_files(40, bad=(37,)), tmp_path / "all.csv"
    assert cli.main(["predict", run, *paths, "--csv", str(file)]) == 2
    assert [row["file"] for row in rows_in(file)] == paths[:37]
    assert cli.main(["predict", run, *paths, "--csv", str(file), "--on-bad-image", "skip"]) == 0
    assert len(rows_in(file)) == 39
    assert "39 of 40 images are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"notes.txt": b"x"}, "holds no image that can be read."),
        ({}, "holds no image that can be read."),
        ({"a.jxl": b"x"}, "but images in JPEG XL format, which Pillow does not read"),
    ],
)
def test_a_folder_without_images_is_refused_with_what_lies_there(run, tmp_path, files, told, capsys):
    (tmp_path / "none").mkdir()
    for name, content in files.items():
        (tmp_path / "none" / name).write_bytes(content)
    assert cli.main(["predict", run, str(tmp_path / "none")]) == 2
    assert told in capsys.readouterr().err


def test_a_table_that_cannot_be_written_is_told_by_name(run, tmp_path, some_files, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a.csv"):
        assert cli.main(["predict", run, *some_files(1), "--csv", str(path)]) == 2
        assert f"`--csv` {path} cannot be written: " in capsys.readouterr().err


@pytest.fixture
def labelled_folder(tmp_path, fashion):
    """Images in folders of their classes, one of which cannot be read."""
    names = fashion["test"].features["label"].names
    for index, row in enumerate(fashion["test"].select(range(30))):
        if "/" not in names[row["label"]]:
            folder = tmp_path / "labelled" / names[row["label"]]
            folder.mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / f"{index:02}.png")
    sorted((tmp_path / "labelled").glob("*/*.png"))[1].write_bytes(b"no pixels")
    return tmp_path / "labelled"


@pytest.fixture
def named_run(run, icl, fashion):
    model = icl[0]
    model.config.id2label = dict(enumerate(fashion["test"].features["label"].names))
    model.config.label2id = {name: index for index, name in model.config.id2label.items()}
    model.save_pretrained(run)
    return run


@pytest.mark.parametrize("lazy", [False, True])
def test_a_table_of_measured_images_begins_with_the_label_that_fits_least(
    named_run, labelled_folder, tmp_path, lazy, monkeypatch
):
    if lazy:
        monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=0))
    files = [tmp_path / name for name in ("answers.csv", "metrics.json", "single.csv")]
    words = ["evaluate", named_run, "--data", str(labelled_folder), "--on-bad-image", "skip"]
    assert cli.main([*words, "--csv", str(files[0]), "--json", str(files[1])]) == 0
    rows = rows_in(files[0])
    assert len(rows) == len([*labelled_folder.glob("*/*.png")]) - 1
    assert {Path(row["file"]).parent.name for row in rows} == {row["true_label"] for row in rows}
    assert all(Path(row["file"]).parent.name == row["true_label"] for row in rows)
    probabilities = [float(row["true_probability"]) for row in rows]
    assert probabilities == sorted(probabilities)
    right = [row["correct"] == "yes" for row in rows]
    assert sum(right) / len(rows) == pytest.approx(json.loads(files[1].read_text())["accuracy"])
    first = rows[0]
    assert cli.main(["predict", named_run, first["file"], "--csv", str(files[2])]) == 0
    (alone,) = rows_in(files[2])
    assert alone["label"] == first["label"]
    assert float(alone["probability"]) == pytest.approx(float(first["probability"]), abs=1e-4)


def test_rows_of_images_without_files_are_told_by_their_number(named_run, data_dir, tmp_path):
    assert cli.main(["evaluate", named_run, "--data", str(data_dir), "--csv", str(tmp_path / "rows.csv")]) == 0
    rows = rows_in(tmp_path / "rows.csv")
    assert sorted(int(row["row"]) for row in rows) == [*range(len(rows))]
    assert {row["file"] for row in rows} == {""}


def test_a_label_looks_wrong_where_another_class_fits_as_well_as_its_own_images(tmp_path, icl):
    probabilities = torch.full((5, 10), 0.01)
    labels = torch.tensor([0, 0, 1, 1, 1])
    for row, (label, value) in enumerate([(0, 0.9), (0, 0.7), (1, 0.9), (0, 0.85), (0, 0.75)]):
        probabilities[row, label] = value
    outputs = {"logits": probabilities.log(), "labels": labels}
    features = datasets.Features(image=datasets.Image())
    images = datasets.Dataset.from_dict({"image": [f"{row}.png" for row in range(5)]}, features=features)
    write_labelled(tmp_path / "a.csv", icl[0], outputs, images, torch.arange(5))
    doubted = {row["file"]: row["label_looks_wrong"] for row in rows_in(tmp_path / "a.csv")}
    assert doubted == {"0.png": "no", "1.png": "no", "2.png": "no", "3.png": "yes", "4.png": "no"}


def test_several_thresholds_of_early_exit_have_no_one_table(named_run, tmp_path, capsys):
    words = ["--early-exit-threshold", "0.5", "0.6", "--csv", str(tmp_path / "a.csv"), "--data", str(tmp_path)]
    assert cli.main(["evaluate", named_run, *words]) == 2
    assert "`--csv` is of one `--early-exit-threshold`, got several" in capsys.readouterr().err
