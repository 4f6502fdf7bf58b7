"""The README's tables: between their markers, from the files."""

import shutil
import subprocess
import sys

import pytest

from tailmoe.hub_cards.readme import PAGES, main, update_pages
from tailmoe.training.errors import BadInputError
from tailmoe.training.results.ablation import Ablation, ArmResults, Change


def page_of(names):
    sections = "\n\n".join(f"<!-- {name} -->\nold\n<!-- /{name} -->" for name in names)
    return f"# Title\n\n{sections}\n\nThe end.\n"


@pytest.fixture
def project(study, results, benchmark_record, tmp_path):
    """The pages with markers, and one study, one benchmark and one model."""
    for page, sections in PAGES.items():
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(page_of(sections))
    results.save(tmp_path / "hub_cards" / "models" / "mine" / "results.json")
    study.save(tmp_path / "hub_cards" / "results" / "quickstart.json")
    benchmark_record.save(tmp_path / "hub_cards" / "results" / "benchmarks" / "cpu.json")
    return tmp_path


def test_each_page_gets_its_tables_between_its_markers(project):
    update_pages(project)
    texts = {page: (project / page).read_text() for page in PAGES}
    assert texts["README.md"].startswith("# Title\n\n<!-- models -->\n| model ")
    assert texts["training/benchmark/README.md"].startswith("# Title\n\n<!-- benchmark -->\n| part ")
    for text in texts.values():
        assert text.endswith(" -->\n\nThe end.\n")
        assert "old" not in text
    text = texts["hub_cards/results/README.md"]
    assert "\n<!-- /papers -->\n\n<!-- results -->\n| model" in text
    assert "\n<!-- /results -->\n\n<!-- pairs -->\nNo pair" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "quickstart |" in line]
    assert [row[0] for row in rows] == ["cross-entropy", "ICL-MoE"]
    assert rows[1][1:8] == ["quickstart", "fashion_mnist_lt", "125", "200", "3", "16-32-64", "312,345"]
    assert rows[1][8] == "72.24 ± 1.96"
    assert [row[-1] for row in rows] == ["—", "51"]
    assert rows[1][-3] == "—"
    update_pages(project)
    assert {page: (project / page).read_text() for page in PAGES} == texts


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        page_of(["models", "models"]),
        "<!-- /models -->\n<!-- models -->",
        "<!-- models -->",
    ],
)
def test_wrong_markers_of_one_page_leave_all_as_they_are(project, text):
    (project / "hub_cards" / "README.md").write_text(text)
    with pytest.raises(BadInputError, match="each once"):
        update_pages(project)
    assert (project / "hub_cards" / "README.md").read_text() == text
    assert "old" in (project / "README.md").read_text()


def test_each_model_has_a_row_with_a_link_and_the_accuracy_of_its_weights(project, results):
    update_pages(project)
    (line,) = [line for line in (project / "README.md").read_text().splitlines() if "/models/" in line and "|" in line]
    row = [cell.strip() for cell in line.split("|")[1:-1]]
    assert row[:5] == ["[mine](hub_cards/models/mine)", "ICL-MoE", "fashion_mnist_lt", "125", "200"]
    assert row[5:7] == ["312,345", f"{100 * results.metrics.accuracy:.1f}"]
    (project / "hub_cards" / "models" / "mine" / "results.json").write_text("{}")
    with pytest.raises(
        BadInputError, match=r"mine/results.json` cannot be read as the results of a run: it has no version"
    ):
        update_pages(project)
    shutil.rmtree(project / "hub_cards" / "models")
    update_pages(project)
    assert "<!-- models -->\nNo model has been published yet.\n" in (project / "README.md").read_text()


def test_a_missing_page_is_named(project):
    (project / "hub_cards" / "README.md").unlink()
    with pytest.raises(BadInputError, match=r"hub_cards/README\.md` cannot be read"):
        update_pages(project)


def test_the_page_of_the_results_has_the_table_and_the_figure_of_each_ablation(project, study):
    results = project / "hub_cards" / "results"
    page, ablations = results / "README.md", results / "ablations"
    main([str(project)])
    assert "<!-- ablations -->\nNo ablation has been measured yet.\n<!-- /ablations -->\n" in page.read_text()
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
    main([str(project)])
    text = page.read_text()
    assert "### icl\n\n`tailmoe ablation quickstart without`\n\n| change " in text
    assert "| without: competition |" in text
    assert "seed 0. Difference" in text
    assert "![accuracy of each change](ablations/icl.png)" in text
    (ablations / "icl.json").write_text("{}")
    with pytest.raises(
        BadInputError, match=r"icl.json` cannot be read as an ablation: it has no version.*`tailmoe ablation` writes"
    ):
        update_pages(project)


def test_the_command_writes_the_table_and_answers_errors_with_status_2(project, capsys):
    main([str(project)])
    assert "| ICL-MoE" in (project / "README.md").read_text()
    with pytest.raises(SystemExit) as stopped:
        main([str(project / "nowhere")])
    assert stopped.value.code == 2
    assert "`README.md` cannot be read" in capsys.readouterr().err


def test_the_module_runs(project):
    command = [sys.executable, "-m", "tailmoe.hub_cards.readme", "."]
    assert subprocess.run(command, cwd=project, check=False).returncode == 0
    assert "| ICL-MoE" in (project / "README.md").read_text()
