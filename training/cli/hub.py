"""The commands that write cards and data sets, and push them to the Hub."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from tailmoe.training.cli.options import (
    ClassDepth,
    ConfigName,
    CreatePR,
    ImageColumn,
    LabelColumn,
    Private,
    Revision,
    Run,
    given,
)
from tailmoe.training.errors import BadInputError

if TYPE_CHECKING:
    from tailmoe.hub_cards.repository import Pushed

Repo = Annotated[str, Argument(metavar="REPO", help="OWNER/NAME; created if it does not exist")]


def card(
    run: Run,
    repo_id: Annotated[
        str | None, Option(metavar="OWNER/NAME", help="the repository that the card's example loads from")
    ] = None,
) -> None:
    """Render the card of a finished run anew.

    README.md is made of its results and figures; nothing else in the folder
    changes.

    \b
      tailmoe card runs/quickstart
      tailmoe card runs/quickstart --repo-id me/icl-moe-fashion-mnist-lt
    """
    from tailmoe.hub_cards.model_card import write_card

    sys.stdout.write(f"{write_card(run, repo_id)}\n")


def push(
    run: Run, repo: Repo, private: Private = False, revision: Revision = None, create_pr: CreatePR = False
) -> None:
    """Push a finished run to the Hub, as one commit.

    That is weights, configuration, image processor, modeling code, card,
    results and figures. Before anything is sent, the files are listed and the
    model is loaded in a clean process, where it must answer as it does here.
    The repository then equals the run; pushing again changes nothing. The run
    itself is never changed; its baseline is a run of its own, in RUN/baseline.

    \b
      tailmoe push runs/quickstart me/icl-moe-birds
      tailmoe push runs/quickstart/baseline me/cross-entropy-birds --private
      tailmoe push runs/quickstart me/icl-moe-birds --create-pr

    A token that can write comes from `hf auth login` or HF_TOKEN.
    """
    from tailmoe.hub_cards.push import push_run

    _tell_pushed(push_run(run, repo, private, revision, create_pr))


def space(
    repo: Repo,
    model: Annotated[str, Option(metavar="REPO", help="the model's repository")],
    baseline: Annotated[str | None, Option(metavar="REPO", help="repository of the model to compare with")] = None,
    private: Private = False,
) -> None:
    """Push the demo of a model to the Hub, as a Space.

    The model is on the Hub, and pinned to the commit that its repository now
    has: repeat the command to move on. Pushing again changes nothing.

    \b
      tailmoe space me/what-each-expert-sees --model me/icl-moe-birds \\
          --baseline me/cross-entropy-birds
    """
    from tailmoe.hub_cards.space import push_space

    _tell_pushed(push_space(repo, model, baseline, private))


def data(
    name: Annotated[str, Argument(metavar="NAME|DIR|HUB_ID", help="data set to show, or to make splits of")],
    imbalance_factor: Annotated[
        list[float],
        Option(
            metavar="F...",
            help="largest class over smallest, one config for each; if left out, one config, the data as it is",
        ),
    ] = (),
    selection: Annotated[Literal["first", "shuffled"], Option(help="images kept")] = "first",
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    config_name: ConfigName = None,
    class_depth: ClassDepth = None,
    output_dir: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="folder written to",
            show_default="runs/data/NAME, with --imbalance-factor or --push",
        ),
    ] = None,
    push: Annotated[
        str | None, Option(metavar="REPO", help="push it to the Hub, as OWNER/NAME; created if it does not exist")
    ] = None,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePR = False,
) -> None:
    """Show what is understood of a data set, or make splits of it.

    What is shown can be checked before training: splits, classes with their
    images as bars, imbalance, shot groups, sizes, what was left out and why,
    images that are there twice or nearly so, and a recipe to begin with.
    Nothing is written.

    \b
      tailmoe data PATH/TO/IMAGES

    With --imbalance-factor, --output-dir or --push: long-tailed splits, as
    Parquet files with a card that plain `load_dataset` reads: one config for
    each imbalance factor, with the shot group and the number of training images
    of each row's class. Without --imbalance-factor the data stays as it is.
    Images of CIFAR-10, CIFAR-100 and MNIST are not copied: rows tell where in
    their source they are, and a script beside them puts the two together. The
    same command writes the same bytes.

    \b
      tailmoe data fashion_mnist --imbalance-factor 100 50 10
      tailmoe data cifar100 --imbalance-factor 100 --push me/cifar100-lt
      tailmoe data PATH/TO/IMAGES --push me/birds --private

    A push is one commit that makes the repository equal to the folder. A token
    that can write comes from `hf auth login` or HF_TOKEN.
    """
    if push is None and (private or revision or create_pr):
        raise BadInputError("`--private`, `--revision` and `--create-pr` are of a push: add `--push REPO`.")
    columns = given(
        image_column=image_column, label_column=label_column, config_name=config_name, class_depth=class_depth
    )
    if not imbalance_factor and output_dir is None and push is None:
        _show(name, columns)
        return
    from tailmoe.hub_cards.dataset import config_table, push_dataset, write_dataset

    folder = output_dir or Path("runs") / "data" / Path(name).resolve().name
    about = write_dataset(folder, name, imbalance_factor, selection=selection, **columns)
    sys.stdout.write(f"{config_table(about)}\n\nThe data set is in {folder}: README.md is its card.\n")
    if push is not None:
        _tell_pushed(push_dataset(folder, push, private, revision, create_pr))


def _show(name: str, columns: dict[str, str | int | None]) -> None:
    from tailmoe.hub_cards.images_table import images_report
    from tailmoe.training.data.inspection import inspect_images

    sys.stdout.write(f"{images_report(inspect_images(name, **columns))}\n")


def _tell_pushed(pushed: "Pushed") -> None:
    sys.stdout.write(f"{'Pushed' if pushed.changed else 'Nothing has changed'}: {pushed.url}\n")
