"""Each Space's folder: self-contained, pinned, and described as the Hub asks for it."""

import ast
import sys

import pytest
from huggingface_hub import SpaceCard

from .conftest import ROOT

SPACES = sorted(path.parent for path in (ROOT / "spaces").glob("*/app.py"))
PACKAGES = {"PIL": "pillow", "huggingface_hub": "huggingface-hub"}


@pytest.fixture(params=SPACES, ids=lambda path: path.name)
def space(request):
    return request.param


def test_both_spaces_are_there():
    assert [path.name for path in SPACES] == ["image_classification", "long_tailed_accuracy"]


def test_it_imports_nothing_of_ours_and_pins_what_it_needs(space):
    own = {path.stem for path in space.glob("*.py")}
    modules = set()
    for path in space.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.split(".")[0])
    needed = {PACKAGES.get(name, name) for name in modules - own - sys.stdlib_module_names}
    pins = (space / "requirements.txt").read_text().split()
    assert {pin.split("==")[0] for pin in pins} == needed
    assert set(pins) <= set((ROOT / "constraints.txt").read_text().split())


def test_it_says_what_the_hub_asks_for_and_gradio_is_the_one_that_is_tested(space):
    card = SpaceCard.load(space / "README.md")
    assert card.data.sdk == "gradio"
    assert f"gradio=={card.data.sdk_version}" in (space / "requirements.txt").read_text().split()
    assert (space / card.data.app_file).is_file()
