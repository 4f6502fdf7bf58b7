"""The Space as it is pushed, with the real client against the Hub on this machine."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, SpaceCard, snapshot_download

from tailmoe.hub_cards import repository
from tailmoe.hub_cards.push import push_run
from tailmoe.hub_cards.space import SPACE, push_space
from tailmoe.training import cli
from tailmoe.training.errors import BadInputError

API = HfApi()
REPO, MODEL, BASELINE = "zoo/what-each-expert-sees", "zoo/icl-moe", "zoo/cross-entropy"
MODELS = Path(__file__).parents[2] / "hub_cards" / "models"


@pytest.fixture
def models(hub, monkeypatch):
    """The pair that ships with the project, on the Hub of this machine."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("tailmoe.hub_cards.push._check_loads", lambda folder, run: None)
    for repo_id, folder in ((MODEL, "icl-moe-fashion-mnist-lt"), (BASELINE, "cross-entropy-fashion-mnist-lt")):
        push_run(MODELS / folder, repo_id)


def variables():
    return {key: variable.value for key, variable in API.get_space_variables(REPO).items()}


def commits():
    return len(API.list_repo_commits(REPO, repo_type="space"))


def test_the_folder_is_pushed_whole_with_its_models_pinned(models):
    pushed = push_space(REPO, MODEL, BASELINE, private=True)
    assert pushed.url.startswith(f"{API.endpoint}/spaces/{REPO}/commit/")
    assert variables() == {
        "MODEL_ID": MODEL,
        "MODEL_REVISION": API.model_info(MODEL).sha,
        "BASELINE_ID": BASELINE,
        "BASELINE_REVISION": API.model_info(BASELINE).sha,
    }
    there = Path(snapshot_download(REPO, repo_type="space"))
    for path in SPACE.rglob("*.*"):
        name = path.relative_to(SPACE)
        if "__pycache__" not in name.parts and name.name != "README.md":
            assert (there / name).read_bytes() == path.read_bytes(), name
    assert SpaceCard.load(there / "README.md").data.models == [MODEL, BASELINE]
    info = API.repo_info(REPO, repo_type="space")
    assert (info.private, info.sdk) == (True, "gradio")


def test_pushing_again_changes_nothing_and_a_new_model_moves_the_pin_alone(models, monkeypatch, capsys):
    command = ["space", REPO, "--model", MODEL]
    assert cli.main(command) == 0
    assert "Pushed: http" in capsys.readouterr().out
    assert "BASELINE_ID" not in variables()
    set_again = []
    monkeypatch.setattr(HfApi, "add_space_variable", lambda api, repo, key, value: set_again.append(key))
    assert cli.main(command) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert not set_again
    API.upload_file(repo_id=MODEL, path_or_fileobj=b"changed", path_in_repo="notes.txt")
    assert cli.main(command) == 0
    assert set_again == ["MODEL_REVISION"]
    assert commits() == 2


@pytest.mark.parametrize("path", ["/variables", "/commit/", "repos/create"])
@pytest.mark.parametrize("action", ["status", "reset", "lose_answer"])
def test_a_fault_of_any_call_is_passed(models, inject, monkeypatch, path, action):
    monkeypatch.setattr(repository, "WAITS", (0, 0, 0))
    inject(action, path)
    assert push_space(REPO, MODEL).changed
    assert commits() == 2
    assert set(variables()) == {"MODEL_ID", "MODEL_REVISION"}


def test_what_is_no_model_of_ours_is_refused_before_anything_is_pushed(models, tmp_path):
    API.create_repo("zoo/other")
    with pytest.raises(BadInputError, match="There is no model `zoo/other` on the Hub: `tailmoe push RUN zoo/other`"):
        push_space(REPO, "zoo/other")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    API.upload_file(repo_id="zoo/other", path_or_fileobj=tmp_path / "config.json", path_in_repo="config.json")
    with pytest.raises(BadInputError, match="`zoo/other` is no ICL-MoE or SNNL-MoE with training counts"):
        push_space(REPO, MODEL, baseline="zoo/other")
    with pytest.raises(BadInputError, match="There is no model `zoo/missing`"):
        push_space(REPO, "zoo/missing")
    with pytest.raises(BadInputError, match="is a model on the Hub, and a Space is to be pushed"):
        push_space("zoo/other", MODEL)
    with pytest.raises(BadInputError, match="is no name of a repository"):
        push_space("spaces/zoo/x", MODEL)
    assert not API.repo_exists(REPO, repo_type="space")
