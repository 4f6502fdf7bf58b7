"""Images with the same bytes, found without reading all of all files."""

import datasets
import numpy as np
import pytest

from tailmoe.training.data import duplicates
from tailmoe.training.data.duplicates import EDGE, content_numbers

FEATURES = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))


@pytest.fixture
def split(tmp_path):
    """Makes a split of images from their bytes, as files or in rows; None is a missing image."""

    def make(*contents, files):
        images = []
        for index, content in enumerate(contents):
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}-{index}"
            if files and content is not None:
                path.write_bytes(content)
            images.append(
                {"bytes": None, "path": str(path)} if files else content and {"bytes": content, "path": None}
            )
        return datasets.Dataset.from_dict({"image": images, "label": [0] * len(images)}, features=FEATURES)

    return make


@pytest.mark.parametrize("files", [True, False])
def test_equal_bytes_have_equal_numbers_across_splits(split, files):
    ends = bytes(EDGE)
    same = [ends + middle + ends for middle in (b"a", b"b", b"a")]  # of one size, with the same ends
    numbers = content_numbers([split(b"x", b"y", b"xx", *same, files=files), split(same[1], b"z", b"x", files=files)])
    assert [part.tolist() for part in numbers] == [[0, 1, 2, 3, 4, 3], [4, 5, 0]]


@pytest.mark.parametrize("files", [True, False])
def test_missing_images_are_like_no_other(split, files):
    (numbers,) = content_numbers([split(None, None, b"x", None, files=files)])
    assert len(np.unique(numbers)) == 4


def test_files_of_a_size_of_their_own_are_not_opened_and_others_not_read_whole(split, monkeypatch):
    opened = []
    for name in ("_digest_of_ends", "_digest"):
        digest = getattr(duplicates, name)
        monkeypatch.setattr(
            duplicates,
            name,
            lambda image, name=name, digest=digest: opened.append((name, image.size)) or digest(image),
        )
    rows = split(*(bytes([n]) * (n * EDGE) for n in range(1, 5)), b"a" * 4 * EDGE, files=True)
    content_numbers([rows])
    assert opened == [("_digest_of_ends", 4 * EDGE)] * 2


def test_a_file_that_is_named_often_is_read_once(split, monkeypatch):
    rows = split(b"a" * 9, b"b" * 9, files=True)
    monkeypatch.setattr(duplicates, "_digest_of_ends", lambda image, seen=[]: seen.append(image) or str(len(seen)))
    (numbers,) = content_numbers([rows.select([0, 1] * 50)])
    assert numbers.tolist() == [0, 1] * 50
