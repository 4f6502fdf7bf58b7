"""The README's walk-through, its files and commands as they stand, on a few images of each class."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
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


@pytest.mark.slow
@pytest.mark.skipif("TAILMOE_DATA_DIR" not in os.environ, reason="TAILMOE_DATA_DIR names no folder of data")
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
