"""The README's tables: between their markers, from the files."""

import shutil
import subprocess
import sys

import pytest

from tailmoe.hub_cards.readme import SECTIONS_OF_RESULTS, main, update_readme
from tailmoe.training.ablation_record import Ablation, ArmResults, Change
from tailmoe.training.errors import BadInputError

SECTIONS = "\n\n".join(
    f"<!-- {name} -->\nold\n<!-- /{name} -->" for name in ("models", "results", "papers", "pairs", "benchmark")
)
README = f"# Title\n\n{SECTIONS}\n\nThe end.\n"


@pytest.fixture
def folder(study, results, benchmark_record, tmp_path):
    """A README with markers, a folder of one study and one benchmark, and beside it one of one model."""
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "results").mkdir()
    results.save(tmp_path / "models" / "mine" / "results.json")
    (tmp_path / "results" / "README.md").write_text("<!-- ablations -->\n<!-- /ablations -->\n")
    study.save(tmp_path / "results" / "quickstart.json")
    benchmark_record.save(tmp_path / "results" / "benchmarks" / "cpu.json")
    return tmp_path


def test_the_readme_gets_the_table_between_its_markers(folder):
    update_readme(folder / "README.md", folder / "results")
    text = (folder / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- models -->\n| model ")
    assert text.endswith("\n<!-- /benchmark -->\n\nThe end.\n")
    assert "\n<!-- /models -->\n\n<!-- results -->\n| model" in text
    assert "\n<!-- /results -->\n\n<!-- papers -->\n| method" in text
    assert "\n<!-- /papers -->\n\n<!-- pairs -->\nNo pair" in text
    assert "\n<!-- /pairs -->\n\n<!-- benchmark -->\n| part" in text
    assert "old" not in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "± " in line][:2]
    assert [row[0] for row in rows] == ["cross-entropy", "ICL-MoE"]
    assert rows[1][1:8] == ["quickstart", "fashion_mnist_lt", "125", "200", "3", "16-32-64", "312,345"]
    assert rows[1][8] == "72.24 ± 1.96"
    assert [row[-1] for row in rows] == ["—", "51"]
    assert rows[1][-3] == "—"
    update_readme(folder / "README.md", folder / "results")
    assert (folder / "README.md").read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        README + README,
        "<!-- /results -->\n<!-- results -->",
        "<!-- results -->",
        README.split("<!-- bench")[0],
    ],
)
def test_wrong_markers_leave_the_readme_as_it_is(folder, text):
    (folder / "README.md").write_text(text)
    with pytest.raises(BadInputError, match="each once"):
        update_readme(folder / "README.md", folder / "results")
    assert (folder / "README.md").read_text() == text


def test_each_model_has_a_row_with_a_link_and_the_accuracy_of_its_weights(folder, results):
    update_readme(folder / "README.md", folder / "results")
    (line,) = [line for line in (folder / "README.md").read_text().splitlines() if "/models/" in line and "|" in line]
    row = [cell.strip() for cell in line.split("|")[1:-1]]
    assert row[:5] == ["[mine](hub_cards/models/mine)", "ICL-MoE", "fashion_mnist_lt", "125", "200"]
    assert row[5:7] == ["312,345", f"{100 * results.metrics.accuracy:.1f}"]
    (folder / "models" / "mine" / "results.json").write_text("{}")
    with pytest.raises(
        BadInputError, match=r"mine/results.json` cannot be read as the results of a run: it has no version"
    ):
        update_readme(folder / "README.md", folder / "results")
    shutil.rmtree(folder / "models")
    update_readme(folder / "README.md", folder / "results")
    assert "<!-- models -->\nNo model has been published yet.\n" in (folder / "README.md").read_text()


def test_a_missing_readme_is_named(folder):
    with pytest.raises(BadInputError, match=r"OTHER\.md"):
        update_readme(folder / "OTHER.md", folder / "results")


def test_the_page_of_the_results_has_the_table_and_the_figure_of_each_ablation(folder, study):
    page, ablations = folder / "results" / "README.md", folder / "results" / "ablations"
    main([str(folder / "README.md"), str(folder / "results")])
    assert page.read_text() == "<!-- ablations -->\nNo ablation has been measured yet.\n<!-- /ablations -->\n"
    arm, names = ArmResults.of(study), ((None, "as it is"), ("without", "competition"))
    record = Ablation(
        recipe="quickstart",
        dataset=study.dataset,
        seeds=[0],
        changes=[Change(group, name, [], arm, None) for group, name in names],
        command="tailmoe ablation quickstart without",
        commit="abc123",
        versions=study.versions,
        hardware=study.hardware,
        date="2026-11-23",
    )
    record.save(ablations / "icl.json")
    (ablations / "icl.png").touch()
    main([str(folder / "README.md"), str(folder / "results")])
    text = page.read_text()
    assert "### icl\n\n`tailmoe ablation quickstart without`\n\n| change " in text
    assert "| without: competition |" in text
    assert "seed 0. Difference" in text
    assert "![accuracy of each change](ablations/icl.png)" in text
    (ablations / "icl.json").write_text("{}")
    with pytest.raises(
        BadInputError, match=r"icl.json` cannot be read as an ablation: it has no version.*`tailmoe ablation` writes"
    ):
        update_readme(page, folder / "results", SECTIONS_OF_RESULTS)


def test_the_command_writes_the_table_and_answers_errors_with_status_2(folder, capsys):
    main([str(folder / "README.md"), str(folder / "results")])
    assert "| ICL-MoE" in (folder / "README.md").read_text()
    with pytest.raises(SystemExit) as stopped:
        main([str(folder / "README.md"), str(folder / "nowhere")])
    assert stopped.value.code == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_module_runs(folder):
    command = [sys.executable, "-m", "tailmoe.hub_cards.readme", "README.md", "results"]
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0
    assert "| ICL-MoE" in (folder / "README.md").read_text()
