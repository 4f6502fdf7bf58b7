"""Build the embedded FashionMNIST-LT from the whole FashionMNIST.

Run as `python -m tailmoe.training.data.fashion_mnist_lt.build`, or by its path. It writes beside itself; with the
versions of constraints.txt, the very bytes that are committed.

Reads `$TAILMOE_DATA_DIR/fashion_mnist/{train,test}.parquet`, else the Hub. Imbalance factor 200, largest class 2,000,
the first images of each class; the test set is the first 200 test images of each class. The same pixels, as PNG
compressed as far as it goes.
"""

import io
from pathlib import Path

import datasets

from tailmoe.training.data import load_long_tailed, make_long_tailed

FOLDER = Path(__file__).parent


def compressed(row: dict) -> dict:
    """The row with its image encoded anew."""
    buffer = io.BytesIO()
    row["image"].save(buffer, format="PNG", optimize=True)
    return {"image": {"bytes": buffer.getvalue(), "path": None}}


def main() -> None:
    """Write `train.parquet` and `test.parquet` beside this file."""
    splits = load_long_tailed("fashion_mnist")
    splits["train"] = make_long_tailed(splits["train"], 200, max_count=2000)
    splits["test"] = make_long_tailed(splits["test"], 1, max_count=200)
    for name, split in splits.items():
        stored = split.features.copy() | {"image": datasets.Image(decode=False)}
        encoded = split.map(compressed, features=datasets.Features(stored), load_from_cache_file=False)
        encoded.cast(split.features).to_parquet(FOLDER / f"{name}.parquet", use_content_defined_chunking=False)


if __name__ == "__main__":
    main()
