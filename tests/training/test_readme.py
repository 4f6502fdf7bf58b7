"""The README's code runs as it stands, but for its paths and its patience."""

import re
from pathlib import Path

from tailmoe.hub_cards.readme import SECTIONS
from tailmoe.training.cli import app

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


def test_the_tables_are_those_of_the_files():
    for name, table in SECTIONS.items():
        shown = README.read_text().split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
        assert shown == table(README.parent / "hub_cards" / "results"), name


def test_every_command_of_the_readme_exists():
    commands = set(re.findall(r"`tailmoe ([a-z]+)", README.read_text()))
    assert commands == {command.callback.__name__ for command in app.registered_commands}
