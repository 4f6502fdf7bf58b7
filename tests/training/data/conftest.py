import itertools
import os

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
from PIL import Image

from tailmoe.training.data import load_long_tailed


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    """What `datasets` caches goes with the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data."""
    if not os.environ.get("TAILMOE_DATA_DIR"):
        pytest.skip("TAILMOE_DATA_DIR names no folder of real data")
    return os.environ["TAILMOE_DATA_DIR"]


@pytest.fixture
def offline(monkeypatch):
    """No Hub, and no folder of real data."""
    monkeypatch.delenv("TAILMOE_DATA_DIR", raising=False)
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def embedded():
    return load_long_tailed("fashion_mnist_lt")


@pytest.fixture(scope="session")
def pictures(embedded):
    """Sixty different images, 28 x 28, grey."""
    return embedded["test"][:60]["image"]


@pytest.fixture
def labelled():
    """Makes a data set of labels alone, in the order given."""

    def make(labels, num_classes=None):
        names = [f"c{c}" for c in range(num_classes or max(labels) + 1)]
        features = datasets.Features({"label": datasets.ClassLabel(names=names), "row": datasets.Value("int64")})
        return datasets.Dataset.from_dict({"label": labels, "row": range(len(labels))}, features=features)

    return make


@pytest.fixture
def image_folder(tmp_path, pictures):
    """Makes a folder of images from the number of images of each subfolder; they differ, the first sixty of them."""

    def make(**counts):
        numbers = itertools.count()
        for folder, count in counts.items():
            path = tmp_path / "images" / folder.replace("_", "/")
            path.mkdir(parents=True)
            for index in range(count):
                pictures[next(numbers) % len(pictures)].save(path / f"{index:03}.png")
        return tmp_path / "images"

    return make


@pytest.fixture
def parquet(tmp_path, pictures):
    """Writes `<name>.parquet` with the column `image` and columns given as `name=(type, values)`."""

    def make(name="train", **columns):
        number = len(next(iter(columns.values()))[1])
        features = datasets.Features(
            {"image": datasets.Image()} | {key: feature for key, (feature, _) in columns.items()}
        )
        rows = {"image": [pictures[i % len(pictures)] for i in range(number)]}
        rows |= {key: values for key, (_, values) in columns.items()}
        path = tmp_path / "parquet" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
        return path

    return make


@pytest.fixture
def colour():
    """A colour image with a gradient in each direction, (H, W) = (20, 30)."""
    rows, columns = np.mgrid[:20, :30]
    return Image.fromarray(np.stack([rows * 12, columns * 8, (rows + columns) * 5], axis=-1).astype(np.uint8))
