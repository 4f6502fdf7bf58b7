import pytest
import torch

from tailmoe.modeling import (
    ICLMoEConfig,
    ICLMoEForImageClassification,
    SNNLMoEConfig,
    SNNLMoEForImageClassification,
    TailMoEImageProcessor,
)

ICL = {"num_channels": 1, "image_size": 28, "hidden_sizes": [4, 8, 8], "depths": [1, 1, 1], "num_experts": 2}
SNNL = {"num_channels": 1, "image_size": 28, "hidden_sizes": [4, 8], "depths": [1, 1], "num_experts": 2}
NAMES = {0: "shirt", 1: "shoe", 2: "bag"}
LABELS = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def icl_moe(**changes):
    return ICLMoEForImageClassification(ICLMoEConfig(**(ICL | LABELS | changes))).eval()


def snnl_moe(**changes):
    return SNNLMoEForImageClassification(SNNLMoEConfig(**(SNNL | LABELS | changes))).eval()


@pytest.fixture
def make_icl():
    return icl_moe


@pytest.fixture
def make_snnl():
    return snnl_moe


@pytest.fixture(params=[icl_moe, snnl_moe], ids=["icl_moe", "snnl_moe"])
def make_model(request):
    return request.param


@pytest.fixture
def images():
    return torch.randn(4, 1, 28, 28)


@pytest.fixture
def processor():
    return TailMoEImageProcessor(num_channels=1, size={"height": 28, "width": 28}, image_mean=[0.3], image_std=[0.35])
