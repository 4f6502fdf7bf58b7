"""Models as those load them who have no tailmoe: in a process of its own, by the code that lies beside the weights."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from tailmoe.hub_cards import fixed_images


class DoesNotLoadError(RuntimeError):
    """The model does not load there; the message is the reason."""


def logits_in_clean_process(folder: Path) -> Tensor:
    """The logits of the fixed images that the model in a folder gives: (2, classes).

    Raises:
        DoesNotLoadError: If it does not load.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HF_HOME": home, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        # -P: the files beside the program, such as markdown.py, would take the place of packages
        command = [sys.executable, "-P", fixed_images.__file__, str(folder.resolve())]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise DoesNotLoadError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return torch.tensor(json.loads(done.stdout.splitlines()[-1]))
