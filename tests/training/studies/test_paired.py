"""Two arms with the same seeds: tests, effect sizes, their correction, and what the command writes."""

import copy
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from made_up import made_up_metrics, made_up_run, made_up_study
from scipy import stats

from tailmoe.hub_cards.pairs_table import NO_PAIRS, pairs_table, readme_pairs
from tailmoe.training import cli
from tailmoe.training.errors import BadInputError
from tailmoe.training.figures.pairs import seeds_figure, similarity_figure
from tailmoe.training.studies.paired import compare, holm, load_pairs, paired_test, rank_biserial


def run_of(seed, accuracy, title, entropy, baseline=None):
    metrics = made_up_metrics(
        accuracy,
        expert_specialization_entropy=entropy + accuracy / 10,
        gate_load_balance=0.9,
        pairwise_embedding_similarity=0.1,
        expert_similarity_matrix=[[1.0, 0.1], [0.1, 1.0]],
    )
    return made_up_run(title, "snnl-mnist", seed=seed, metrics=metrics, baseline=baseline)


@pytest.fixture
def pair():
    """A study of ten seeds in which the model is better with each seed."""
    runs = []
    for seed in range(10):
        baseline = run_of(seed, 0.90 + 0.001 * seed, "mixture", 0.4)
        accuracy = baseline.metrics.accuracy + 0.002 + 0.0003 * seed
        runs.append(run_of(seed, accuracy, "SNNL-MoE", 0.5, baseline))
    return made_up_study(*runs)


def test_the_smallest_p_value_of_ten_seeds_is_that_of_all_signs_equal(pair):
    test = compare([pair])[0]["accuracy"]
    assert test["p_value"] == pytest.approx(2 / 2**10)
    assert test["effect_size"] == 1
    assert test["effect_size_interval"] == [1, 1]
    assert test["difference"] == pytest.approx(0.00335)
    low, high = test["difference_interval"]
    assert 0.002 < low < 0.00335 < high < 0.0047


def test_the_p_value_is_the_share_of_all_signs_with_a_rank_sum_as_far_out():
    differences = np.array([0.5, -0.1, 0.3, 0.7, -0.2, 0.4])
    ranks = stats.rankdata(abs(differences))
    sums = np.array([ranks @ np.array(signs) for signs in itertools.product((-1, 1), repeat=6)])
    expected = (abs(sums) >= abs(ranks @ np.sign(differences))).mean()
    assert paired_test(differences, np.zeros(6))["p_value"] == pytest.approx(expected)
    assert rank_biserial(differences) == pytest.approx((ranks @ np.sign(differences)) / ranks.sum())


def test_arms_turned_round_turn_the_signs_round(pair):
    model, baseline = (side.values("accuracy") for side in (pair, pair.baseline))
    there, back = paired_test(model, baseline), paired_test(baseline, model)
    assert back["p_value"] == there["p_value"]
    assert back["effect_size"] == -there["effect_size"]
    assert back["difference_interval"] == pytest.approx(
        [-bound for bound in there["difference_interval"][::-1]], abs=1e-4
    )


def test_equal_arms_and_a_single_seed_prove_nothing():
    assert paired_test([0.5, 0.6], [0.5, 0.6]) == {
        "p_value": 1.0,
        "difference": 0.0,
        "difference_interval": [0.0, 0.0],
        "effect_size": 0.0,
        "effect_size_interval": [0.0, 0.0],
    }
    single = paired_test([0.6], [0.5])
    assert (single["p_value"], single["difference_interval"]) == (1.0, None)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]


def test_data_sets_are_corrected_for_those_of_the_same_imbalance_factor(pair):
    other, long_tailed = copy.deepcopy(pair), copy.deepcopy(pair)
    long_tailed.recipe["data"]["imbalance_factor"] = 100
    tests = [test["accuracy"] for test in compare([pair, other, long_tailed])]
    assert [test["corrected_p_value"] for test in tests] == pytest.approx([4 / 2**10, 4 / 2**10, 2 / 2**10])


def test_the_command_prints_every_pair_and_draws_both_figures(pair, tmp_path, capsys):
    pair.save(tmp_path / "study" / "study.json")
    words = [
        "compare",
        str(tmp_path / "study"),
        "--output-dir",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "c.json"),
    ]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"90\.45 ± 0\.30 +90\.7[89] ± 0\.\d\d +\+0\.3[34] \(\+0\.\d\d to \+0\.\d\d\) +\+1\.00 \(\+1\.00 to \+1\.00\)",
        out,
    )
    assert re.search(r"0\.490 → 0\.591 \(0\.00\d+\)", out)
    assert json.loads((tmp_path / "c.json").read_text())[0]["accuracy"]["effect_size"] == 1
    for name in ("seeds.png", "expert_similarity.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000


@pytest.mark.parametrize("draw", [seeds_figure, similarity_figure])
def test_other_numbers_give_another_picture(pair, draw, tmp_path):
    draw([pair], tmp_path / "first.png")
    changed = copy.deepcopy(pair)
    metrics = changed.runs[0].metrics
    metrics.accuracy, metrics.expert_similarity_matrix = 0.5, [[1.0, -0.9], [-0.9, 1.0]]
    draw([changed], tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() != (tmp_path / "second.png").read_bytes()


def test_the_readme_has_the_recipes_of_the_grid_alone(pair, tmp_path):
    (tmp_path / "snnl-quickstart.json").write_text("{}")
    assert readme_pairs(tmp_path) == NO_PAIRS
    pair.save(tmp_path / "snnl-mnist.json")
    assert pairs_table([pair], markdown=True) in readme_pairs(tmp_path)


def test_what_is_no_study_of_two_arms_is_told(pair, tmp_path):
    path = tmp_path / "study.json"
    with pytest.raises(BadInputError, match=r"study.json` cannot be read as a study: No such file"):
        load_pairs([tmp_path])
    replace(pair, baseline=None).save(path)
    with pytest.raises(BadInputError, match="has no baseline to compare with"):
        load_pairs([path])
    replace(pair, baseline=replace(pair.baseline, seeds=[0])).save(path)
    with pytest.raises(BadInputError, match="the arms have different seeds"):
        load_pairs([path])
