"""The README's code runs as it stands, but for its paths and its patience."""

import re
from pathlib import Path

import pytest

from tailmoe.hub_cards.readme import PAGES, rendered
from tailmoe.training.cli import app

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"


def test_the_fine_tuning_example_trains_and_evaluates(tmp_path, fashion, monkeypatch, capsys):
    for split in ("train", "test"):
        fashion[split].to_parquet(tmp_path / f"{split}.parquet")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (example,) = (block for block in blocks if "LongTailTrainer" in block)
    example = example.replace("path/to/images", str(tmp_path)).replace("num_train_epochs=30", "num_train_epochs=1")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert "eval_balanced_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_those_of_the_files(page):
    assert rendered(ROOT, page) == (ROOT / page).read_text()


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_every_command_of_the_pages_exists_and_is_told():
    commands = set(re.findall(r"`tailmoe ([a-z]+)", (ROOT / "training" / "README.md").read_text()))
    assert commands == {command.callback.__name__ for command in app.registered_commands}


@pytest.mark.parametrize("page", [*PAGES, "training/README.md", "spaces/README.md", "CONTRIBUTING.md"])
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target
