"""How the command line is read: words, help, and what is said of words that are wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tailmoe.training import cli
from tailmoe.training.recipe import load_recipe
from tailmoe.training.recipes.shipped import recipe_names

COMMANDS = [command.callback.__name__ for command in cli.app.registered_commands]


def said(capsys, *words):
    """The one line that a command line says that is wrong."""
    assert cli.main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tailmoe: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    "words",
    [
        ["quickstart", "--set", "data.wrong=1", "model.num_experts=2"],
        ["quickstart", "--set", "model.num_experts=2", "data.wrong=1"],
        ["quickstart", "--set", "model.num_experts=2", "--seed", "4", "--set", "data.wrong=1"],
        ["quickstart", "--set=model.num_experts=2", "--set=data.wrong=1"],
        ["--set", "model.num_experts=2", "data.wrong=1", "--seed", "4", "quickstart"],
    ],
)
def test_set_takes_several_keys_at_once_and_may_be_repeated(words, capsys):
    assert "`wrong` is not a key of `data`" in said(capsys, "train", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing command"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["--fast"], "No such option: --fast"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "quickstart", "finetune"], "unexpected extra argument(s) (finetune)"),
        (["train", "quickstart", "--sed", "1"], "No such option: --sed (Possible options: --seed, --set)"),
        (["train", "quickstart", "--seed", "one"], "Invalid value for '--seed': Input should be a valid integer"),
        (["train", "quickstart", "--seed", "one"], "got one"),
        (["train", "quickstart", "--seed"], "Option '--seed' requires an argument"),
        (["train", "quickstart", "--set"], "Option '--set' requires an argument"),
        (["train", "quickstart", "--set", "--resume"], "`--set --resume` must have the form section.key=value"),
        (["train", "quickstart", "--resume=yes"], "Option '--resume' does not take a value"),
        (["evaluate", "run", "--split", "tset"], "'tset' is not one of 'train', 'validation', 'test'"),
        (["evaluate", "run", "--early-exit-threshold", "0.5", "x"], "Invalid value for '--early-exit-threshold'"),
        (["evaluate", "run", "--early-exit-threshold", "0.5", "x"], "got x"),
        (["predict", "run"], "Missing argument 'IMAGE|FOLDER'"),
        (["space", "me/space"], "Missing option '--model'"),
        (["benchmark", "--device", "tpu"], "'tpu' is not one of 'cpu', 'cuda'"),
        (["demo", "--port", "1.5"], "got 1.5"),
    ],
)
def test_a_word_that_is_wrong_is_one_line_and_status_2(words, message, capsys):
    line = said(capsys, *words)
    assert message in line


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_teaches_with_an_example_in_80_columns(name, option, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*name.split(), option]) == 0
    shown = capsys.readouterr().out
    assert f"  tailmoe {name or 'train'} " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_list_of_commands_says_what_each_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in listed), "a summary is cut"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train"], ["recipe", "quickstart"]])
def test_help_recipes_and_wrong_words_do_not_wait_for_torch(words):
    script = (
        "import sys; from tailmoe.training.cli import main; main(sys.argv[1:]); "
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=Path.home(), capture_output=True)
    assert done.returncode == 0


@pytest.mark.parametrize("start", [["-m", "tailmoe.training.cli"], [str(Path(sys.executable).with_name("tailmoe"))]])
def test_the_command_and_the_module_end_with_the_status(start):
    for words, status in ((["recipe"], 0), (["recipe", "quikstart"], 2)):
        program = [sys.executable, *start] if start[0] == "-m" else start
        assert subprocess.run([*program, *words], capture_output=True).returncode == status


def test_ctrl_c_is_one_line_and_status_130(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tailmoe.training.recipe.load_recipe", interrupt)
    assert cli.main(["train", "quickstart"]) == 130
    assert capsys.readouterr().err == "tailmoe: interrupted.\n"


# recipe


@pytest.mark.parametrize("name", ["quickstart", "icl-cifar100-lt-50", "snnl-fashion-mnist-lt-10"])
def test_a_recipe_that_is_printed_is_a_file_that_trains_alike(name, tmp_path, capsys):
    assert cli.main(["recipe", name]) == 0
    (tmp_path / f"{name}.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / f"{name}.yaml")) == load_recipe(name)


def test_a_recipe_is_printed_in_the_order_of_recipes_with_the_remarks_of_its_file(capsys):
    assert cli.main(["recipe", "snnl-mnist"]) == 0
    shown = capsys.readouterr().out
    assert list(yaml.safe_load(shown)) == [
        "title",
        "description",
        "model",
        "data",
        "training",
        "objective",
        "baseline",
    ]
    assert "hidden_sizes: [16, 32, 64, 128]" in shown
    assert cli.main(["recipe", "finetune"]) == 0
    assert "\n#" in f"\n{capsys.readouterr().out}"


def test_recipes_are_listed_with_their_titles_one_line_each(capsys):
    assert cli.main(["recipe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    (line,) = (line for line in lines if line.startswith("snnl-cifar10 "))
    assert line.endswith(
        "  SNNL-MoE: A mixture of four experts on features untangled by the soft nearest neighbour loss."
    )


def test_a_recipe_that_does_not_exist_is_answered_with_the_nearest(capsys):
    assert "did you mean `quickstart`" in said(capsys, "recipe", "quikstart")
    assert "Recipe `mine.yaml` cannot be read" in said(capsys, "recipe", "mine.yaml")
