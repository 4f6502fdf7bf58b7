"""Pushes of runs, with the real client against the Hub on this machine: complete, once, or not at all."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import CommitOperationAdd, HfApi, constants, snapshot_download
from loopback_hub.faults import Fault
from transformers import AutoModelForImageClassification

import tailmoe.modeling
from tailmoe.hub_cards import push, repository
from tailmoe.hub_cards.push import files_to_push, push_run
from tailmoe.training import cli
from tailmoe.training.errors import BadInputError
from tailmoe.training.results.results import StudyResults

API = HfApi()
REPO = "zoo/tiny-icl-moe"
ELSEWHERE = """
import json, sys, torch
from transformers import AutoModelForImageClassification, pipeline
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
answer = pipeline("image-classification", model=sys.argv[1], trust_remote_code=True)(sys.argv[2])
assert "tailmoe" not in sys.modules
print(json.dumps([model(images).logits.tolist(), answer[0]["label"]]))
"""


@pytest.fixture
def run(results, tmp_path):
    """A finished run of a tiny model, with a baseline."""
    torch.manual_seed(0)
    config = tailmoe.modeling.ICLMoEConfig(
        num_channels=1, image_size=8, hidden_sizes=[4, 8], depths=[1, 1], num_experts=2, num_labels=3
    )
    folder = tmp_path / "run"
    tailmoe.modeling.ICLMoEForImageClassification(config).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    tailmoe.modeling.TailMoEImageProcessor(num_channels=1, size=size).save_pretrained(folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "confusion.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    results.save(folder / "results.json")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "quickstart", "seed": 4, **results.recipe}))
    (folder / "README.md").write_text("the card in the folder\n")
    (folder / "baseline").mkdir()
    (folder / "baseline" / "results.json").write_text("{}")
    return folder


@pytest.fixture
def quick(monkeypatch):
    """No waiting between attempts, and the model is not loaded again and again."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr(push, "_check_loads", lambda folder, run: None)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def published(revision="main", cache=None):
    """Files of the repository as a reader gets them."""
    folder = Path(snapshot_download(REPO, revision=revision, cache_dir=cache))
    return {name: content for name, content in contents(folder).items() if name != ".gitattributes"}


def commits():
    return [commit.title for commit in API.list_repo_commits(REPO)]


def fails(match, *arguments, **options):
    with pytest.raises(BadInputError, match=match) as error:
        push_run(*arguments, **options)
    assert "\n" not in str(error.value)


# complete


def test_a_pushed_run_loads_elsewhere_with_the_same_logits(hub, run, tmp_path):
    before = contents(run)
    pushed = push_run(run, REPO, private=True)
    assert pushed.changed
    assert len(commits()) == 2
    assert API.repo_info(REPO).private
    there = published()
    assert set(there) == set(files_to_push(run))
    anew = ("README.md", "results.json", "recipe.yaml")
    assert {name: there[name] for name in there if name not in anew} == {
        name: before[name] for name in there if name not in anew
    }
    assert json.loads(there["results.json"]) == json.loads(before["results.json"])
    assert yaml.safe_load(there["recipe.yaml"]) == yaml.safe_load(before["recipe.yaml"])
    assert f'model="{REPO}"' in there["README.md"].decode()
    assert contents(run) == before, "the run was changed"
    (tmp_path / "image.png").write_bytes(_png())
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", ELSEWHERE, REPO, str(tmp_path / "image.png")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits, label = json.loads(done.stdout.splitlines()[-1])
    model = AutoModelForImageClassification.from_pretrained(run).eval()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.tensor(logits), model(images).logits, rtol=0, atol=1e-6)
    assert label in model.config.label2id


def _png():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8), 90).save(buffer, format="PNG")
    return buffer.getvalue()


def test_pushing_again_changes_nothing_and_a_changed_run_is_one_more_commit(hub, run, quick, tmp_path):
    first = push_run(run, REPO)
    again = push_run(run, REPO)
    assert (again.changed, again.oid, len(commits())) == (False, first.oid, 2)
    (run / "figures" / "confusion.png").rename(run / "figures" / "accuracy_per_class.png")
    second = push_run(run, REPO)
    assert (second.changed, len(commits())) == (True, 3)
    assert "figures/accuracy_per_class.png" in published()
    assert "figures/confusion.png" not in published(), "a file that the run no longer has stayed"
    assert "figures/confusion.png" in published(first.oid), "an earlier revision can be pulled"


