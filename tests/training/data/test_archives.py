"""Images in one file: a ZIP or TAR archive of folders, and WebDataset archives."""

import io
import json
import shutil
import tarfile
import zipfile

import pytest

from tailmoe.training.data import class_counts, load_long_tailed
from tailmoe.training.data.splits import load_split
from tailmoe.training.errors import BadInputError


def labels_of(path, **options):
    rows = load_split(str(path), **options)
    return sorted(rows.features["label"].names[label] for label in rows["label"])


@pytest.mark.parametrize("form", ["zip", "tar", "gztar", "bztar", "xztar"])
@pytest.mark.parametrize("around", [False, True])
def test_an_archive_of_class_folders_is_read_as_the_folder_is(image_folder, tmp_path, form, around):
    folder = image_folder(cat=3, dog=2)
    inside = {"root_dir": folder.parent, "base_dir": folder.name} if around else {"root_dir": folder}
    archive = shutil.make_archive(str(tmp_path / "photos"), form, **inside)
    assert labels_of(archive) == ["cat"] * 3 + ["dog"] * 2


def test_an_archive_may_hold_splits_a_table_or_what_a_mac_adds(image_folder, tmp_path):
    folder = image_folder(train_cat=3, train_dog=3, test_cat=1, test_dog=1)
    (folder / "__MACOSX").mkdir()
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", folder.parent, folder.name)
    splits = load_long_tailed(archive)
    assert (len(splits["train"]), len(splits["test"])) == (6, 2)
    shutil.move(folder / "train" / "cat", folder / "pictures")
    for name in ("train", "test"):
        shutil.rmtree(folder / name)
    (folder / "train.csv").write_text("image;label\n000.png;a\n001.png;b\n002.png;a\n")
    archive = shutil.make_archive(str(tmp_path / "table"), "zip", folder.parent, folder.name)
    assert class_counts(load_split(archive, "train")) == [2, 1]


def test_an_archive_that_has_changed_is_unpacked_anew_and_else_once(image_folder, tmp_path, caplog):
    folder = image_folder(cat=3, dog=2)
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    with caplog.at_level("INFO"):
        assert len(labels_of(archive)) == len(labels_of(archive)) == 5
    assert caplog.text.count("Unpacking") == 1
    (folder / "dog" / "000.png").unlink()
    shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    assert labels_of(archive) == ["cat"] * 3 + ["dog"]


def damaged(path):
    path.write_bytes(path.read_bytes()[:200])


def locked(path):
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1  # the flag of members that need a password
            start = content.find(mark, start + 1)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("form", "spoil", "told"),
    [
        ("zip", damaged, "photos.zip"),
        ("zip", locked, "password required"),
        ("tar", damaged, "photos.tar"),
        ("gztar", damaged, "photos.tar.gz"),
        ("zip", lambda path: path.write_bytes(b""), "photos.zip"),
        ("tar", lambda path: path.write_bytes(b"no archive"), "photos.tar"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_told_in_one_line(image_folder, tmp_path, form, spoil, told):
    archive = shutil.make_archive(str(tmp_path / "photos"), form, image_folder(cat=3, dog=2))
    spoil(tmp_path / archive)
    with pytest.raises(BadInputError, match=told) as error:
        load_split(archive)
    assert "give a whole archive, or a folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_members_that_would_lie_outside_are_not_unpacked(tmp_path, pictures):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name in ("../../out.png", "cat/a.png", "dog/b.png"):
            archive.writestr(name, encoded(pictures[0]))
    assert labels_of(tmp_path / "evil.zip") == ["cat", "dog"]
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        add(archive, "../../out.png", encoded(pictures[0]))
    with pytest.raises(BadInputError, match="outside the destination"):
        labels_of(tmp_path / "evil.tar")


def encoded(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def webdataset(tmp_path, pictures):
    """Writes an archive of pictures, each with a member of a suffix and a content for its label."""

    def make(name, labels, suffix="cls", start=0):
        (tmp_path / "shards").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "shards" / name, "w") as archive:
            for index, label in enumerate(labels, start=start):
                add(archive, f"{index:06}.png", encoded(pictures[index]))
                add(archive, f"{index:06}.{suffix}", label.encode())
        return tmp_path / "shards" / name

    return make


def test_a_webdataset_archive_holds_rows_with_classes(webdataset, pictures):
    path = webdataset("pictures.tar", ["3", "10", "3", "10"])
    assert labels_of(path) == ["10", "10", "3", "3"]
    assert load_split(str(path))[0]["image"].tobytes() == pictures[0].tobytes()
    assert class_counts(load_long_tailed(str(path))["train"]) == [1, 1]


@pytest.mark.parametrize("key", ["label", "cls", "class"])
def test_classes_of_a_webdataset_may_be_told_by_json(webdataset, key):
    path = webdataset("pictures.tar", [json.dumps({key: name, "by": "me"}) for name in ("cat", "dog", "cat")], "json")
    assert labels_of(path) == ["cat", "cat", "dog"]


def test_a_folder_may_hold_shards_of_webdataset_for_each_split(webdataset):
    for number in range(2):
        path = webdataset(f"train-{number:06}.tar", ["0", "1", "0"], start=3 * number)
    webdataset("val-000000.tar", ["1", "0"], start=6)
    splits = load_long_tailed(str(path.parent))
    assert (len(splits["train"]), len(splits["test"])) == (6, 2)


@pytest.mark.parametrize(
    ("labels", "suffix", "told"),
    [
        (["cat", "dog"], "cls", "invalid literal for int"),
        (['{"who": 1}', '{"who": 2}'], "json", "The label column is none of .*json.who.*: name it"),
        (["{", "}"], "json", "cannot be loaded"),
    ],
)
def test_classes_of_a_webdataset_that_cannot_be_read_are_told_in_one_line(webdataset, labels, suffix, told):
    with pytest.raises(BadInputError, match=told) as error:
        load_split(str(webdataset("pictures.tar", labels, suffix)))
    assert "\n" not in str(error.value)
