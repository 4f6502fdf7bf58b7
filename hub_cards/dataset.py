"""Long-tailed data sets as complete repositories: Parquet files, card and figure; and their pushes to the Hub."""

import json
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import datasets
from huggingface_hub import DatasetCard, DatasetCardData

from tailmoe.hub_cards import markdown
from tailmoe.hub_cards.repository import Pushed, Repository, check_repo_id
from tailmoe.hub_cards.results_table import LISTED_CLASSES, format_table
from tailmoe.hub_cards.template import TEMPLATES, render
from tailmoe.training.data import parquet, sources
from tailmoe.training.data.shot_groups import ShotBounds, shot_groups
from tailmoe.training.errors import BadInputError
from tailmoe.training.figures.data import class_counts_figure

FIGURE = "figures/class_counts.png"
BUILDER = "build.py"
FASHION_MNIST = "zalando-datasets/fashion_mnist"
LICENSE_FILE = Path(sources.__file__).parent / sources.EMBEDDED / "LICENSE"  # FashionMNIST's
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def write_dataset(
    folder: Path, name: str, imbalance_factors: Sequence[float] = (), **options: str | int | None
) -> dict:
    """Write a data set's folder, complete with card, in place of one that was written before.

    Args:
        folder: Written to.
        name, imbalance_factors: As in `write_splits`.
        **options: Further arguments of `write_splits`.

    Returns:
        The content of its `splits.json`.

    Raises:
        BadInputError: As `write_splits`, or if the folder holds anything else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / parquet.SPLITS_NAME).is_file():
        raise BadInputError(f"{folder} is not empty and holds no data set of ours: give another --output-dir.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        written = Path(temporary) / "written"
        (written / "figures").mkdir(parents=True)
        about = parquet.write_splits(written, name, imbalance_factors, **options)
        counts_of = {_spoken(config): each["class_counts"] for config, each in about["configs"].items()}
        bounds = {ShotBounds(**each["shot_bounds"]) for each in about["configs"].values()}
        class_counts_figure(
            counts_of, about["label_names"], written / FIGURE, bounds.pop() if len(bounds) == 1 else None
        )
        if about["indexed"]:
            shutil.copyfile(TEMPLATES / BUILDER, written / BUILDER)
        elif about["source"] == FASHION_MNIST:
            shutil.copyfile(LICENSE_FILE, written / "LICENSE")
        render_dataset_card(about).save(written / "README.md")
        if folder.exists():
            shutil.rmtree(folder)
        written.rename(folder)
    return about


def push_dataset(
    folder: Path, repo_id: str, private: bool = False, revision: str | None = None, create_pr: bool = False
) -> Pushed:
    """Push a data set's folder as one commit that makes the repository equal to it.

    Args:
        folder: As `write_dataset` leaves it; it is not changed.
        repo_id: `owner/name`.
        private, revision, create_pr: As in `Repository`.

    Raises:
        BadInputError: As `Repository.push`, if a config does not load, or if the repository holds Parquet files of other
            configs, which the push would delete.
    """
    check_repo_id(repo_id)
    about = json.loads((folder / parquet.SPLITS_NAME).read_text(encoding="utf-8"))

    def keep_other_configs(deleted: list[str]) -> None:
        others = sorted(Path(name).parent.as_posix() for name in deleted if name.endswith(".parquet"))
        if others:
            raise BadInputError(
                f"{repo_id} holds `{others[0]}`, which this push would delete: give all imbalance factors at once, or "
                "push to another repository."
            )

    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "staged"
        shutil.copytree(folder, staged)
        render_dataset_card(about, repo_id).save(staged / "README.md")
        for config, each in about["configs"].items():
            _check_loads(staged, config, each)
        names = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
        repository = Repository(repo_id, "dataset", private, revision, create_pr)
        return repository.push(staged, names, f"Push of {about['name']}", keep_other_configs)


def _check_loads(folder: Path, config: str, about: dict) -> None:
    """Raise unless plain `load_dataset` finds all rows of a config."""
    with tempfile.TemporaryDirectory() as cache:
        splits = datasets.load_dataset(str(folder), config, cache_dir=cache)
        found = {split: len(rows) for split, rows in splits.items()}
    if found != {"train": about["num_train"], "test": about["num_test"]}:
        raise BadInputError(
            f"Config `{config}` does not load as it was written, but with {found} rows: write it anew."
        )


def render_dataset_card(about: dict, repo_id: str | None = None) -> DatasetCard:
    """Render the card of a data set.

    Args:
        about: Content of its `splits.json`.
        repo_id: `owner/name` on the Hub, for the title and the examples; its folder if None.
    """
    content = render(
        "dataset_card.md",
        card_data=_card_data(about, repo_id).to_yaml(),
        title=_title(about, repo_id),
        repo_id=repo_id,
        about=about,
        figure=FIGURE,
        first_config=next(iter(about["configs"])),
        config_table=config_table(about, as_markdown=True),
        shot_captions=_shot_captions(about),
        class_table=_class_table(about),
        command=_command(about),
        has_license=about["source"] == FASHION_MNIST,
    )
    return DatasetCard(content)


def _title(about: dict, repo_id: str | None) -> str:
    return f"{about['name']}, long-tailed" if repo_id is None else repo_id.rpartition("/")[2]


def _card_data(about: dict, repo_id: str | None) -> DatasetCardData:
    largest = max(each["num_train"] + each["num_test"] for each in about["configs"].values())
    return DatasetCardData(
        license=_license(about),
        task_categories=["image-classification"],
        size_categories=next((size for limit, size in SIZES.items() if largest < limit), "n>1M"),
        source_datasets=None if about["source"] is None else [about["source"]],
        pretty_name=markdown.one_line(_title(about, repo_id)),
        tags=["tailmoe", "long-tailed", "class-imbalance"],
        configs=[
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}.parquet"} for split in ("train", "test")],
            }
            for config in about["configs"]
        ],
    )


def _license(about: dict) -> str | None:
    if about["source"] == FASHION_MNIST:
        return "mit"
    return "unknown" if about["indexed"] else None


def _spoken(config: str) -> str:
    return config.replace("_", " ")


def _command(about: dict) -> str:
    factors = [f"{factor:g}" for factor in about["imbalance_factors"]]
    selection = ["--selection", about["selection"]] if about["selection"] != "first" else []
    return shlex.join(
        ["tailmoe", "data", about["name"], *(["--imbalance-factor", *factors] if factors else []), *selection]
    )


def config_table(about: dict, as_markdown: bool = False) -> str:
    """The configs of a data set, with their images and their classes of each shot group."""
    rows = [
        {
            "config": config,
            "training images": f"{each['num_train']:,}",
            "test images": f"{each['num_test']:,}",
            "largest class": f"{max(each['class_counts']):,}",
            "smallest": f"{min(each['class_counts']):,}",
            **_group_sizes(each),
        }
        for config, each in about["configs"].items()
    ]
    return format_table(rows, as_markdown)


def _group_sizes(config: dict) -> dict[str, str]:
    groups = shot_groups(config["class_counts"], ShotBounds(**config["shot_bounds"]))
    return {group: str(len(members)) for group, members in groups.items()}


def _shot_captions(about: dict) -> list[str]:
    """What many, medium and few mean: once where it is the same for all configs, else for each."""
    captions = {config: ShotBounds(**each["shot_bounds"]).caption for config, each in about["configs"].items()}
    if len(set(captions.values())) == 1:
        return [*captions.values()][:1]
    return [f"in `{config}` {caption}" for config, caption in captions.items()]


def _class_table(about: dict) -> str | None:
    names = about["label_names"]
    if len(names) > LISTED_CLASSES:
        return None
    rows = [
        {"class": markdown.plain(name)}
        | {_spoken(config): f"{each['class_counts'][c]:,}" for config, each in about["configs"].items()}
        for c, name in enumerate(names)
    ]
    return format_table(rows, markdown=True)
