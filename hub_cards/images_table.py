"""What is understood of a data set, as lines for a person who checks it before training."""

import math
import shlex

from tailmoe.hub_cards.results_table import format_table
from tailmoe.training.data.shot_groups import ShotBounds, shot_groups
from tailmoe.training.data.tree import printable, some

BAR = 40  # characters of the largest class
LARGEST_FROM_SCRATCH = 64  # pixels


def images_report(about: dict) -> str:
    """What a person looks at before training; `about` is of `inspect_images`.

    Told are the splits, what is left out, what is there twice or nearly so, sizes and modes, classes with their images as bars,
    the largest first, and the command that trains on them.
    """
    splits = [{"split": split, **_sizes(counts)} for split, counts in about["splits"].items()]
    parts = [format_table(splits), "\n".join(_notes(about)), _classes(about["splits"]), _command(about)]
    return "\n\n".join(part for part in parts if part)


def _classes(splits: dict[str, dict[str, int]]) -> str:
    """A line for each class: its images in each split, its shot group, and a bar as long as its training images are many."""
    names = dict.fromkeys(name for counts in splits.values() for name in counts)
    main = splits.get("train") or next(iter(splits.values()))
    counts = [main.get(name, 0) for name in names]
    groups = shot_groups(counts)
    group_of = {label: group for group, labels in groups.items() for label in labels}
    order = sorted(enumerate(names), key=lambda each: -counts[each[0]])
    rows = [
        {"class": printable(name)}
        | {split: f"{numbers.get(name, 0):,}" for split, numbers in splits.items()}
        | {"shot": group_of[label]}
        for label, name in order
    ]
    lines = format_table(rows).split("\n")
    width = max(map(len, lines)) + 2
    bars = ["", "", *("#" * math.ceil(BAR * counts[label] / max(counts)) for label, _ in order)]
    return "\n".join(f"{line:<{width}}{bar}".rstrip() for line, bar in zip(lines, bars, strict=True))


def _command(about: dict) -> str:
    """How to train on the images: photographs from a pretrained backbone, small images from scratch."""
    train = about["splits"].get("train", {})
    if sum(count > 0 for count in train.values()) < 2 or about["sizes"] is None:
        return ""
    keys = {"name": about["name"], **about["options"]}
    data, side = " ".join(shlex.quote(f"data.{key}={value}") for key, value in keys.items()), max(about["sizes"][1])
    if side > LARGEST_FROM_SCRATCH:
        return (
            "To begin with, a pretrained backbone:\n"
            f"  tailmoe train finetune --set {data} model.backbone=facebook/convnextv2-tiny-22k-224"
        )
    channels = 1 if {*about["modes"]} <= {"1", "L", "LA", "I", "I;16", "F"} else 3
    return (
        "To begin with, from scratch, as the images are small:\n"
        f"  tailmoe train quickstart --set {data} model.num_channels={channels} model.image_size={max(side, 28)}"
    )


def _sizes(counts: dict[str, int]) -> dict[str, str]:
    sizes = [count for count in counts.values() if count]
    return {
        "images": f"{sum(sizes):,}",
        "classes": f"{len(sizes):,}",
        "largest": f"{max(sizes):,}",
        "smallest": f"{min(sizes):,}",
        "imbalance": f"{max(sizes) / min(sizes):,.1f}",
    }


def _notes(about: dict) -> list[str]:
    notes = [f"The split {split} has no labels ({number:,} images)." for split, number in about["unlabelled"].items()]
    if "train" not in about["splits"]:
        notes.append("There is no training split.")
    elif not {"validation", "test"} & {*about["splits"]}:
        notes.append(
            "There is no test split: training holds out a fifth of each class, `evaluate` measures all images."
        )
    notes += [
        f"Left out: images {reason} ({len(paths):,}): {some(paths)}." for reason, paths in about["left_out"].items()
    ]
    if about["num_others"]:
        notes.append(f"Files that are no images: {about['num_others']:,}.")
    notes += _notes_on_classes(about["splits"].get("train", {}))
    if (unread := about["unread"]) is not None:
        notes.append(f"Images that cannot be read: {unread[0]:,}, such as {printable(unread[1])}.")
    notes += _notes_on_looks(about)
    for way, (number, (first, second)) in about["repeated"].items():
        notes.append(f"The same image {way}: {number:,}, such as {printable(first)} and {printable(second)}.")
    if not about["repeated"]:
        notes.append("No image is there twice, byte for byte.")
    for way, (number, (first, second)) in about["near"].items():
        notes.append(
            f"Near duplicates {way}: {number:,} {'pair' if number == 1 else 'pairs'}, such as {printable(first)} and {printable(second)}."
        )
    return notes


def _notes_on_classes(train: dict[str, int]) -> list[str]:
    sizes = {name: count for name, count in train.items() if count}
    if len(sizes) == 1:
        return [f"All training images are of one class, {printable(next(iter(sizes)))}: training needs two."]
    if not sizes:
        return []
    bounds = ShotBounds.of([*train.values()])
    numbers = {group: len(labels) for group, labels in shot_groups([*train.values()], bounds).items()}
    told = ", ".join(f"{number} {group}-shot ({bounds.ranges[group]})" for group, number in numbers.items())
    return [f"Classes by their training images: {told}."]


def _notes_on_looks(about: dict) -> list[str]:
    if about["sizes"] is None:
        return []
    least, median, greatest = ("x".join(map(str, size)) for size in about["sizes"])
    sizes = f"all {median}" if least == greatest else f"{least} to {greatest}, median {median}"
    modes = ", ".join(f"{mode} {number:,}" for mode, number in about["modes"].items())
    return [f"Sizes in pixels, width x height: {sizes}. Modes: {modes}."]
