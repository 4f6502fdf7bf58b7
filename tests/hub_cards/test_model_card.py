"""Cards: valid for the Hub, complete, and with no number that is not in the results."""

import copy
import re
from dataclasses import asdict, replace

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from tailmoe.hub_cards.model_card import render_model_card, write_card
from tailmoe.training.errors import BadInputError

FEW = "few-shot ones"


def table_after(card, heading):
    """The first Markdown table after `heading`: a list of dicts."""
    lines = card.text[card.text.index(heading) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def scalars(value):
    """All numbers in nested results."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in scalars(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_metadata_survives_a_round_trip(results, tmp_path):
    render_model_card(results, "someone/icl-quickstart").save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert isinstance(data, ModelCardData)
    assert (data.license, data.library_name) == ("apache-2.0", "transformers")
    assert data.pipeline_tag == "image-classification"
    assert data.datasets == ["zalando-datasets/fashion_mnist"]
    assert {"long-tailed", "mixture-of-experts", "icl_moe"} <= set(data.tags)
    assert data.model_name == "icl-quickstart"
    assert yaml.safe_load(data.to_yaml())["model-index"][0]["name"] == "icl-quickstart"


def test_the_model_index_has_every_scalar_metric_and_no_other(snnl_results):
    for metric in ("many_accuracy", "few_accuracy"):
        setattr(snnl_results.metrics, metric, None)
    card = render_model_card(snnl_results)
    indexed = {entry.metric_type: entry.metric_value for entry in card.data.eval_results}
    assert indexed == {name: value for name, value in vars(snnl_results.metrics).items() if isinstance(value, float)}


def test_the_results_table_shows_the_values_of_both_runs(results):
    rows = table_after(render_model_card(results), "## Results")
    assert [row["model"] for row in rows] == ["cross-entropy", "ICL-MoE"]
    for row, run in zip(rows, (results.baseline, results), strict=True):
        metrics = vars(run.metrics)
        for title, name in (("overall", "accuracy"), ("balanced", "balanced_accuracy"), ("ECE", "ece")):
            assert row[title] == f"{100 * metrics[name]:.1f}"
        for group in ("many", "medium", "few"):
            assert row[group] == f"{100 * metrics[f'{group}_accuracy']:.1f}"
        assert row["parameters"] == f"{run.num_parameters:,}"
        assert row["width"] == "16-32-64"
        assert (row["seconds"], row["seed"]) == (f"{run.train_seconds:.0f}", "4")
    assert [row["each expert"] for row in rows] == ["—", "69.7 / 68.6"]


def test_what_was_not_measured_is_a_dash(results):
    results.metrics.few_accuracy = results.metrics.per_class_accuracy[2] = results.train_seconds = None
    card = render_model_card(results)
    row = table_after(card, "## Results")[1]
    assert (row["few"], row["seconds"]) == ("—", "—")
    assert table_after(card, "Every class")[2]["accuracy"] == "—"
    assert FEW not in card.text
    assert "Training time: not measured" in card.text
    assert "lowest accuracy is T-shirt|top: 75.6 %" in card.text


def test_every_number_with_a_decimal_comes_from_the_results(snnl_results):
    card = render_model_card(snnl_results)
    values = scalars(asdict(snnl_results))
    known = {form % (scale * value) for value in values for form, scale in (("%.1f", 100), ("%.3f", 1), ("%.1f", 1))}
    text = re.sub(r"2603\.26734|learning_rate=0\.01", "", card.text)
    for version in snnl_results.versions.values():
        text = text.replace(version, "")
    found = re.findall(r"-?\d+\.\d+", text)
    assert len(found) > 20
    assert set(found) <= known


def test_a_changed_metric_changes_the_card_and_an_extra_one_does_not_appear(results):
    before = render_model_card(results).text
    changed = copy.deepcopy(results)
    changed.metrics.few_accuracy = 0.0777
    assert "7.8" not in before
    assert render_model_card(changed).text.count("7.8") == 2
    assert "specialization" not in before


def test_expert_metrics_are_shown_with_their_formulas(snnl_results):
    card = render_model_card(snnl_results)
    rows = table_after(card, "ECE: expected")
    assert [row["model"] for row in rows] == ["cross-entropy", "ICL-MoE"]
    assert rows[1]["expert specialization entropy"] == "0.556"
    assert rows[1]["gate load balance"] == "0.817"
    assert rows[1]["pairwise embedding similarity"] == "-0.138"
    assert "divided by log K" in card.text
    assert "SNNLMoEForImageClassification" in card.text
    assert "2603.26734" in card.text
    assert "arxiv:2603.26734" in card.data.tags


def test_a_plain_network_is_called_a_baseline_and_no_mixture(results):
    card = render_model_card(results.baseline)
    assert "baseline and no mixture of experts" in card.text
    assert "trained by cross-entropy" in card.text
    assert "mixture-of-experts" not in card.data.tags
    assert "baseline" in card.data.tags


def test_each_kind_of_model_is_described_as_what_it_is(results, snnl_results):
    assert "2 experts that share their first layers" in render_model_card(results).text
    alone = {"competition": "none", "collaboration_weight": 0, "diversity_weight": 0, "contrast_weight": 0}
    for objective in (None, {"type": "icl", **alone}):
        results.recipe["objective"] = objective
        text = render_model_card(results).text
        assert "by cross-entropy, its second heads by Balanced Softmax, without independent" in text
    results.recipe["objective"] = {"type": "balanced_softmax"}
    assert "Each expert was trained by Balanced Softmax (Ren et al." in render_model_card(results).text
    assert "trained with the soft nearest neighbour loss" in render_model_card(snnl_results).text
    assert "trained without the soft nearest neighbour loss" in render_model_card(snnl_results.baseline).text


def test_the_examples_load_from_the_hub_or_from_the_folder(results, snnl_results):
    for content, code in ((results, "ICL"), (results.baseline, "ICL"), (snnl_results, "SNNL")):
        for repo_id, name in (("someone/model", "someone/model"), (None, ".")):
            examples = python_blocks(render_model_card(content, repo_id))
            assert len(examples) == 3
            for example in examples:
                compile(example, "card", "exec")
                assert f'"{name}"' in example
            assert f"{code}MoEForImageClassification.from_pretrained" in examples[2]
            assert ("objective=" in examples[2]) == (content is not results.baseline)


def python_blocks(card):
    return re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)


def test_a_run_is_reproduced_by_one_command_and_both_papers_can_be_cited(results, snnl_results):
    for content in (results, results.baseline, snnl_results):
        card = render_model_card(content)
        assert "tailmoe train recipe.yaml --seed 4 --output-dir reproduced" in card.text
        assert "chen2025icl" in card.text
        assert "agarap2026snnl" in card.text


@pytest.fixture
def trainer_results(results):
    """Results as `LongTailTrainer` writes them, of a model of transformers, without evaluation images."""
    recipe = {key: results.recipe[key] for key in ("model", "data", "training")} | {"objective": None}
    changes = {"title": "ResNet", "description": None, "model_type": "resnet", "config": {}, "baseline": None}
    changes |= {"metrics": None, "license": None, "tags": ["mine"], "base_model": "microsoft/resnet-18"}
    return replace(results, recipe=recipe, **changes)


def test_a_model_of_transformers_without_evaluation_images_gets_a_card_too(trainer_results):
    card = render_model_card(trainer_results, "someone/resnet")
    assert "This ResNet puts images into 3 classes" in card.text
    assert "Not measured: no evaluation images" in card.text
    assert "recipe.yaml" not in card.text
    assert "trust_remote_code" not in card.text
    assert (card.data.license, card.data.base_model, card.data.eval_results) == (None, "microsoft/resnet-18", None)
    assert {"mine", "tailmoe"} <= set(card.data.tags)
    assert [row["accuracy"] for row in table_after(card, "Every class")] == ["—"] * 3
    for example in python_blocks(card):
        compile(example, "card", "exec")


def test_a_run_for_a_choice_says_that_it_was_measured_on_validation_images(results):
    results.recipe["data"]["validation_per_class"] = 50
    card = render_model_card(results)
    assert "300 validation images" in card.text
    assert "test images" not in card.text
    assert {entry.dataset_split for entry in card.data.eval_results} == {"validation"}


def test_a_checkpoint_chosen_on_the_evaluation_images_is_told(trainer_results, results):
    trainer_results.metrics = results.metrics
    assert "no choice was made on them" in render_model_card(trainer_results).text
    trainer_results.recipe["training"]["load_best_model_at_end"] = True
    card = render_model_card(trainer_results)
    assert "the best checkpoint on these very images, which flatters it" in card.text
    assert "300 evaluation images" in card.text
    assert card.data.eval_results[0].dataset_split == "validation"


def test_figures_and_the_recipe_are_in_the_card(results):
    card = render_model_card(results, figures=["figures/accuracy_per_class.png"])
    assert "![Accuracy per class](figures/accuracy_per_class.png)" in card.text
    recipe = re.search(r"```yaml\n(.*?)```", card.text, re.DOTALL)[1]
    assert yaml.safe_load(recipe) == results.recipe
    assert "![" not in render_model_card(results).text


def test_training_images_are_counted_by_group_and_by_class(results):
    card = render_model_card(results)
    groups = table_after(card, "## Training data")
    assert [(row["classes"], row["training images"]) for row in groups] == [("1", "1,000"), ("1", "50"), ("1", "8")]
    classes = table_after(card, "Every class")
    assert [row["training images"] for row in classes] == ["1,000", "50", "8"]
    assert classes[1]["class"] == r"T-shirt\|top"


def test_a_long_list_of_classes_is_left_out(results):
    results.dataset.class_counts, results.dataset.label_names = [200] * 101, [f"c{c}" for c in range(101)]
    results.metrics.per_class_accuracy = [0.5] * 101
    assert "Every class" not in render_model_card(results).text


def test_data_unknown_to_the_hub_gets_no_link(results):
    results.dataset.name = "my_images"
    results.recipe["data"] = {"name": "my_images", "imbalance_factor": 10}
    card = render_model_card(results)
    assert card.data.datasets is None
    assert "huggingface.co/datasets" not in card.text
    assert "first images of each class in file order" in card.text


def test_lines_have_no_gaps_of_more_than_one_blank(results, snnl_results):
    for content in (results, snnl_results, results.baseline):
        assert "\n\n\n" not in render_model_card(content, figures=["figures/a.png"]).text


# written anew


@pytest.fixture
def run_folder(results, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "confusion.png").touch()
    results.save(tmp_path / "results.json")
    return tmp_path


def test_the_card_of_a_folder_is_that_of_its_results_and_figures(run_folder, results):
    path = write_card(run_folder)
    assert path == run_folder / "README.md"
    assert path.read_text() == str(render_model_card(results, figures=["figures/confusion.png"]))
    write_card(run_folder, "someone/model")
    assert 'model="someone/model"' in path.read_text()
    assert sorted(each.name for each in run_folder.iterdir()) == ["README.md", "figures", "results.json"]


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), ("{", "not JSON"), ("{}", "no version")])
def test_a_folder_without_results_is_named_and_keeps_its_card(run_folder, content, message):
    (run_folder / "README.md").write_text("old")
    (run_folder / "results.json").unlink()
    if content is not None:
        (run_folder / "results.json").write_text(content)
    with pytest.raises(BadInputError, match=f"results.json` cannot be read as the results of a run: .*{message}"):
        write_card(run_folder)
    assert (run_folder / "README.md").read_text() == "old"


@pytest.mark.parametrize("repo_id", ["a b/c", "owner/model/extra", "-x/y", "owner/na..me", "<b>"])
def test_a_wrong_repository_is_named(run_folder, repo_id):
    with pytest.raises(BadInputError, match="is no name of a repository"):
        write_card(run_folder, repo_id)


def told_study(folder):
    """The table of a study in the card of a folder, rendered anew; None if it tells of one seed alone."""
    write_card(folder)
    card = ModelCard.load(folder / "README.md")
    if "One seed was run" in card.text:
        assert "over the seeds" not in card.text
        return None
    return table_after(card, "The same over the seeds 3, 4, 5, mean ± standard deviation")


def test_a_study_beside_the_results_tells_the_spread_over_seeds(run_folder, study):
    assert told_study(run_folder) is None
    of_one = replace(study, seeds=[4], runs=study.runs[1:2])
    of_one.save(run_folder / "study.json")
    assert told_study(run_folder) is None
    study.save(run_folder / "study.json")
    assert [row["overall"] for row in told_study(run_folder)] == ["62.34 ± 0.00", "72.24 ± 1.96"]
    assert "The weights are those of seed 4" in (run_folder / "README.md").read_text()


def test_a_study_beside_the_results_that_is_of_other_runs_is_refused(run_folder, study):
    others = {"recipe": study.recipe | {"title": "another"}, "seeds": [0, 1, 2]}
    others["runs"] = [replace(run, metrics=replace(run.metrics, accuracy=0.7)) for run in study.runs]
    for name, value in others.items():
        replace(study, **{name: value}).save(run_folder / "study.json")
        with pytest.raises(BadInputError, match=r"study\.json` is a study of other runs than the one beside it"):
            write_card(run_folder)


def test_a_study_lies_once_for_all_its_runs_and_their_baselines(tmp_path, study, results):
    folder = tmp_path / "seed-4"
    results.save(folder / "results.json")
    results.baseline.save(folder / "baseline" / "results.json")
    assert told_study(folder) is None
    study.save(tmp_path / "study.json")
    assert [row["overall"] for row in told_study(folder)] == ["62.34 ± 0.00", "72.24 ± 1.96"]
    assert [row["overall"] for row in told_study(folder / "baseline")] == ["62.34 ± 0.00"]
    replace(results, recipe=results.recipe | {"title": "another"}).save(folder / "results.json")
    assert told_study(folder) is None, "the study above is of other runs"


def test_a_run_that_is_no_seed_of_a_study_does_not_look_for_one(tmp_path, results):
    results.save(tmp_path / "mine" / "results.json")
    (tmp_path / "study.json").write_text("somebody else's")
    assert told_study(tmp_path / "mine") is None