def test_a_run_that_was_killed_before_its_card_was_written_is_pushed_with_it_and_with_its_study(
    hub, run, quick, study
):
    (run / "README.md").unlink()
    study.save(run.parent / "study.json")
    run = run.rename(run.with_name("seed-4"))
    push_run(run, REPO)
    there = published()
    assert set(there) == {*files_to_push(run), "README.md", "study.json"}
    assert "The same over the seeds 3, 4, 5" in there["README.md"].decode()
    assert StudyResults.from_dict(json.loads(there["study.json"])) == study


def test_a_branch_and_a_pull_request_leave_main_alone(hub, run, quick):
    API.create_repo(REPO)
    head = API.repo_info(REPO).sha
    push_run(run, REPO, revision="next")
    pull_request = push_run(run, REPO, create_pr=True)
    assert pull_request.url.endswith("/discussions/1")
    again = push_run(run, REPO, create_pr=True)
    assert (again.changed, again.url, again.oid) == (False, pull_request.url, pull_request.oid)
    assert API.repo_info(REPO).sha == head
    for revision in ("next", "refs/pr/1"):
        assert set(published(revision)) == set(files_to_push(run))


def test_a_changed_run_goes_into_the_pull_request_that_is_open_and_not_into_that_of_others(hub, run, quick):
    API.create_repo(REPO)
    for title in ("Fix a word", "Push of quickstart"):
        theirs = [CommitOperationAdd("theirs.txt", b"theirs")]
        API.create_commit(REPO, theirs, commit_message=title, create_pr=True)
    store = hub.app.store
    repository = store.repository("model", REPO)
    repository.pull_requests[1]["author"] = "somebody"
    store.save(repository)
    assert push_run(run, REPO, create_pr=True).url.endswith("/discussions/3")
    assert [each.title for each in API.get_repo_discussions(REPO)][1:] == 2 * ["Push of quickstart"]
    (run / "figures" / "confusion.png").rename(run / "figures" / "accuracy_per_class.png")
    again = push_run(run, REPO, create_pr=True)
    assert again.changed
    assert again.url.endswith("/discussions/3")
    assert set(published("refs/pr/3")) == set(files_to_push(run))
    assert "theirs.txt" in published("refs/pr/1")
    repository = store.repository("model", REPO)
    repository.pull_requests[2]["status"] = "closed"
    store.save(repository)
    assert push_run(run, REPO, create_pr=True).url.endswith("/discussions/4"), "one that was closed stays closed"


def test_a_pull_request_of_what_is_there_already_is_not_opened(hub, run, quick):
    pushed = push_run(run, REPO)
    again = push_run(run, REPO, create_pr=True)
    assert (again.changed, again.oid) == (False, pushed.oid)
    assert not list(API.get_repo_discussions(REPO))


def test_the_command_shows_what_it_pushes_and_says_where(hub, run, quick, capsys, caplog):
    with caplog.at_level("INFO"):
        assert cli.main(["push", str(run), REPO]) == 0
    assert "Pushed: http" in capsys.readouterr().out
    assert "model.safetensors" in caplog.text
    assert f"in {len(files_to_push(run))} files" in caplog.text
    assert cli.main(["push", str(run), REPO]) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert cli.main(["push", str(run / "figures"), REPO]) == 2


# refused before anything is sent


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "weights.pkl", "pytorch_model.bin", "notes.txt", "figures/a.svg", ".env"]
)
def test_a_file_that_no_run_writes_is_refused(hub, run, name):
    (run / name).write_bytes(b"x")
    fails(rf"`{name}` of .* is not a file that a run writes", run, REPO)
    assert not hub.app.requests


@pytest.mark.parametrize("name", push.NEEDED)
def test_a_run_that_is_not_complete_is_refused(hub, run, name):
    (run / name).unlink()
    fails(f"{name} is missing", run, REPO)
    assert not hub.app.requests


def test_a_link_out_of_the_folder_is_refused(hub, run, tmp_path):
    (tmp_path / "secret.py").write_text("secret")
    (run / "secret.py").symlink_to(tmp_path / "secret.py")
    fails("`secret.py` of .* is a link to .*, out of the folder", run, REPO)
    assert not hub.app.requests


