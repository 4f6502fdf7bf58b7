"""Figures of a trained model, of both kinds."""

import numpy as np
import pytest
import torch
from PIL import Image

from tailmoe.training.data import DecodedImages
from tailmoe.training.figures.model import write_model_figures


@pytest.fixture(params=["icl", "snnl"])
def model(request):
    return request.getfixturevalue(request.param)[0].eval()


def test_figures_are_drawn_with_a_baseline_beside_and_change_with_the_model(model, fashion, processor, tmp_path):
    images = DecodedImages.from_dataset(fashion["test"], processor)
    names = fashion["test"].features["label"].names
    alone = write_model_figures({"model": model}, processor, images, names, tmp_path / "alone")
    assert [path.name for path in alone] == ["features.png", "grad_cam.png"]
    both = write_model_figures({"baseline": model, "model": model}, processor, images, names, tmp_path / "both")
    widths = [Image.open(path).width for path in (alone[0], both[0])]
    assert widths[1] > 1.5 * widths[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    changed = write_model_figures({"model": model}, processor, images, names, tmp_path / "changed")
    for before, after in zip(alone, changed, strict=True):
        assert not np.array_equal(np.asarray(Image.open(before)), np.asarray(Image.open(after)))


def test_few_images_and_a_single_class_are_drawn_as_far_as_they_can_be(icl, fashion, processor, tmp_path):
    one_class = fashion["test"].filter(lambda label: label == 3, input_columns="label")
    images = DecodedImages.from_dataset(one_class.select(range(2)), processor)
    names = fashion["test"].features["label"].names
    written = write_model_figures({"model": icl[0]}, processor, images, names, tmp_path)
    assert [path.name for path in written] == ["grad_cam.png"]
