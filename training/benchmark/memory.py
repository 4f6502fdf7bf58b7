"""How much memory training takes against the size of the data set, on made-up folders with the layout of large ones."""

import io
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import psutil
from matplotlib.figure import Figure
from PIL import Image

from tailmoe.training.figures.style import COLOURS, DPI, open_axes
from tailmoe.training.results.environment import peak_memory_gb

SIZES = (10_000, 20_000, 40_000)
SIDE, BATCH, STEPS, WARM_UP, TEST = 64, 64, 30, 10, 500
BACKBONE = (
    "{model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1], layer_type: basic}"
)
# recipe, classes, what the images are read from, and changes of the recipe
LAYOUTS = {
    "imagenet-lt, files": ("imagenet-lt", 1000, "files", []),
    "inaturalist2018, files": ("inaturalist2018", 8142, "files", []),
    "imagenet-lt, streamed Parquet": ("imagenet-lt", 1000, "parquet", ["data.streaming=true"]),
    "imagenet-lt, decoded at once": ("imagenet-lt", 1000, "files", ["training.image_memory_share=1"]),
}
LISTS = {"imagenet-lt": ("ImageNet_LT_train.txt", "ImageNet_LT_test.txt")}
LISTS |= {"inaturalist2018": ("iNaturalist18_train.txt", "iNaturalist18_val.txt")}


def memory_growth() -> dict:
    """Peak memory and speed of training for each layout and number of images, each in a process of its own.

    Returns:
        `runs`, a list of dicts with `layout`, `images`, `classes`, `peak_memory_gb` of the process, `worker_memory_gb` of the
        largest process that decodes, `images_per_second` and `load_seconds`; and `bytes_per_image`, by layout how much the peak
        grows with each image.
    """
    runs, slopes = [], {}
    for layout, (recipe, classes, form, changes) in LAYOUTS.items():
        for images in SIZES:
            with tempfile.TemporaryDirectory(prefix="tailmoe-memory-") as folder:
                write_folder(Path(folder, "data"), recipe, classes, images, form)
                runs.append({"layout": layout, "images": images, "classes": classes} | _train(folder, recipe, changes))
        peaks = [1e9 * run["peak_memory_gb"] for run in runs[-len(SIZES) :]]
        slopes[layout] = float(np.polyfit(SIZES, peaks, 1)[0])
    return {"runs": runs, "bytes_per_image": slopes, "image_side": SIDE, "batch_size": BATCH, "steps": STEPS}


def write_folder(folder: Path, recipe: str, classes: int, images: int, form: str) -> None:
    """A long tail of JPEGs of 64 pixels, with the lists of the recipe's data set, or as Parquet in row groups of 100.

    Args:
        folder: Written to.
        recipe: A key of `LISTS`.
        classes, images: Their numbers; every class has an image.
        form: `"files"` or `"parquet"`.
    """
    generator = np.random.default_rng(0)
    shares = np.arange(1, classes + 1) ** -0.7
    counts = 1 + np.floor((images - classes) * shares / shares.sum()).astype(int)
    counts[0] += images - counts.sum()
    pictures = [_jpeg(generator) for _ in range(64)]
    for split, labels in (("train", np.repeat(np.arange(classes), counts)), ("test", np.arange(TEST) % classes)):
        rows = generator.permutation(labels).tolist()
        if form == "parquet":
            _write_parquet(folder / f"{split}.parquet", rows, pictures, classes)
            continue
        lines = []
        for index, label in enumerate(rows):
            path = Path(split, f"n{label:08}", f"{index}.jpg")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(pictures[index % len(pictures)])
            lines.append(f"{path.as_posix()} {label}\n")
        (folder / LISTS[recipe][split == "test"]).write_text("".join(lines))


def _jpeg(generator: np.random.Generator) -> bytes:
    coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(buffer, "JPEG")
    return buffer.getvalue()


def _write_parquet(path: Path, labels: list[int], pictures: list[bytes], classes: int) -> None:
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[f"n{label:08}" for label in range(classes)])
    )
    images = [{"bytes": pictures[index % len(pictures)], "path": None} for index in range(len(labels))]
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict({"image": images, "label": labels}, features).to_parquet(path, batch_size=100)


def _train(folder: str, recipe: str, changes: list[str]) -> dict:
    """Train a few steps in a process of its own, which has imported what it needs, and return what it measured."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tailmoe.training.build"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_measure, folder, recipe, changes).result()


def _measure(folder: str, name: str, changes: list[str]) -> dict:
    """What `_train` returns, of this process, with a cache of its own."""
    from transformers import TrainerCallback

    from tailmoe.training.build import Run, build_config, prepare_images
    from tailmoe.training.data import load_long_tailed
    from tailmoe.training.recipe import load_recipe

    multiprocessing.set_start_method("fork", force=True)  # of the processes that decode, as where nobody sets it
    datasets.config.HF_DATASETS_CACHE = Path(folder, "cache")
    datasets.disable_progress_bars()
    values = [f"data.name={folder}/data", f"model.backbone_config={BACKBONE}", f"model.image_size={SIDE}"]
    values += [f"training.max_steps={STEPS}", "training.save_strategy='no'", "training.disable_tqdm=true"]
    values += [f"training.per_device_train_batch_size={BATCH}", "training.dataloader_num_workers=2"]
    recipe = load_recipe(name, [*values, *changes])
    start = time.perf_counter()
    splits = load_long_tailed(**recipe.data)
    config = build_config(recipe, splits["train"].features["label"].names)
    images = prepare_images(recipe, splits, config)
    loaded = time.perf_counter()
    times, workers = [], []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            times.append(time.perf_counter())
            if state.global_step % 10 == 0:
                workers.extend(child.memory_info().rss for child in psutil.Process().children())

    trainer = Run.of(recipe, Path(folder, "run"), config, images.description["class_counts"]).trainer(images)
    trainer.add_callback(Watch())
    trainer.train()
    return {
        "peak_memory_gb": peak_memory_gb(),
        "worker_memory_gb": max(workers, default=0) / 1e9,
        "images_per_second": BATCH * (STEPS - WARM_UP) / (times[-1] - times[WARM_UP - 1]),
        "load_seconds": loaded - start,
    }


def draw_memory(measured: dict, path: Path) -> None:
    """Peak memory and speed against the number of images, a line for each layout."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (layout, slope) in zip(COLOURS, measured["bytes_per_image"].items(), strict=False):
        runs = [run for run in measured["runs"] if run["layout"] == layout]
        sizes = [run["images"] for run in runs]
        label = f"{layout}: {slope:+,.0f} bytes an image"
        left.plot(sizes, [run["peak_memory_gb"] for run in runs], "o-", color=colour, label=label)
        right.plot(sizes, [run["images_per_second"] for run in runs], "o-", color=colour)
    left.set_ylabel("peak memory of the process (GB)")
    right.set_ylabel("training images a second")
    for axes in (left, right):
        axes.set_xlabel("images of the data set")
        axes.set_xticks(sizes)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        open_axes(axes)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    figure.savefig(path, dpi=DPI)
