"""Our results beside the papers': only studies of recipes as they ship, and no row for what nobody measured."""

from dataclasses import replace

import pytest
import yaml

from tailmoe.hub_cards.papers_table import PUBLISHED, SETTINGS, papers_table
from tailmoe.training.recipes.shipped import shipped_recipe


def rows(folder):
    lines = papers_table(folder).split("\n\n")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: dict(zip(table[0][1:], row[1:], strict=True)) for row in table[2:]}


@pytest.fixture
def write_study(study, tmp_path):
    def write(name, **changes):
        recipe = {**study.recipe, **shipped_recipe(name), **changes}
        replace(study, recipe=recipe).save(tmp_path / f"{name}.json")

    return write


def test_papers_are_shown_as_they_state_and_what_is_not_measured_as_a_dash(tmp_path):
    table = rows(tmp_path)
    for entry in yaml.safe_load(PUBLISHED.read_text()):
        name = f"{entry['method']} ({entry['source']})" if "source" in entry else entry["method"]
        row = table[name]
        for setting, title in SETTINGS.items():
            stated = entry["accuracy"].get(setting)
            assert row[title] == ("—" if stated is None else f"{stated:.1f}")
    assert not any(name.startswith("tailmoe: ") for name in table)


def test_a_study_of_the_recipe_as_it_ships_is_shown_and_one_with_a_shorter_schedule_is_not(tmp_path, write_study):
    write_study("icl-cifar100-lt-100")
    assert rows(tmp_path)["tailmoe: icl"]["CIFAR-100, 100"] == "72.24 ± 1.96"
    shorter = shipped_recipe("icl-cifar100-lt-100")["training"] | {"num_train_epochs": 20}
    write_study("icl-cifar100-lt-100", training=shorter)
    assert "tailmoe: icl" not in rows(tmp_path)


def test_the_record_recipe_has_a_row_of_its_own(tmp_path, write_study):
    write_study("icl-cifar100-lt-100-best")
    row = rows(tmp_path)["tailmoe: icl, best"]
    assert row.pop("CIFAR-100, 100") == "72.24 ± 1.96"
    assert set(row.values()) == {"—"}
