"""The walk-through of the training page, its files and commands as they stand, on a few images of each class."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tailmoe.training.data
from tailmoe.training.data import load_long_tailed

README = Path(__file__).parents[3] / "training" / "README.md"
FEW = """
import datasets, numpy, tailmoe.training.data as data
whole = data.load_long_tailed()
names = datasets.ClassLabel(names=[name.replace("/", "-") for name in whole["train"].features["label"].names])
def some(images):
    labels = numpy.asarray(images["label"])
    rows = numpy.concatenate([numpy.flatnonzero(labels == c)[:5] for c in range(10)])
    return images.select(rows).cast_column("label", names)
few = {split: some(images) for split, images in whole.items()}
data.load_long_tailed = lambda name, **options: few
"""


def blocks():
    section = README.read_text(encoding="utf-8").split("step by step\n")[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)


real_data = pytest.mark.skipif("TAILMOE_DATA_DIR" not in os.environ, reason="TAILMOE_DATA_DIR names no folder of data")


@real_data
def test_the_walk_through_trains_on_the_images_of_cifar100_lt_alone(tmp_path, monkeypatch):
    """One of the hundred classes is called `train`."""
    expected = load_long_tailed("cifar100", imbalance_factor=100)
    expected["test"] = expected["test"].select(range(1000))
    monkeypatch.setattr(tailmoe.training.data, "load_long_tailed", lambda *args, **options: expected, raising=False)
    monkeypatch.chdir(tmp_path)
    exec(next(text for _, text in blocks() if "# images.py" in text))
    found = load_long_tailed("photographs")
    assert len(found["train"]) == 10_847
    for split, rows in found.items():
        counts = [np.bincount(each["label"], minlength=100).tolist() for each in (rows, expected[split])]
        names = [each.features["label"].names for each in (rows, expected[split])]
        assert dict(zip(names[0], counts[0], strict=True)) == dict(zip(names[1], counts[1], strict=True))
    assert found.left_out == {}


@pytest.mark.slow
@real_data
def test_the_walk_through_runs_as_it_stands(tmp_path):
    follow(tmp_path, before="")


def test_the_walk_through_runs_on_a_few_images(tmp_path):
    output = follow(tmp_path, before=FEW, test_class="Bag")
    assert "The run is in mine" in output
    assert re.search(r"balanced accuracy +\d", output)


def follow(folder, before, test_class="apple"):
    """Write the files of the walk-through into the folder and run what it says; return what the commands printed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(command):
        done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    output = ""
    for language, text in blocks():
        if language == "python":
            name = text.splitlines()[0].removeprefix("# ")
            (folder / name).write_text(before + text)
            output += run(f"python {name}")
        else:
            output += run("set -e\n" + text.replace("/apple/", f"/{test_class}/"))
    return output
