"""The README's code runs as it stands, but for its paths and its patience."""

import re
from pathlib import Path

from tailmoe.hub_cards.benchmark_table import readme_benchmarks
from tailmoe.hub_cards.pairs_table import readme_pairs
from tailmoe.hub_cards.papers_table import papers_table
from tailmoe.hub_cards.results_table import readme_table
from tailmoe.training.cli import COMMANDS
from tailmoe.training.cli_parser import build_parser

README = Path(__file__).parents[2] / "README.md"


def test_the_fine_tuning_example_trains_and_evaluates(tmp_path, fashion, monkeypatch, capsys):
    for split in ("train", "test"):
        fashion[split].to_parquet(tmp_path / f"{split}.parquet")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (example,) = (block for block in blocks if "LongTailTrainer" in block)
    example = example.replace("path/to/images", str(tmp_path)).replace("num_train_epochs=30", "num_train_epochs=1")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert "eval_balanced_accuracy" in capsys.readouterr().out


def test_the_results_are_those_of_the_files():
    shown = README.read_text().split("<!-- results -->\n")[1].split("\n<!-- /results -->")[0]
    assert shown == readme_table(README.parent / "hub_cards" / "results")
    shown = README.read_text().split("<!-- papers -->\n")[1].split("\n<!-- /papers -->")[0]
    assert shown == papers_table(README.parent / "hub_cards" / "results")
    shown = README.read_text().split("<!-- pairs -->\n")[1].split("\n<!-- /pairs -->")[0]
    assert shown == readme_pairs(README.parent / "hub_cards" / "results")
    shown = README.read_text().split("<!-- benchmark -->\n")[1].split("\n<!-- /benchmark -->")[0]
    assert shown == readme_benchmarks(README.parent / "hub_cards" / "results")


def test_every_command_of_the_readme_exists():
    commands = set(re.findall(r"`tailmoe ([a-z]+)", README.read_text()))
    assert commands == set(COMMANDS) == set(build_parser()._subparsers._group_actions[0].choices)
