"""Figures: readable PNG files of the expected size that change with the data, drawn without pyplot."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_up import made_up_metrics, made_up_run
from PIL import Image

from tailmoe.training.figures.results import (
    accuracy_per_class_figure,
    confusion_figure,
    expert_similarity_figure,
    write_figures,
)

DRAWINGS = [accuracy_per_class_figure, confusion_figure, expert_similarity_figure]


def random_run(title, seed, num_classes=10):
    """A run of ten classes, or as many as are asked for."""
    generator = np.random.default_rng(seed)
    matrix = generator.integers(1, 20, size=(num_classes, num_classes)) + 40 * np.eye(num_classes, dtype=int)
    accuracies = (matrix.diagonal() / matrix.sum(axis=1)).tolist()
    counts = [int(500 * 100 ** (-c / max(num_classes - 1, 1))) for c in range(num_classes)]
    metrics = made_up_metrics(
        float(matrix.trace() / matrix.sum()),
        balanced_accuracy=sum(accuracies) / num_classes,
        per_class_accuracy=accuracies,
        confusion_matrix=[" ".join(f"{c}:{n}" for c, n in enumerate(row)) for row in matrix.tolist()],
        pairwise_embedding_similarity=0.25,
        expert_similarity_matrix=(0.25 + 0.75 * np.eye(4)).tolist(),
    )
    return made_up_run(
        title, class_counts=counts, label_names=[f"class {c}" for c in range(num_classes)], metrics=metrics
    )


@pytest.fixture
def results():
    return replace(random_run("model", 0), baseline=random_run("baseline", 1))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("draw", DRAWINGS)
@pytest.mark.parametrize("num_classes", [1, 2, 10, 20, 100])
def test_any_number_of_classes_is_drawn_at_150_dpi(draw, num_classes, tmp_path):
    draw(random_run("model", 0, num_classes), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert 600 <= image.width <= 1200
        assert 500 <= image.height <= 900
        assert len(image.convert("RGB").getcolors(maxcolors=2**20)) > 10


@pytest.mark.parametrize("draw", DRAWINGS[1:])
def test_the_baseline_stands_beside_the_model(draw, results, tmp_path):
    draw(results, tmp_path / "both.png")
    draw(replace(results, baseline=None), tmp_path / "alone.png")
    assert pixels(tmp_path / "both.png").shape[1] > 1.5 * pixels(tmp_path / "alone.png").shape[1]


def test_points_of_model_and_baseline_have_their_own_colours(results, tmp_path):
    accuracy_per_class_figure(results, tmp_path / "both.png")
    accuracy_per_class_figure(replace(results, baseline=None), tmp_path / "alone.png")
    blue, vermilion = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    counts = {
        (name, colour): int((pixels(tmp_path / f"{name}.png") == colour).all(axis=-1).sum())
        for name in ("both", "alone")
        for colour in (blue, vermilion)
    }
    assert min(counts["both", blue], counts["both", vermilion], counts["alone", blue]) > 50
    assert counts["alone", vermilion] == 0


@pytest.mark.parametrize("draw", DRAWINGS)
def test_other_numbers_give_another_picture_and_the_same_ones_the_same(draw, results, tmp_path):
    other = copy.deepcopy(results)
    other.metrics.per_class_accuracy[3] = 0.0
    other.metrics.confusion_matrix[3] = " ".join(f"{c}:5" for c in range(10))
    other.metrics.expert_similarity_matrix[0][1] = -0.5
    for name, content in (("first", results), ("again", results), ("other", other)):
        draw(content, tmp_path / f"{name}.png")
    assert (pixels(tmp_path / "first.png") == pixels(tmp_path / "again.png")).all()
    assert (pixels(tmp_path / "first.png") != pixels(tmp_path / "other.png")).any()


def test_a_class_without_test_images_is_left_out(results, tmp_path):
    results.metrics.per_class_accuracy[9] = None
    results.metrics.confusion_matrix[9] = ""
    paths = write_figures(results, tmp_path)
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_only_figures_that_apply_are_written(results, tmp_path):
    names = ["accuracy_per_class.png", "confusion.png", "expert_similarity.png"]
    assert [path.name for path in write_figures(results, tmp_path / "snnl")] == names
    results.metrics.expert_similarity_matrix = None
    written = write_figures(results, tmp_path / "icl" / "figures")
    assert [path.name for path in written] == names[:2]
    assert sorted((tmp_path / "icl" / "figures").iterdir()) == written


def test_a_similarity_figure_leaves_out_a_baseline_without_such_a_matrix(results, tmp_path):
    expert_similarity_figure(replace(results, baseline=None), tmp_path / "alone.png")
    results.baseline.metrics.expert_similarity_matrix = None
    expert_similarity_figure(results, tmp_path / "figure.png")
    assert (pixels(tmp_path / "alone.png") == pixels(tmp_path / "figure.png")).all()


def test_pyplot_and_its_global_state_stay_out():
    code = "import sys, tailmoe.training.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
