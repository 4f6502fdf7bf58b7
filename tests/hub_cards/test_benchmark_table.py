"""The benchmark's table: for the terminal and for the README."""

from dataclasses import replace

import pytest

from tailmoe.hub_cards.benchmark_table import NO_BENCHMARK, benchmark_table, readme_benchmarks
from tailmoe.training.errors import BadInputError


def test_a_row_shows_rates_ratio_share_of_the_limit_and_what_is_wanted(benchmark_record):
    lines = benchmark_table(benchmark_record).splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert cells[0] == ["part", "unit", "tailmoe", "naive baseline", "ratio", "of limit", "wanted"]
    assert cells[2] == ["data: crop", "images/s", "12,346", "1,000", "12.35 (12.00 to 12.50)", "—", "10x"]
    assert cells[3] == ["train: step", "images/s", "95", "—", "—", "95 %", "—"]
    assert (
        lines[-1]
        == "Some CPU, 2 cores; torch 2.13.0; float32 matrix product 180 GFLOP/s; 2026-11-23, commit 0123456789ab."
    )


def test_a_benchmark_of_an_accelerator_names_it_and_one_without_figures_its_limits(benchmark_record):
    record = replace(benchmark_record, device="cuda", figures=[])
    assert benchmark_table(record).startswith("Some GPU; torch 2.13.0; float32 matrix product 180 GFLOP/s")


def test_the_readme_has_a_table_for_each_file_and_says_if_there_is_none(benchmark_record, tmp_path):
    assert readme_benchmarks(tmp_path) == NO_BENCHMARK
    for name in ("cpu", "cuda"):
        benchmark_record.save(tmp_path / "benchmarks" / f"{name}.json")
    assert readme_benchmarks(tmp_path).count("| part ") == 2


def test_a_file_that_is_no_benchmark_is_named(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "broken.json").write_text("[]")
    with pytest.raises(BadInputError, match=r"broken.json` cannot be read as a benchmark: it holds list"):
        readme_benchmarks(tmp_path)
