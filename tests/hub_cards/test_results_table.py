"""Tables: of a run, of a study, of all studies."""

import pytest

from tailmoe.hub_cards.results_table import NO_STUDY, format_table, readme_table, results_table
from tailmoe.training.errors import BadInputError
from tailmoe.training.results.results import StudyResults


@pytest.fixture
def folder(study, tmp_path):
    """A folder with the results of one study."""
    study.save(tmp_path / "results" / "quickstart.json")
    return tmp_path


def test_columns_line_up_and_markdown_escapes_bars():
    rows = [{"name": "a|b", "value": "1"}, {"name": "c", "value": "22.5"}]
    assert format_table(rows) == "name  value\n----  -----\na|b       1\nc      22.5"
    markdown = format_table(rows, markdown=True).splitlines()
    assert markdown == ["| name | value |", "| ---- | ----: |", "| a\\|b |     1 |", "| c    |  22.5 |"]


def test_a_run_stands_below_its_baseline_with_width_and_parameters(results):
    lines = results_table(results).splitlines()
    cells = [" ".join(line.split()) for line in lines]
    assert cells[0] == "model width parameters overall balanced many medium few seconds"
    assert cells[2] == "cross-entropy 16-32-64 98,765 62.3 62.5 80.6 66.7 39.9 33"
    assert cells[3] == "ICL-MoE 16-32-64 312,345 71.2 71.4 89.5 75.6 48.8 51"
    assert lines[-1] == "Accuracy in % on 300 test images of fashion_mnist_lt; seed 4."


def test_images_that_were_held_out_for_choices_are_called_validation_images(results):
    results.recipe["data"]["validation_per_class"] = 50
    assert "on 300 validation images of" in results_table(results)


def test_a_run_without_baseline_has_one_row_and_dashes_for_what_is_missing(results):
    results.metrics.few_accuracy = results.train_seconds = results.baseline = None
    lines = results_table(results).splitlines()
    assert len(lines) == 5
    assert lines[2].split()[-2:] == ["—", "—"]


def test_a_study_shows_mean_and_deviation(study):
    lines = results_table(study).splitlines()
    assert "62.34 ± 0.00" in lines[2]
    assert "72.24 ± 1.96" in lines[3]
    assert lines[-1].endswith("mean ± standard deviation; seeds 3, 4, 5.")


def test_a_study_of_one_seed_shows_no_deviation(results):
    table = results_table(StudyResults.of([results], "tailmoe study"))
    assert "±" not in table
    assert table == results_table(results)


def test_the_width_of_a_baseline_is_its_own(results):
    results.baseline.config["hidden_sizes"] = [64, 128, 256]
    lines = results_table(results).splitlines()
    assert "64-128-256" in lines[2]
    assert "16-32-64" in lines[3]


def test_a_folder_without_studies_says_so(folder):
    (folder / "results" / "quickstart.json").unlink()
    assert readme_table(folder / "results") == NO_STUDY


def test_a_file_that_is_no_study_is_named(folder):
    (folder / "results" / "broken.json").write_text("{")
    with pytest.raises(BadInputError, match=r"broken.json` cannot be read as a study: it is not JSON"):
        readme_table(folder / "results")


def test_a_missing_folder_is_named(folder):
    with pytest.raises(BadInputError, match="nowhere"):
        readme_table(folder / "nowhere")


def test_a_narrow_column_has_a_rule_that_markdown_knows():
    assert format_table([{"method": "a", "p": "1"}], markdown=True).splitlines()[1] == "| ------ | -: |"
