"""Options that several commands have, and how a command line is read."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Context, Option
from typer.core import TyperCommand

from tailmoe.training.errors import BadInputError
from tailmoe.training.logs import set_up_logging
from tailmoe.training.trainer.memory import keep_freed_memory

Model = Annotated[str, Argument(metavar="MODEL", help="folder of a run, or a Hub id")]
Run = Annotated[str, Argument(metavar="RUN", help="folder of a finished run")]
RecipeName = Annotated[str, Argument(metavar="RECIPE", help="name of a recipe, or a YAML file")]
Overrides = Annotated[list[str], Option("--set", metavar="KEY=VALUE...", help="change keys of the recipe")]
Json = Annotated[Path | None, Option(metavar="FILE", help="also write all of it as JSON")]
Csv = Annotated[Path | None, Option(metavar="FILE", help="write a table with one row an image")]
OnBadImage = Annotated[
    Literal["error", "skip"], Option(help="stop at an image that cannot be read, or leave it out and name it")
]
Backend = Annotated[
    Literal["torch", "onnx"],
    Option(help="what runs the model; onnx keeps its export in MODEL/onnx for the next time"),
]
ImageColumn = Annotated[str | None, Option(metavar="NAME", help="column of the images, when several could be meant")]
LabelColumn = Annotated[str | None, Option(metavar="NAME", help="column of the labels, when several could be meant")]
ConfigName = Annotated[str | None, Option(metavar="NAME", help="config of a data set on the Hub that has several")]
ClassDepth = Annotated[int | None, Option(metavar="N", help="folders that name a class, 2: a/b", show_default="1")]
Seeds = Annotated[str, Option(metavar="SEEDS", help="such as 0..4 or 0,3,7")]
Jobs = Annotated[int, Option(metavar="N", help="trainings side by side, sharing the cores")]
TimeLimit = Annotated[
    str | None,
    Option(metavar="TIME", help="save and stop after this time, such as 2h30m or 45m; the same command goes on"),
]
Private = Annotated[bool, Option("--private", help="make a repository that is created private")]
Revision = Annotated[
    str | None, Option(metavar="BRANCH", help="branch to push to; created if missing", show_default="main")
]
CreatePR = Annotated[bool, Option("--create-pr", help="open a pull request instead of a commit")]


class Command(TyperCommand):
    """A command of images and models; options of several values take them at once, `--set a=1 b=2`, or one by one."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        options = [param for param in self.params if param.param_type_name == "option"]
        several = {name for option in options if option.multiple for name in option.opts}
        return super().parse_args(ctx, list(_one_by_one(args, several)))

    def invoke(self, ctx: Context) -> None:
        set_up_logging()  # imports the libraries that it silences: not before the command line is right
        keep_freed_memory()
        super().invoke(ctx)


def _one_by_one(words: Iterable[str], several: set[str]) -> Iterator[str]:
    """`--set a=1 b=2` as `--set a=1 --set b=2`."""
    option = last = None
    for word in words:
        if word.startswith("-"):
            option = word if word in several else None
        elif option is not None and last != option:
            yield option
        yield word
        last = word


def read_seeds(text: str) -> list[int]:
    """Different seeds, of `0..4` or `0,3,7`; raises `BadInputError` for another form."""
    try:
        if ".." in text:
            first, last = (int(part) for part in text.split(".."))
            seeds = list(range(first, last + 1))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise BadInputError(f"`--seeds`: seeds must look like 0..4 or 0,3,7, got {text}.")
    return seeds


def read_seconds(text: str | None) -> float | None:
    """Seconds, of `2h30m`; raises `BadInputError` for another form."""
    if text is None:
        return None
    parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0, 0)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise BadInputError(f"`--time-limit`: a time must look like 2h30m, 45m or 1d12h, got {text}.")
    return float(total)


def given(**values: str | int | None) -> dict[str, str | int]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def write_json(path: Path | None, content: object) -> None:
    """Write what a command found where its `--json` says, if it does."""
    import json

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
