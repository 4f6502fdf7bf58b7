"""The benchmark of memory: its folders have the layout of the data sets, its record is drawn and shown."""

import pytest
from PIL import Image

from tailmoe.hub_cards.benchmark_table import benchmark_table
from tailmoe.training.benchmark.memory import LAYOUTS, TEST, draw_memory, write_folder
from tailmoe.training.benchmark.record import Benchmark
from tailmoe.training.data import class_counts, load_long_tailed


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_has_a_long_tail_of_all_classes_and_is_read_as_the_recipe_reads_it(layout, tmp_path):
    recipe, _, form, changes = LAYOUTS[layout]
    write_folder(tmp_path, recipe, 10, 300, form)
    splits = load_long_tailed(str(tmp_path), streaming=changes == ["data.streaming=true"])
    counts = class_counts(splits["train"])
    assert (len(counts), sum(counts), len(splits["test"])) == (10, 300, TEST)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 4 * counts[-1] > 0


@pytest.fixture
def measured():
    runs = [
        {
            "layout": layout,
            "classes": 10,
            "images": images,
            "peak_memory_gb": 1 + images / 1e5,
            "worker_memory_gb": 0.4,
        }
        | {"images_per_second": 300.0, "load_seconds": 2.0}
        for layout in LAYOUTS
        for images in (1000, 2000)
    ]
    return {"runs": runs, "bytes_per_image": dict.fromkeys(LAYOUTS, 12345.0)}


def test_the_record_is_drawn_and_shown(measured, tmp_path):
    draw_memory(measured, tmp_path / "memory.png")
    with Image.open(tmp_path / "memory.png") as image:
        assert image.width > 1000
    record = Benchmark(
        device="cpu",
        limits={},
        figures=[],
        memory=measured,
        command="tailmoe benchmark memory",
        commit="0123",
        versions={"torch": "2.13.0"},
        hardware={"cpu": "Some CPU", "cores": 2, "accelerator": None},
        date="2026-11-24",
    )
    table = benchmark_table(record)
    assert "imagenet-lt, files" in table
    assert "12,345" in table
