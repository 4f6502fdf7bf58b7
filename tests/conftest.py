import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from loopback_hub.faults import Fault
from loopback_hub.server import RunningHub

# the networks of the tests are too small to share: one thread each, here and in the processes that tests start
os.environ["OMP_NUM_THREADS"] = "1"

# read once, when huggingface_hub is imported: every test that asks the Hub asks the one on this machine
assert "huggingface_hub" not in sys.modules
ROOT = Path(tempfile.mkdtemp(prefix="loopback-hub-"))
HUB = RunningHub(ROOT / "hub")
os.environ |= {
    "HF_ENDPOINT": HUB.url,
    "HF_TOKEN": "hf_write",
    "HF_HOME": str(ROOT / "home"),
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "NO_PROXY": "127.0.0.1,localhost",
}


def pytest_sessionstart(session):
    HUB.start()


def pytest_unconfigure(config):
    HUB.stop()
    shutil.rmtree(ROOT, ignore_errors=True)


@pytest.fixture
def hub():
    """The Hub on this machine, without repositories; `hub.app.requests` tells what it was asked."""
    HUB.app.faults.clear()
    HUB.app.requests.clear()
    yield HUB
    HUB.app.faults.clear()
    shutil.rmtree(ROOT / "hub" / "repositories", ignore_errors=True)


@pytest.fixture
def inject(hub):
    """Let the next request that fits go wrong, see `Fault`."""

    def add(action, path, **options):
        hub.app.faults.append(Fault(action, path, **options))

    return add
