"""Shot groups: the field's bounds, bounds of one's own, and thirds where no class is large; told wherever they are shown."""

from dataclasses import asdict

import numpy as np
import pytest
from made_up import made_up_run, made_up_study

from tailmoe.hub_cards.callback import CardCallback
from tailmoe.hub_cards.model_card import render_model_card
from tailmoe.hub_cards.results_table import readme_table, results_table
from tailmoe.training.cli.terminal import metrics_lines
from tailmoe.training.data.shot_groups import ShotBounds
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation import evaluate as evaluation
from tailmoe.training.evaluation.metrics import classification_metrics, shot_groups
from tailmoe.training.figures.results import accuracy_per_class_figure
from tailmoe.training.results.results import RunResults

SMALL = [40, 40, 12, 11, 10, 9, 3, 2, 2]


def test_shot_groups_are_above_100_from_100_to_20_and_below_20():
    assert shot_groups([500, 101, 100, 20, 19]) == {"many": [0, 1], "medium": [2, 3], "few": [4]}


@pytest.mark.parametrize(
    ("counts", "many", "few"),
    [
        (SMALL, 3, 3),
        (range(1, 101), 33, 33),
        (range(1, 9), 3, 3),
        ([2] * 5 + [5, 9, 10, 12], 3, 5),
        ([100] * 5 + [9] * 2, 0, 2),
        ([7] * 6, 0, 0),
        ([5], 0, 0),
    ],
)
def test_without_a_class_of_more_than_100_images_the_groups_are_thirds_of_the_classes(counts, many, few):
    groups = shot_groups(counts)
    assert (len(groups["many"]), len(groups["few"])) == (many, few)
    assert sum(map(len, groups.values())) == len(counts)
    bounds = ShotBounds.of(counts)
    assert bounds.terciles
    assert bounds.few_below <= bounds.many_above
    of_size = {}
    for group, members in groups.items():
        for c in members:
            assert of_size.setdefault(counts[c], group) == group, "classes of one size are in two groups"


def test_bounds_that_are_given_hold_for_small_classes_too():
    assert ShotBounds.of(SMALL, many_above=30) == ShotBounds(30, 20)
    assert ShotBounds.of(SMALL, few_below=5) == ShotBounds(100, 5)
    groups = shot_groups(SMALL, ShotBounds.of(SMALL, 30, 5))
    assert groups == {"many": [0, 1], "medium": [2, 3, 4, 5], "few": [6, 7, 8]}


@pytest.mark.parametrize(
    ("many_above", "few_below", "message"),
    [
        (0, None, "`many_above` must be a whole number of training images above 0, got 0"),
        (None, 2.5, "`few_below` must be a whole number of training images above 0, got 2.5"),
        (10, None, r"`few_below` must be at most `many_above` \+ 1, got 20 and 10"),
    ],
)
def test_bounds_without_meaning_are_told(many_above, few_below, message):
    with pytest.raises(BadInputError, match=message):
        ShotBounds.of(SMALL, many_above, few_below)


def test_card_table_and_figure_tell_the_bounds_of_the_results(tmp_path):
    usual, new = made_up_run(), made_up_run()
    new.dataset.shot_bounds = ShotBounds(37, 12, terciles=True)
    before, after = (str(render_model_card(each)) for each in (usual, new))
    assert (
        "mean over the classes with more than 100, with 20 to 100 and with fewer than 20 training images.\n" in before
    )
    thirds = "with more than 37, with 12 to 37 and with fewer than 12 training images: thirds of the classes, none of"
    assert f"mean over the classes {thirds} which has more than 100." in after
    assert "| more than 37" in after
    assert "more than 100," not in after
    assert f"Many, medium and few: classes {thirds}" in results_table(new)
    images = []
    for number, each in enumerate((usual, new)):
        accuracy_per_class_figure(each, tmp_path / f"{number}.png")
        images.append((tmp_path / f"{number}.png").read_bytes())
    assert images[0] != images[1]
    made_up_study(new).save(tmp_path / "new.json")
    assert f"fewer than 20 training images ({new.name}: {thirds} which has more than 100). Width" in readme_table(
        tmp_path
    )


def test_the_terminal_names_the_bounds():
    metrics = classification_metrics(5 * np.eye(3), [0, 2, 2], [200, 50, 10])
    usual, new = (
        metrics_lines(metrics | {"shot_bounds": asdict(bounds)})
        for bounds in (ShotBounds(), ShotBounds(37, 12, terciles=True))
    )
    assert "accuracy                              66.7 %" in usual
    assert "many-shot (> 100 training images)    100.0 %" in usual
    assert "medium-shot (12 to 37)                     —" in new


def test_bounds_of_the_arguments_are_in_the_record_and_hold_for_a_later_evaluation(make_trainer, icl, tmp_path):
    trainer = make_trainer(*icl, many_above=30, few_below=6)
    assert evaluation.shot_bounds_of(str(tmp_path), SMALL).terciles
    CardCallback(trainer).write_card()
    folder = trainer.args.output_dir
    assert RunResults.load(f"{folder}/results.json").dataset.shot_bounds == ShotBounds(30, 6)
    assert evaluation.shot_bounds_of(folder, SMALL) == ShotBounds(30, 6)
