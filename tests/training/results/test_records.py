"""Results in files: written whole, read as they were, and what is wrong with a file told in one line with the remedy."""

import json
from dataclasses import replace

import pytest
from made_up import made_up_run, made_up_study

from tailmoe.training.benchmark.record import Benchmark
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipes.shipped import DEFAULT_EPOCHS
from tailmoe.training.results.ablation import Ablation
from tailmoe.training.results.results import RunResults, StudyResults
from tailmoe.training.results.scores import Spread, percent
from tailmoe.training.trainer.arguments import LongTailTrainingArguments


@pytest.fixture
def run():
    """A run with a baseline, of which some things are not known."""
    baseline = made_up_run("cross-entropy", "quickstart-baseline", train_seconds=None, license=None)
    return made_up_run(baseline=baseline, tags=["mine"], commit=None)


def test_what_is_read_is_what_was_written(run, tmp_path):
    run.dataset.left_out, run.metrics.few_accuracy = {"of another class": 3}, None
    for record in (run, made_up_study(run, replace(run, seed=5))):
        record.save(tmp_path / "new" / "record.json")
        assert type(record).load(tmp_path / "new" / "record.json") == record
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record.json"], "a part was left"


def test_a_file_tells_its_kind_and_version_and_leaves_out_what_is_not_there(run):
    content = run.to_dict()
    assert (content["kind"], content["version"]) == ("run", 1)
    assert content["metrics"]["few_accuracy"] == run.metrics.few_accuracy
    assert "early_exit" not in content["metrics"]
    assert content["baseline"]["train_seconds"] is None
    assert content["dataset"]["shot_bounds"] == {"many_above": 100, "few_below": 20, "terciles": False}


def test_whole_numbers_are_read_where_others_may_stand(run):
    content = run.to_dict()
    content["train_seconds"] = content["metrics"]["accuracy"] = 1
    assert RunResults.from_dict(content).train_seconds == 1


def changed(content, place, value=None):
    """The content with the value at a place, or without the place."""
    part = content
    for key in place[:-1]:
        part = part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (["version"], None, "it has no version, as those of earlier tailmoe; this tailmoe reads version 1"),
        (["version"], 7, "it is of version 7; this tailmoe reads version 1"),
        (["kind"], "study", "it is of kind study"),
        (["seed"], None, "it lacks `seed`"),
        (["metrics", "ece"], None, "it lacks `metrics.ece`"),
        (["baseline", "dataset", "num_test"], None, "it lacks `baseline.dataset.num_test`"),
        (["colour"], "red", "`colour` is unknown"),
        (["dataset", "shot_bounds", "some_above"], 3, "`dataset.shot_bounds.some_above` is unknown"),
        (["dataset"], [], "`dataset` must be an object, got list '[]'"),
        (["seed"], "four", "`seed` must be int, got str 'four'"),
        (["metrics", "accuracy"], "high", "`metrics.accuracy` must be float, got str 'high'"),
        (["metrics", "per_class_accuracy"], [0.5, "?"], "`metrics.per_class_accuracy[1]` must be float, got str '?'"),
        (["recipe", "data"], None, "it lacks `recipe.data`"),
        (["baseline", "hardware", "cores"], None, "it lacks `hardware.cores`"),
        (["versions", "torch"], 2.1, "`versions.torch` must be str, got float '2.1'"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_what_is_wrong(run, tmp_path, place, value, reason):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(changed(run.to_dict(), place, value)))
    with pytest.raises(BadInputError) as error:
        RunResults.load(path)
    expected = f"`{path}` cannot be read as the results of a run: {reason}. `tailmoe train` writes one."
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (RunResults, ("the results of a run", "tailmoe train")),
        (StudyResults, ("a study", "tailmoe study")),
        (Ablation, ("an ablation", "tailmoe ablation")),
        (Benchmark, ("a benchmark", "tailmoe benchmark --json")),
    ],
)
def test_a_file_that_holds_nothing_of_ours_is_refused(tmp_path, kind, told):
    contents = {"not JSON": b"{", "not JSON (": b"\xff\xfe", "it holds list '[]'": b"[]", "it holds nothing": b"null"}
    for reason, content in contents.items():
        (tmp_path / "file.json").write_bytes(content)
        with pytest.raises(BadInputError) as error:
            kind.load(tmp_path / "file.json")
        assert f"file.json` cannot be read as {told[0]}: " in str(error.value)
        assert reason in str(error.value)
        assert str(error.value).endswith(f". `{told[1]}` writes one.")
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "nowhere.json", "No such file or directory")):
        with pytest.raises(BadInputError, match=f"{reason}. `{told[1]}` writes one"):
            kind.load(path)


def test_a_disk_that_is_full_leaves_the_file_that_was_there(run, tmp_path, monkeypatch):
    run.save(tmp_path / "results.json")
    monkeypatch.setattr("pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        replace(run, seed=9).save(tmp_path / "results.json")
    assert RunResults.load(tmp_path / "results.json") == run


def test_seeds_of_different_commits_are_no_study(run):
    with pytest.raises(BadInputError, match=r"trained at different commits \(None, abc\): train them again"):
        made_up_study(run, replace(run, seed=5, commit="abc"))


def test_a_study_is_the_mean_and_the_deviation_of_its_runs(run):
    runs = [replace(run, seed=seed, metrics=replace(run.metrics, accuracy=a)) for seed, a in ((0, 0.5), (1, 0.7))]
    study = made_up_study(*runs)
    assert study.metrics["accuracy"].mean == pytest.approx(0.6)
    assert study.metrics["accuracy"].std == pytest.approx(0.2 / 2**0.5)
    assert study.values("accuracy") == [0.5, 0.7]
    assert study.baseline.seeds == [4, 4]
    assert study.baseline.train_seconds == Spread(None, None)
    assert [each.metrics.confusion_matrix for each in study.runs] == [None, None], "the file grows with the classes"
    assert study.command == study.baseline.command == "tailmoe study quickstart"


def test_shares_are_shown_in_percent_of_a_spread_with_its_deviation():
    assert [percent(value) for value in (0.1234, None, Spread(None, None))] == ["12.3", "—", "—"]
    assert percent(Spread(0.5, 0.012)) == "50.00 ± 1.20"
    assert percent(0.5, " %") == percent(Spread(0.5, None), " %") == "50.0 %"


def test_a_run_that_names_no_epochs_has_those_of_the_arguments(run):
    assert run.setting["epochs"] == f"{LongTailTrainingArguments.num_train_epochs:g}" == str(DEFAULT_EPOCHS)
    run.recipe["training"]["num_train_epochs"] = 7
    assert run.setting == {"data": "fashion_mnist_lt", "imbalance": "125", "epochs": "7"}
