"""The command `tailmoe`: each function in this package is a command, its signature the options, its docstring the help.

What a command needs is imported inside it, so that `--help` waits for no other command's packages.
"""

import sys

from typer import Typer, TyperException

from tailmoe.training.cli.hub import card, data, push, space
from tailmoe.training.cli.options import Command
from tailmoe.training.cli.prediction import demo, evaluate, predict
from tailmoe.training.cli.speed import benchmark
from tailmoe.training.cli.studies import ablation, compare, study
from tailmoe.training.cli.training import recipe, train
from tailmoe.training.errors import EXPECTED, exit_status


def tailmoe() -> None:
    """Long-tailed image classification with mixtures of experts.

    \b
    tailmoe train quickstart               train ICL-MoE and plain cross-entropy
                                           on images that ship with it
    tailmoe data PATH/TO/IMAGES            what is understood of a folder of
                                           images, before training
    tailmoe evaluate runs/quickstart       metrics of a trained model on its
                                           test images
    tailmoe predict runs/quickstart a.png  labels, probabilities and each
                                           expert's view
    tailmoe study quickstart --seeds 0..2  many seeds: mean, standard deviation
    tailmoe push runs/quickstart ME/MODEL  the model to the Hub, with its card
    tailmoe benchmark                      how fast this machine trains and
                                           predicts

    `tailmoe COMMAND --help` explains each command.
    """


app = Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(tailmoe)
app.command()(recipe)
for _command in (train, evaluate, predict, card, push, space, data, demo, benchmark, study, ablation, compare):
    app.command(cls=Command)(_command)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 or that of the error, see `tailmoe.training.errors`."""
    try:
        status = app(argv, prog_name="tailmoe", standalone_mode=False) or 0
        told = "interrupted." if status == exit_status(KeyboardInterrupt()) else None  # typer returns it
    except TyperException as error:
        told, status = f"{_of_usage(error)} See `tailmoe COMMAND --help`.", error.exit_code
    except EXPECTED as error:
        told, status = str(error), exit_status(error)
    if told is not None:
        sys.stderr.write(f"tailmoe: {' '.join(told.split())}\n")
    return status


def _of_usage(error: TyperException) -> str:
    """What is wrong with a word of the command line, with the word: where it is no number, typer leaves it out."""
    from pydantic import ValidationError

    told, cause = error.format_message(), error.__cause__
    if isinstance(cause, ValidationError) and (value := str(cause.errors()[0]["input"])) not in told.split("'"):
        told += f", got {value}."
    return told
