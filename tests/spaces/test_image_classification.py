"""The Space: self-contained, and its page answers as the model does."""

import ast
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
    TailMoEImageProcessor,
)

SPACE = Path(__file__).parents[2] / "spaces" / "image_classification"
FIELDS = {"num_channels": 1, "image_size": 28, "hidden_sizes": [4, 8], "depths": [1, 1], "num_experts": 2}
NAMES = {0: "shirt", 1: "shoe", 2: "bag"}
LABELS = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}, "class_counts": [1200, 50, 7]}
START = "import sys; sys.modules['tailmoe'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=["icl", "snnl"])
def served(request, tmp_path_factory):
    """A model, its processor, an image, and a client of the page, in a process that cannot import tailmoe."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    if request.param == "icl":
        model = ICLMoEForImageClassification(ICLMoEConfig(**FIELDS, **LABELS)).eval()
    else:
        model = SNNLMoEForImageClassification(SNNLMoEConfig(**FIELDS, **LABELS)).eval()
    processor = TailMoEImageProcessor(num_channels=1, size={"height": 28, "width": 28})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    image = folder / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)).save(image)
    port = free_port()
    environment = os.environ | {
        "MODEL_ID": str(folder),
        "GRADIO_SERVER_PORT": str(port),
        "HF_HOME": str(folder / "hf"),
    }
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1,localhost"}
    page = subprocess.Popen([sys.executable, "-c", START, str(SPACE / "app.py")], cwd=folder, env=environment)
    try:
        yield model, processor, image, connect(port, page)
    finally:
        page.terminate()
        page.wait(timeout=20)


def connect(port, page, seconds=90):
    until = time.monotonic() + seconds
    while True:
        assert page.poll() is None, "the page did not start"
        try:
            return Client(f"http://127.0.0.1:{port}", verbose=False)
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


def test_the_page_answers_as_the_model_does(served):
    model, processor, image, client = served
    answer, sentence, table = client.predict(handle_file(image), api_name="/classify")
    outputs = model(**processor(Image.open(image), return_tensors="pt"))
    expected = outputs.logits[0].softmax(-1)
    shown = {each["label"]: each["confidence"] for each in answer["confidences"]}
    assert shown == pytest.approx({NAMES[c]: float(p) for c, p in enumerate(expected.detach())}, abs=1e-5)
    group = {"shirt": "1,200 training images**: a many-shot", "shoe": "50 training images**: a medium-shot"}
    assert group.get(answer["label"], "7 training images**: a few-shot") in sentence
    assert [row[0][:8] for row in table["data"]] == ["expert 1", "expert 2"]
    best = NAMES[int(outputs.expert_logits[0, 1].argmax())]
    assert table["data"][1][1].startswith(best)
    assert ("gate" in table["data"][0][0]) == ("gate_probs" in outputs)


def test_a_file_that_is_no_image_is_refused_and_the_page_stays_up(served):
    _, _, image, client = served
    text = image.with_name("words.png")
    text.write_text("words, not pixels")
    with pytest.raises(Exception):  # noqa: B017, PT011 (the client's own, whatever its type)
        client.predict(handle_file(text), api_name="/classify")
    with pytest.raises(Exception, match="Choose an image first"):
        client.predict(None, api_name="/classify")
    assert client.predict(handle_file(image), api_name="/classify")


def test_the_space_imports_nothing_of_ours_and_pins_what_it_needs():
    tree = ast.parse((SPACE / "app.py").read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} == {"os", "gradio", "torch", "PIL", "transformers"}
    constraints = (SPACE.parents[1] / "constraints.txt").read_text().split()
    assert set((SPACE / "requirements.txt").read_text().split()) <= set(constraints)


def test_the_space_says_what_the_hub_asks_for():
    from huggingface_hub import SpaceCard

    card = SpaceCard.load(SPACE / "README.md")
    assert card.data.sdk == "gradio"
    assert (SPACE / card.data.app_file).is_file()
    assert json.dumps(card.data.to_dict())
