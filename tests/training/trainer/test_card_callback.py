"""Pushes of a Trainer with `CardCallback`, with the real client against the Hub on this machine: they load, and the card is ours."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download
from transformers import AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification

from tailmoe.hub_cards.callback import CardCallback
from tailmoe.hub_cards.model_card import write_card
from tailmoe.training.errors import BadInputError
from tailmoe.training.recipe import load_recipe

API = HfApi()
REPO = "zoo/from-a-trainer"
ELSEWHERE = """
import sys, torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
for folder in sys.argv[1:]:
    AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()
    print(model(torch.ones(1, 1, 28, 28)).logits.sum().item())
assert "tailmoe" not in sys.modules
"""


@pytest.fixture
def make_pushing(hub, make_trainer):
    def make(model, objective=None, **changes):
        options = {"push_to_hub": True, "hub_model_id": REPO, "num_train_epochs": 2, "save_total_limit": None}
        trainer = make_trainer(model, objective, **(options | changes))
        trainer.add_callback(CardCallback(trainer))
        return trainer

    return make


def revisions():
    """Every state of the repository but the first, which is empty; the oldest first."""
    return [commit.commit_id for commit in API.list_repo_commits(REPO)][-2::-1]


def fetch(revision, folder):
    return Path(snapshot_download(REPO, revision=revision, local_dir=folder / revision))


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_every_state_that_a_run_pushes_loads_without_tailmoe(make_pushing, icl, tmp_path, strategy):
    trainer = make_pushing(*icl, hub_strategy=strategy, hub_always_push=True)
    trainer.train()
    trainer.push_to_hub()
    states = [fetch(revision, tmp_path / "there") for revision in revisions()]
    assert len(states) == {"end": 1, "every_save": 3, "checkpoint": 5, "all_checkpoints": 5}[strategy]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, states)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    trainer.model.eval()
    expected = trainer.model(torch.ones(1, 1, 28, 28)).logits.sum().item()
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(expected, abs=1e-5)
    checkpoints = {path.name for path in states[-1].iterdir() if path.is_dir()} - {"figures", ".cache"}
    all_of_them = {"checkpoint-5", "checkpoint-10"}
    assert checkpoints == {"checkpoint": {"last-checkpoint"}, "all_checkpoints": all_of_them}.get(strategy, set())


def test_a_run_continues_from_the_checkpoint_on_the_hub(make_pushing, icl, tmp_path, caplog):
    whole = make_pushing(*icl, hub_strategy="checkpoint", save_total_limit=1)  # each is deleted when the next is saved
    whole.train()
    assert "A push during training failed" not in caplog.text
    first_save = fetch(revisions()[1], tmp_path / "there")
    resumed = make_pushing(*icl, push_to_hub=False, output_dir=str(tmp_path / "resumed"))
    resumed.train(resume_from_checkpoint=str(first_save / "last-checkpoint"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_card_is_ours_and_says_what_was_measured(make_pushing, icl, tmp_path):
    trainer = make_pushing(*icl, learning_rate=0.07)
    trainer.train()
    trainer.push_to_hub(license="mit", tags="birds", dataset="someone/birds", finetuned_from="zoo/start")
    there = fetch("main", tmp_path / "there")
    results, card = json.loads((there / "results.json").read_text()), ModelCard.load(there / "README.md")
    card.validate(repo_type="model")
    assert results["metrics"]["accuracy"] == pytest.approx(trainer.evaluate()["eval_accuracy"])
    assert results["train_seconds"] > 0
    assert results["recipe"]["training"]["learning_rate"] == 0.07
    assert "hub_model_id" not in results["recipe"]["training"]
    assert results["recipe"]["objective"]["type"] == "icl"
    assert results["recipe"]["objective"]["balanced_heads"] == "decoupled"
    assert (card.data.license, card.data.base_model, card.data.datasets) == ("mit", "zoo/start", ["someone/birds"])
    assert "birds" in card.data.tags
    assert f'model="{REPO}", trust_remote_code=True' in card.text
    assert "50 evaluation images" in card.text
    figures = {path.stem for path in (there / "figures").iterdir()}
    assert figures == {"accuracy_per_class", "confusion", "reliability", "expert_agreement"}
    before = (there / "README.md").read_text()
    assert write_card(there, REPO).read_text() == before


def test_a_model_of_transformers_has_a_card_whose_example_runs(make_pushing, tmp_path, monkeypatch, capsys, fashion):
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=10
    )
    trainer = make_pushing(ResNetForImageClassification(config))
    trainer.train()
    trainer.push_to_hub()
    card = ModelCard.load(REPO)
    assert card.data.license is None
    assert "This ResNet puts images into 10 classes" in card.text
    example = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    fashion["test"][0]["image"].save("image.png")
    capsys.readouterr()
    exec(compile(example, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert isinstance(AutoModelForImageClassification.from_pretrained(REPO), ResNetForImageClassification)


def test_without_evaluation_images_nothing_is_claimed(make_pushing, icl):
    trainer = make_pushing(*icl)
    trainer.eval_dataset = None
    trainer.train()
    trainer.push_to_hub()
    card = ModelCard.load(REPO)
    assert card.data.eval_results is None
    assert "Not measured: no evaluation images" in card.text


def test_a_trainer_without_training_images_has_no_card(make_pushing, icl):
    trainer = make_pushing(*icl, train=None)
    with pytest.raises(BadInputError, match="`train_dataset` is missing"):
        trainer.push_to_hub()


def test_a_push_that_fails_during_training_is_told_and_the_last_one_is_whole(make_pushing, icl, inject, caplog):
    inject("status", "/commit/", status=400)
    trainer = make_pushing(*icl, hub_strategy="every_save", hub_always_push=True)
    trainer.train()
    assert "A push during training failed" in caplog.text
    trainer.push_to_hub()
    assert isinstance(AutoModelForImageClassification.from_pretrained(REPO), type(icl[0]))


def test_without_the_callback_pushes_are_those_of_transformers_and_a_line_tells(hub, make_trainer, icl, caplog):
    trainer = make_trainer(*icl, push_to_hub=True, hub_model_id=REPO, num_train_epochs=1)
    trainer.train()
    assert caplog.text.count("`trainer.add_callback(CardCallback(trainer))`") == 1
    trainer.push_to_hub()
    assert caplog.text.count("`trainer.add_callback(CardCallback(trainer))`") == 2
    assert "generated automatically according to the information the Trainer had" in ModelCard.load(REPO).text
    assert isinstance(AutoModelForImageClassification.from_pretrained(REPO), type(icl[0]))


def test_what_push_to_hub_does_not_know_is_refused(make_pushing, icl):
    trainer = make_pushing(*icl)
    with pytest.raises(TypeError, match="licence"):
        trainer.push_to_hub(licence="mit")


def test_a_recipe_does_not_push_by_the_trainer():
    with pytest.raises(BadInputError, match="`tailmoe push RUN REPO` pushes a finished run"):
        load_recipe("quickstart", ["training.push_to_hub=true"])


@pytest.fixture(autouse=True)
def fresh_cache():
    """Models of the same name, from one test to the next, must not come from the cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    shutil.rmtree(HF_HUB_CACHE, ignore_errors=True)
