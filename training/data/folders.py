"""Folders of images: which folder is a split, which a class, and which images lie in neither."""

import logging
import os
from pathlib import Path

import datasets
import pyarrow

from tailmoe.training.data.tree import LeftOut, Tree, some
from tailmoe.training.errors import BadInputError

logger = logging.getLogger(__name__)
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
OUTSIDE = "outside the class folders"
BESIDE = "beside the folders of the splits"


def split_folders(top: Tree, left_out: LeftOut) -> dict[str, Tree]:
    """The folders of the splits by their names alone; `{}` if the classes lie in `top` itself.

    A folder is a split if it has the name of one and the classes are folders in it: a class may have that name too.

    Raises:
        BadInputError: If two folders are of one split, or a folder can be a split or a class.
    """
    used = {name: tree for name, tree in top.folders.items() if tree.has_images()}
    named = {name: tree for name, tree in used.items() if name.lower() in SPLIT_OF}
    whole = [name for name, tree in named.items() if tree.has_classes()]
    others = [name for name in used if name not in named]
    if not named or (others and not whole):
        return {}
    if others and len(whole) == 1:
        raise BadInputError(
            f"In `{top.path}`, {whole[0]} may be a split, or a class beside {others[0]}: move {others[0]} elsewhere, or put "
            "the class folders into a folder `train`."
        )
    splits: dict[str, Tree] = {}
    for name, tree in named.items():
        split = SPLIT_OF[name.lower()]
        if split in splits:
            raise BadInputError(
                f"`{top.path}` holds {Path(splits[split].path).name} and {name}: keep one of them there."
            )
        splits[split] = tree
    left_out.add(BESIDE, [*top.images, *(image for name in others for image in used[name].all_images())])
    return splits


def top_of(tree: Tree) -> Tree:
    """The folder that holds the splits or classes: one that holds nothing but a folder with splits is passed over."""
    top = tree
    while not top.images:
        used = [folder for folder in top.folders.values() if folder.has_images()]
        if len(used) != 1 or Path(used[0].path).name.lower() in SPLIT_OF:
            break
        top = used[0]
    return top if split_folders(top, LeftOut()) else tree


def label_images(tree: Tree, class_depth: int, left_out: LeftOut) -> tuple[list[str], list[str]]:
    """The images below a split, in the order of their paths, and the class of each: the names of its first folders.

    Raises:
        BadInputError: If an image lies in fewer folders than `class_depth`.
    """
    left_out.add(OUTSIDE, tree.images)
    rows, deeper, empty = [], [], []
    for name, folder in tree.folders.items():
        if not folder.has_images():
            empty.append(name)
        for image in folder.all_images():
            parts = image[len(tree.path) :].strip(os.sep).split(os.sep)[:-1]
            if len(parts) < class_depth:
                raise BadInputError(
                    f"`class_depth` is {class_depth}, and {image} lies in {len(parts)} folder below {tree.path}: move it."
                )
            if len(parts) > class_depth:
                deeper.append(image)
            rows.append((image, "/".join(parts[:class_depth])))
    if deeper:
        logger.info(
            "%d images lie in folders below those of their classes (%s) and belong to these; "
            "`data.class_depth=%d` makes a class of each folder.",
            *(len(deeper), some(deeper), class_depth + 1),
        )
    if empty:
        logger.warning("No image is read in %s of %s", some(empty), tree.path)
    rows.sort()
    return [image for image, _ in rows], [label for _, label in rows]


def read_folder(top: Tree, class_depth: int, left_out: LeftOut) -> tuple[dict[str, datasets.Dataset], bool]:
    """The images of a folder by split, with the columns `image` and `label`, and whether it has folders of splits.

    Raises:
        BadInputError: As `split_folders` and `label_images`; if there is no class folder, if all images are of one class
            whose folder holds folders alone.
    """
    if class_depth < 1:
        raise BadInputError(f"`class_depth` must be at least 1, got {class_depth}.")
    top = top_of(top)
    trees = split_folders(top, left_out)
    if not trees:
        _check_no_splits_in_classes(top)
    found = {split: label_images(tree, class_depth, left_out) for split, tree in (trees or {"train": top}).items()}
    found = {split: rows for split, rows in found.items() if rows[0]}
    if not found:
        raise BadInputError(
            f"The label column is none of image: the images of `{top.path}`, such as {next(top.all_images())}, lie in no "
            "class folders; give a table of their labels, or sort the images into folders train/<class>."
        )
    names = sorted({label for _, labels in found.values() for label in labels})
    if "train" in found:
        _check_no_folder_around_classes(names, trees.get("train", top), class_depth)
    return {split: image_rows(*rows, names) for split, rows in found.items()}, bool(trees)


def _check_no_splits_in_classes(top: Tree) -> None:
    below = {name for folder in top.folders.values() for name, tree in folder.folders.items() if tree.has_images()}
    direct = any(folder.images for folder in top.folders.values())
    if below and not direct and all(name.lower() in SPLIT_OF for name in below):
        raise BadInputError(
            f"In `{top.path}`, the splits ({', '.join(sorted(below))}) lie in the class folders: sort the images into folders "
            "train/<class> and test/<class>."
        )


def _check_no_folder_around_classes(names: list[str], train: Tree, class_depth: int) -> None:
    if len(names) == 1 and class_depth == 1 and not train.folders[names[0]].images:
        raise BadInputError(
            f"All images lie in {train.folders[names[0]].path}, which would be the only class: give the folder that holds the "
            "class folders, or `--set data.class_depth=2`."
        )


def image_rows(images: list[str], labels: list[str], names: list[str]) -> datasets.Dataset:
    """A data set of image files and their classes."""
    index = {name: number for number, name in enumerate(names)}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    columns = {
        "image": image_paths(images),
        "label": pyarrow.array([index[label] for label in labels], type=pyarrow.int64()),
    }
    return datasets.Dataset(pyarrow.table(columns), info=datasets.DatasetInfo(features=features))


def image_paths(images: list[str]) -> pyarrow.Array:
    """Paths as `datasets` stores images."""
    paths = pyarrow.array(images, type=pyarrow.string())
    return pyarrow.StructArray.from_arrays(
        [pyarrow.nulls(len(images), pyarrow.binary()), paths], names=["bytes", "path"]
    )
