"""Who imports whom, and what waits until it is needed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# transformers loads jinja2 itself
TRAINER = """
import sys
from tailmoe.training import ICLObjective, LongTailTrainer, LongTailTrainingArguments, SNNLObjective
print(*sorted({"matplotlib", "sklearn", "evaluate", "tailmoe.hub_cards"} & set(sys.modules)))
"""
TABLES = """
import sys
import tailmoe.hub_cards.readme
print(*sorted({"matplotlib", "torch", "transformers"} & set(sys.modules)))
"""


def test_imports_go_one_way_and_make_no_circle():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def loaded(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_the_trainer_is_imported_without_what_only_figures_and_cards_need():
    assert loaded(TRAINER) == []


def test_tables_of_results_are_rendered_without_torch():
    assert loaded(TABLES) == []
