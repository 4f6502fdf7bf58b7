"""What a training shows of itself: a line an epoch, no dictionaries, a bar on a terminal alone."""

import re
import sys

import pytest
from transformers import ProgressCallback

NUMBER = r"[-+.\de]+"
EPOCH = (
    rf"epoch [12]/2 +(50|100)%   loss {NUMBER} +learning rate {NUMBER} +[\d,]+ images/s +\d+s left   "
    rf"competition {NUMBER}, collaboration {NUMBER}(, diversity {NUMBER})?(, contrast {NUMBER})?(, balance {NUMBER})?"
)
EVALUATION = rf"evaluation   loss {NUMBER}, accuracy {NUMBER}, balanced_accuracy {NUMBER}, .*, ece {NUMBER}"


@pytest.fixture
def shown(make_trainer, icl, capsys):
    """All that a training of two epochs writes, with an evaluation after each."""

    def train(**options):
        trainer = make_trainer(*icl, num_train_epochs=2, eval_strategy="epoch", **options)
        capsys.readouterr()
        trainer.train()
        return "".join(capsys.readouterr())

    return train


@pytest.mark.parametrize("disable_tqdm", [False, True])
def test_each_epoch_and_each_evaluation_is_one_line_in_columns(shown, disable_tqdm):
    lines = shown(disable_tqdm=disable_tqdm).splitlines()
    assert len(lines) == 4, lines
    for line, pattern in zip(lines, [EPOCH, EVALUATION] * 2, strict=True):
        assert re.fullmatch(pattern, line), line
    assert lines[0].index("learning rate") == lines[2].index("learning rate")
    assert lines[0].index("images/s") == lines[2].index("images/s")
    assert lines[0].index("competition") == lines[2].index("competition")


def test_a_terminal_has_a_bar_too_unless_it_is_switched_off(shown, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with_bar = shown(disable_tqdm=False)
    assert "10/10" in with_bar
    assert "{" not in with_bar
    assert with_bar.count("epoch ") == 2
    assert "10/10" not in shown(disable_tqdm=True)


def test_callbacks_of_the_user_stay(make_trainer, icl):
    class Mine(ProgressCallback):
        pass

    mine = Mine()
    trainer = make_trainer(*icl, callbacks=[mine])
    assert mine in trainer.callback_handler.callbacks


def test_an_evaluation_alone_is_a_line(make_trainer, icl, capsys):
    trainer = make_trainer(*icl)
    capsys.readouterr()
    trainer.evaluate()
    assert re.fullmatch(EVALUATION + "\n", "".join(capsys.readouterr()))
