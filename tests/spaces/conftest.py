"""The page in a process of its own, as the Hub runs it: the folder alone, and tailmoe out of reach."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from gradio_client import Client

from tailmoe.modeling import SNNLMoEConfig, SNNLMoEForImageClassification, TailMoEImageProcessor

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "spaces" / "image_classification"
MODELS = ROOT / "hub_cards" / "models"
START = """
import runpy, sys
sys.modules["tailmoe"] = None
sys.path.insert(0, ".")
runpy.run_path("app.py", run_name="__main__")
"""


@dataclass
class Page:
    """A page that runs: its address, a client of its endpoints, its process, and its copy of the Space."""

    url: str
    client: Client
    process: psutil.Process
    folder: Path


@contextlib.contextmanager
def serve(folder: Path, **models: Path):
    """Serve the page for MODEL_ID, and BASELINE_ID if given, from a copy of the Space in `folder`."""
    shutil.copytree(SPACE, folder / "space", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILMOE")}
    environment |= {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        **{name: str(path) for name, path in models.items()},
    }
    with (folder / "log").open("w") as log:
        page = subprocess.Popen(
            [sys.executable, "-c", START], cwd=folder / "space", env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        yield Page(url, connect(url, page, folder / "log"), psutil.Process(page.pid), folder / "space")
    finally:
        page.terminate()
        page.wait(timeout=20)


def connect(url: str, page: subprocess.Popen, log: Path, seconds: float = 90) -> Client:
    until = time.monotonic() + seconds
    while True:
        assert page.poll() is None, log.read_text()
        try:
            return Client(url, verbose=False)
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """The page of the pair that ships with the project."""
    models = {"MODEL_ID": "icl-moe-fashion-mnist-lt", "BASELINE_ID": "cross-entropy-fashion-mnist-lt"}
    with serve(tmp_path_factory.mktemp("pair"), **{key: MODELS / name for key, name in models.items()}) as page:
        yield page


@pytest.fixture(scope="session")
def snnl(tmp_path_factory):
    """The page of an untrained SNNL-MoE in colour, with labels that are not harmless and without results."""
    folder = tmp_path_factory.mktemp("snnl")
    torch.manual_seed(0)
    names = {0: "shirt <script>document.title='taken'</script>", 1: "shoe & boot", 2: '"bag"'}
    config = SNNLMoEConfig(
        image_size=16,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        num_experts=2,
        id2label=names,
        label2id={name: c for c, name in names.items()},
        class_counts=[1200, 50, 7],
    )
    SNNLMoEForImageClassification(config).save_pretrained(folder / "model")
    TailMoEImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / "model")
    with serve(folder, MODEL_ID=folder / "model") as page:
        yield page