def test_weights_that_do_not_load_are_refused(hub, run):
    (run / "model.safetensors").write_bytes(b"no tensors")
    fails("The weights of .* do not load", run, REPO)
    assert not hub.app.requests


def test_code_that_answers_differently_in_a_clean_process_is_refused(hub, run):
    path = run / "modeling_icl_moe.py"
    path.write_text(
        path.read_text().replace("logits=expert_logits.mean(dim=1)", "logits=2 * expert_logits.mean(dim=1)")
    )
    fails("answers differently in a clean process", run, REPO)
    path.write_text("import nothing_that_exists\n")
    fails("does not load in a clean process", run, REPO)
    assert not hub.app.requests


@pytest.mark.parametrize("repo", ["a b/c", "datasets/zoo/x", "zoo/", "zoo/x--y"])
def test_a_wrong_name_is_refused(hub, run, quick, repo):
    fails("is no name of a repository", run, repo)
    assert not hub.app.requests


def test_a_missing_wrong_or_reading_token_is_told(hub, run, quick, monkeypatch):
    for token, message in (("hf_read", "can only read"), ("hf_wrong", "Invalid")):
        monkeypatch.setenv("HF_TOKEN", token)
        fails(message, run, REPO)
    monkeypatch.delenv("HF_TOKEN")
    fails("There is no token of the Hub", run, REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    fails("rights", run, "somebody/else")
    assert not API.repo_exists(REPO)


def test_no_network_is_told(hub, run, quick, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(repository, "HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    fails("the Hub does not answer", run, REPO)


@pytest.mark.parametrize(("other", "kind"), [("dataset", "a data set"), ("space", "a Space")])
def test_a_repository_of_another_type_is_told(hub, run, quick, other, kind):
    API.create_repo(REPO, repo_type=other, **({"space_sdk": "gradio"} if other == "space" else {}))
    fails(f"`{REPO}` is {kind} on the Hub, and a model is to be pushed", run, REPO)
    assert not API.repo_exists(REPO)


def test_results_of_an_earlier_version_are_refused(hub, run, quick, results):
    (run / "results.json").write_text(json.dumps(results.to_dict() | {"version": 0}))
    fails(f"`{run}/results.json` cannot be read as the results of a run: it is of version 0", run, REPO)
    assert not hub.app.requests


def test_a_recipe_that_does_not_train_is_refused(hub, run, quick):
    (run / "recipe.yaml").write_text("title: Mine\n")
    fails("The recipe lacks `description`", run, REPO)
    assert not hub.app.requests


def test_paths_of_this_machine_are_not_pushed(hub, run, quick, results):
    private = "/home/someone/secret project/birds"
    results.command = f"tailmoe train quickstart --set 'data.name={private}' --output-dir ~/secret/runs --seed 1"
    for part in (results, results.baseline):
        part.dataset.name = part.recipe["data"]["name"] = private
    results.save(run / "results.json")
    StudyResults.of([results], results.command).save(run / "study.json")
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "quickstart", "seed": 4, **results.recipe}))
    push_run(run, REPO)
    there = published()
    for name, content in there.items():
        assert b"secret" not in content, name
    expected = "tailmoe train quickstart --set data.name=birds --output-dir runs --seed 1"
    assert [json.loads(there[f"{name}.json"])["command"] for name in ("results", "study")] == [expected] * 2
    assert f"`{expected}`" in there["README.md"].decode()
    assert yaml.safe_load(there["recipe.yaml"])["data"] == {"name": "birds"}
    assert "secret" in (run / "results.json").read_text(), "the run was changed"


# faults


@pytest.mark.parametrize(
    "path",
    [
        "whoami",
        "validate-yaml",
        "api/models/zoo/tiny-icl-moe$",
        "repos/create",
        "/revision/",
        "/tree/",
        "/preupload/",
        "objects/batch",
        "/_storage/",
        "/commit/",
    ],
)
@pytest.mark.parametrize("action", ["status", "reset", "lose_answer"])
def test_a_fault_of_any_call_is_passed_and_nothing_is_doubled(hub, run, quick, inject, path, action):
    inject(action, path)
    assert push_run(run, REPO).changed
    assert set(published()) == set(files_to_push(run))
    assert len(commits()) == 2


