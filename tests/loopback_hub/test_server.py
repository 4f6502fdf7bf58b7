"""The Hub on this machine against the real client: what a test may rely on."""

import filecmp
import threading
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

API = HfApi()


@pytest.fixture
def folder(tmp_path):
    """A small file, one in a folder with a difficult name, and a large one."""
    source = tmp_path / "source"
    (source / "sub folder").mkdir(parents=True)
    (source / "sub folder" / "né.txt").write_text("hello\n")
    (source / "README.md").write_text("---\nlicense: mit\ntags: [a, b]\n---\n# Hello\n")
    (source / "model.safetensors").write_bytes(bytes(range(256)) * 8000)
    return source


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_folder_comes_back_as_it_went(hub, folder, tmp_path, kind):
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    API.create_repo("zoo/a", repo_type=kind, private=True, **sdk)
    commit = API.upload_folder(repo_id="zoo/a", repo_type=kind, folder_path=folder)
    back = Path(snapshot_download("zoo/a", repo_type=kind, cache_dir=tmp_path / "cache"))
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert filecmp.cmpfiles(folder, back, names, shallow=False)[0] == names
    assert back.name == commit.oid
    info = API.repo_info("zoo/a", repo_type=kind)
    assert (info.private, info.tags) == (True, ["a", "b"])
    assert API.upload_folder(repo_id="zoo/a", repo_type=kind, folder_path=folder).oid == commit.oid


def test_earlier_revisions_branches_tags_and_pull_requests_can_be_read(hub):
    API.create_repo("zoo/a")
    first = API.upload_file(repo_id="zoo/a", path_or_fileobj=b"one", path_in_repo="x.txt").oid
    API.create_tag("zoo/a", tag="v1")
    API.create_branch("zoo/a", branch="other")
    API.upload_file(repo_id="zoo/a", path_or_fileobj=b"two", path_in_repo="x.txt")
    API.upload_file(repo_id="zoo/a", path_or_fileobj=b"three", path_in_repo="x.txt", create_pr=True)
    expected = {"main": "two", "v1": "one", "other": "one", first: "one", first[:8]: "one", "refs/pr/1": "three"}
    for revision, content in expected.items():
        assert Path(hf_hub_download("zoo/a", "x.txt", revision=revision)).read_text() == content
    assert len(API.list_repo_commits("zoo/a")) == 3


def test_a_commit_is_all_or_nothing(hub):
    API.create_repo("zoo/a")
    before = API.repo_info("zoo/a").sha
    operations = [CommitOperationAdd("x.txt", b"1"), CommitOperationDelete("missing.txt")]
    with pytest.raises(HfHubHTTPError):
        API.create_commit("zoo/a", operations, commit_message="both")
    assert API.repo_info("zoo/a").sha == before
    assert "x.txt" not in API.list_repo_files("zoo/a")


def test_of_writers_from_one_parent_one_wins(hub):
    API.create_repo("zoo/a")
    parent, outcomes = API.repo_info("zoo/a").sha, []

    def write(number):
        try:
            add = [CommitOperationAdd(f"{number}.txt", b"x")]
            outcomes.append(API.create_commit("zoo/a", add, commit_message="m", parent_commit=parent).oid)
        except HfHubHTTPError as error:
            outcomes.append(error.response.status_code)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(412) == 4
    assert len(API.list_repo_commits("zoo/a")) == 2


def test_errors_are_the_clients_own(hub):
    with pytest.raises(RepositoryNotFoundError):
        API.model_info("zoo/none")
    API.create_repo("zoo/a", private=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info("zoo/a")
    with pytest.raises(RevisionNotFoundError):
        API.model_info("zoo/a", revision="nope")
    with pytest.raises(RemoteEntryNotFoundError):
        API.hf_hub_download("zoo/a", "nope")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token="hf_read").create_repo("zoo/b")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_wrong").whoami()
    with pytest.raises(ValueError, match="license"):
        API.upload_file(repo_id="zoo/a", path_or_fileobj=b"---\nlicense: 3\n---\n", path_in_repo="README.md")


@pytest.mark.parametrize(("action", "moved"), [("status", False), ("reset", False), ("lose_answer", True)])
def test_faults_of_a_commit_raise_and_a_lost_answer_leaves_the_commit(hub, inject, action, moved):
    API.create_repo("zoo/a")
    before = API.repo_info("zoo/a").sha
    inject(action, "/commit/")
    with pytest.raises(Exception, match=""):  # noqa: PT011 (of the client or of its transport)
        API.upload_file(repo_id="zoo/a", path_or_fileobj=b"1", path_in_repo="x.txt")
    assert (API.repo_info("zoo/a").sha != before) == moved


def test_a_cut_download_is_taken_up_again(hub, folder, inject, tmp_path):
    API.create_repo("zoo/a")
    API.upload_folder(repo_id="zoo/a", folder_path=folder)
    inject("truncate", "/_storage/", method="GET", size=300_000)
    path = hf_hub_download("zoo/a", "model.safetensors", cache_dir=tmp_path / "cache")
    assert filecmp.cmp(path, folder / "model.safetensors", shallow=False)
