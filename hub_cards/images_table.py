"""What is understood of a data set, as lines for a person who checks it before training."""

from tailmoe.hub_cards.results_table import format_table
from tailmoe.training.data.tree import printable, some


def images_report(about: dict) -> str:
    """Splits, classes with their images, what is left out and what is there twice; `about` is of `inspect_images`."""
    splits = [{"split": split, **_sizes(counts)} for split, counts in about["splits"].items()]
    names = dict.fromkeys(name for counts in about["splits"].values() for name in counts)
    classes = [
        {"class": printable(name)} | {split: f"{counts.get(name, 0):,}" for split, counts in about["splits"].items()}
        for name in names
    ]
    parts = [format_table(splits), "\n".join(_notes(about)), format_table(classes)]
    return "\n\n".join(part for part in parts if part)


def _sizes(counts: dict[str, int]) -> dict[str, str]:
    sizes = [count for count in counts.values() if count]
    return {
        "images": f"{sum(sizes):,}",
        "classes": f"{len(sizes):,}",
        "largest": f"{max(sizes):,}",
        "smallest": f"{min(sizes):,}",
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
    for way, (number, (first, second)) in about["repeated"].items():
        notes.append(f"The same image {way}: {number:,}, such as {printable(first)} and {printable(second)}.")
    if not about["repeated"]:
        notes.append("No image is there twice, byte for byte.")
    return notes