@pytest.mark.parametrize(
    ("action", "path", "reason"),
    [
        ("status", "/commit/", "503"),
        ("reset", "/commit/", "does not answer"),
        ("status", "objects/batch", "503"),
        ("status", "/_storage/", "503"),
        ("reset", "/_storage/", "does not answer"),
    ],
)
def test_a_hub_that_stays_busy_is_told_and_the_repository_stays_as_it_was(
    hub, run, quick, inject, action, path, reason
):
    push_run(run, REPO)
    before = published()
    (run / "figures" / "confusion.png").write_bytes(b"\x89PNG" + os.urandom(9))  # nowhere yet
    inject(action, path, times=99)
    fails(f"Nothing was pushed to .*{reason}", run, REPO)
    assert published() == before
    assert len(commits()) == 2


def test_a_second_writer_in_between_is_not_overwritten(hub, run, quick, monkeypatch):
    push_run(run, REPO)
    (run / "figures" / "confusion.png").write_bytes(b"\x89PNG new")
    create_commit = HfApi.create_commit

    def second_writer_first(api, *args, **kwargs):
        create_commit(api, REPO, [CommitOperationAdd("theirs.txt", b"theirs")], commit_message="theirs")
        return create_commit(api, *args, **kwargs)

    monkeypatch.setattr(HfApi, "create_commit", second_writer_first)
    fails("Somebody else changed", run, REPO)
    assert commits()[0] == "theirs"


def test_a_lost_answer_of_a_pull_request_is_recognised(hub, run, quick, inject):
    API.create_repo(REPO)
    inject("lose_answer", "/commit/")
    assert push_run(run, REPO, create_pr=True).url.endswith("/discussions/1")
    refs = API.list_repo_refs(REPO, include_pull_requests=True)
    assert len(refs.pull_requests) == 1


def test_a_disk_that_is_full_in_the_middle_of_a_download_is_told_and_the_next_one_is_whole(hub, run, tmp_path):
    push_run(run, REPO)
    (tmp_path / "image.png").write_bytes(_png())
    largest = (run / "model.safetensors").stat().st_size
    assert largest > (run / "config.json").stat().st_size

    def predict(limit):
        command = ["-c", "import sys; from tailmoe.training.cli import main; sys.exit(main())", "predict", REPO]
        return subprocess.run(
            [sys.executable, *command, str(tmp_path / "image.png")],
            env=os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),  # as a full disk: OSError
            capture_output=True,
            text=True,
        )

    full = predict(largest - 1)
    assert full.returncode == 2, full.stderr
    assert re.fullmatch(f"tailmoe: `{REPO}` cannot be loaded.*: .*File too large.*\n", full.stderr)
    enough = predict(resource.RLIM_INFINITY)
    assert enough.returncode == 0, enough.stderr


@pytest.mark.parametrize("pushes", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_every_state_of_many_pushes_under_random_faults_is_a_complete_version(hub, run, quick, tmp_path, pushes):
    chance = random.Random(0)
    paths = [
        "whoami",
        "validate-yaml",
        "create",
        "/revision/",
        "/tree/",
        "/preupload/",
        "batch",
        "/_storage/",
        "/commit/",
    ]
    versions = []
    for number in range(pushes):
        for name in ("figures/confusion.png", "figures/accuracy_per_class.png"):
            (run / name).write_bytes(b"\x89PNG\0" + str(number).encode())
        for _ in range(chance.randrange(3)):
            action = chance.choice(["status", "reset", "lose_answer"])
            hub.app.faults.append(Fault(action, chance.choice(paths), times=chance.choice([1, 1, 1, 9])))
        with contextlib.suppress(BadInputError):
            push_run(run, REPO)
            versions.append(number)
        hub.app.faults.clear()
    states = [commit.commit_id for commit in API.list_repo_commits(REPO)][:-1]
    seen = []
    for state in states:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        files = published(state, tmp_path / "cache")
        assert set(files) == set(files_to_push(run))
        number = files["figures/confusion.png"]
        assert number == files["figures/accuracy_per_class.png"], "a reader saw half of a push"
        seen.append(int(number[5:]))
    assert seen == sorted(set(seen), reverse=True), "a version was doubled"
    assert set(versions) <= set(seen), "a version was lost"
    assert len(versions) > pushes / 2
