"""The code in `hub_cards/models` is that of `modeling/`, and takes its place only where a model answers as before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up import made_up_run
from transformers import AutoModelForImageClassification

import tailmoe.modeling
from tailmoe.hub_cards.clean_process import logits_in_clean_process
from tailmoe.hub_cards.fixed_images import fixed_images, how_made, logits_of
from tailmoe.hub_cards.published_models import main, save_anew
from tailmoe.training.errors import BadInputError
from tailmoe.training.results.results import FixedImages, RunResults

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path for path in (ROOT / "hub_cards" / "models").iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_published_folder_has_the_present_code_which_answers_as_its_results_tell(folder, tmp_path):
    save_anew(folder, tmp_path)
    code = {path.name: path.read_bytes() for path in folder.glob("*.py")}
    assert code == {path.name: path.read_bytes() for path in tmp_path.glob("*.py")}, "run `make models`"
    assert code == {name: (ROOT / "modeling" / name).read_bytes() for name in code}
    expected = RunResults.load(folder / "results.json").fixed_images
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert expected.made == how_made(model.config)
    torch.testing.assert_close(logits_of(model), torch.tensor(expected.logits), rtol=1e-5, atol=1e-5)


def test_a_published_folder_answers_the_same_where_there_is_no_tailmoe():
    expected = RunResults.load(FOLDERS[0] / "results.json").fixed_images
    logits = logits_in_clean_process(FOLDERS[0])
    torch.testing.assert_close(logits, torch.tensor(expected.logits), rtol=1e-5, atol=1e-5)


def test_the_words_for_the_images_make_them():
    config = tailmoe.modeling.SNNLMoEConfig(num_channels=1, image_size=8)
    assert torch.equal(eval(how_made(config)), fixed_images(config))


@pytest.fixture
def models(tmp_path):
    """A folder of one tiny model, published with the code of today but for a comment and a file that is there no more."""
    torch.manual_seed(0)
    config = tailmoe.modeling.ICLMoEConfig(
        num_channels=1, image_size=8, hidden_sizes=[4, 8], depths=[1, 1], num_experts=2, num_labels=3
    )
    folder = tmp_path / "models" / "tiny"
    tailmoe.modeling.ICLMoEForImageClassification(config).save_pretrained(folder)
    tailmoe.modeling.TailMoEImageProcessor(num_channels=1, size={"height": 8, "width": 8}).save_pretrained(folder)
    made_up_run().save(folder / "results.json")
    path = folder / "layers.py"
    path.write_text(f"{path.read_text()}# an older file\n")
    (folder / "gone.py").write_text("")
    return tmp_path / "models"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fails(capsys, models):
    with pytest.raises(SystemExit) as stop:
        main([str(models)])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_folder_gets_the_present_code_its_logits_and_a_card(models, capsys):
    main([str(models)])
    assert capsys.readouterr().out == "1 models have the present code.\n"
    folder = models / "tiny"
    assert "an older file" not in (folder / "layers.py").read_text()
    assert not (folder / "gone.py").exists()
    assert "# quickstart" in (folder / "README.md").read_text()
    results = RunResults.load(folder / "results.json")
    assert replace(results, fixed_images=None) == made_up_run()
    assert torch.tensor(results.fixed_images.logits).shape == (2, 3)


def test_code_that_changes_an_answer_changes_no_folder(models, capsys):
    folder = models / "tiny"
    model = AutoModelForImageClassification.from_pretrained(folder)
    changed = FixedImages(made=how_made(model.config), logits=(logits_of(model) + 3e-4).tolist())
    made_up_run(fixed_images=changed).save(folder / "results.json")
    before = contents(folder)
    assert "tiny` answers: its logits differ by 0.0003. Mend the code" in fails(capsys, models)
    assert contents(folder) == before


def test_a_folder_that_does_not_load_or_holds_no_run_is_named(models, capsys, tmp_path):
    (models / "tiny" / "layers.py").write_text("import nothing_that_exists\n")
    assert "tiny` does not load by the code that lies in it: " in fails(capsys, models)
    (models / "tiny" / "results.json").write_text("{}")
    assert "tiny/results.json` cannot be read as the results of a run" in fails(capsys, models)
    assert "No such file or directory" in fails(capsys, tmp_path / "nowhere")


def test_weights_that_do_not_load_by_the_present_code_are_named(models, tmp_path):
    (models / "tiny" / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadInputError, match="tiny` does not load by the present code: "):
        save_anew(models / "tiny", tmp_path / "new")
