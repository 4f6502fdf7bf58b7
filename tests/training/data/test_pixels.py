"""Training, `evaluate`, `predict`, ONNX Runtime, the demo and the documented snippets see the same pixels of any file."""

import re
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tailmoe.modeling import ICLMoEConfig, ICLMoEForImageClassification, TailMoEImageProcessor
from tailmoe.training.data import DecodedImages, LazyImages
from tailmoe.training.data.normalization import Normalization
from tailmoe.training.evaluation.evaluate import load_runner, predict_split
from tailmoe.training.evaluation.predict import predict_images

ROOT = Path(__file__).parents[3]
NAMES = ["shirt", "shoe", "bag"]
COLOUR = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((40, 25))
GREY = COLOUR.convert("L")
WIDE = np.asarray(GREY).astype(np.uint16) * 257
ALPHA = Image.linear_gradient("L").resize(COLOUR.size)  # black below where it is clear
FADING = Image.merge("RGBA", [*COLOUR.point(lambda level: level // 4).split(), ALPHA])
FADING_GREY = Image.merge("LA", [GREY.point(lambda level: level // 4), ALPHA])
TURNED = Image.Exif()
TURNED[0x0112] = 6
LAB = ImageCms.profileToProfile(COLOUR, *map(ImageCms.createProfile, ("sRGB", "LAB")), outputMode="LAB")
PALETTE = COLOUR.quantize(8)
DARKEST = int(np.argmin(np.reshape(PALETTE.getpalette(), (-1, 3)).sum(axis=1)[:8]))
FADED = bytes(20 if index == DARKEST else 255 - 9 * index for index in range(8))
# a file of each mode that a file can have: its name, image and options
FILES = {
    "1.png": (COLOUR.convert("1"), {}),
    "1-clear.png": (COLOUR.convert("1"), {"transparency": 0}),
    "L.png": (GREY, {}),
    "L-clear.png": (COLOUR.convert("1").convert("L"), {"transparency": 0}),
    "LA.png": (FADING_GREY, {}),
    "P.png": (PALETTE, {}),
    "P-clear.png": (PALETTE, {"transparency": DARKEST}),
    "P-fading.png": (PALETTE, {"transparency": FADED}),
    "PA.tiff": (Image.merge("PA", [PALETTE, ALPHA]), {}),
    "RGB.png": (COLOUR, {}),
    "RGB-clear.png": (PALETTE.convert("RGB"), {"transparency": tuple(PALETTE.getpalette()[3 * DARKEST :][:3])}),
    "RGBA.png": (FADING, {}),
    "RGBA.tiff": (FADING, {}),
    "RGBA.webp": (FADING, {"lossless": True, "exact": True}),
    "CMYK.jpg": (COLOUR.convert("CMYK"), {}),
    "CMYK.tiff": (COLOUR.convert("CMYK"), {}),
    "YCbCr.jpg": (COLOUR.convert("YCbCr"), {}),
    "LAB.tiff": (LAB, {}),
    "I.tiff": (Image.fromarray(WIDE.astype(np.int32)), {}),
    "I;16.png": (Image.fromarray(WIDE), {}),
    "I;16-clear.png": (Image.fromarray(WIDE), {"transparency": int(WIDE[0, 0])}),
    "I;16.tiff": (Image.fromarray(WIDE), {}),
    "I;16B.tiff": (Image.frombytes("I;16B", GREY.size, WIDE.astype(">u2").tobytes()), {}),
    "F.tiff": (Image.fromarray(np.asarray(GREY, dtype=np.float32) / 255), {}),
    "turned.jpg": (COLOUR, {"exif": TURNED}),
    "turned.png": (FADING, {"exif": TURNED}),
    "animated.gif": (PALETTE, {"save_all": True, "append_images": [PALETTE.rotate(180)], "transparency": DARKEST}),
    "animated.webp": (FADING, {"save_all": True, "append_images": [FADING.rotate(180)], "lossless": True}),
}
DIFFERENT = {
    "LA.png",
    "P-fading.png",
    "RGBA.png",
    "I;16.png",
    "F.tiff",
}  # some that transformers alone reads differently


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model of colour, saved, whose answers tell pictures and their brightness apart."""
    torch.manual_seed(0)
    fields = {"id2label": dict(enumerate(NAMES)), "label2id": {name: c for c, name in enumerate(NAMES)}}
    config = ICLMoEConfig(
        hidden_sizes=[4, 8], depths=[1, 1], num_experts=2, image_size=16, class_counts=[9, 5, 1], **fields
    )
    folder = tmp_path_factory.mktemp("model")
    model = ICLMoEForImageClassification(config).train()
    with torch.no_grad():
        for _ in range(30):  # batch normalisation learns what images look like
            model(torch.randn(64, 3, 16, 16) * torch.rand(64, 1, 1, 1) + 2 * torch.rand(64, 3, 1, 1) - 1)
    model.save_pretrained(folder)
    TailMoEImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runners(saved):
    return {backend: load_runner(str(saved), backend) for backend in ("torch", "onnx")}


@pytest.fixture(scope="module")
def demo(saved, tmp_path_factory):
    """What the demo's page makes of an uploaded file: its probabilities, by label."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "spaces" / "image_classification"))
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.getbasetemp()))
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the page has its own
        import classifier
        import images

        page = classifier.Classifier(str(saved))
        yield lambda path: page.view(images.open_image(path, page.processor)).logits.softmax(-1).tolist()
        for name in ("classifier", "images"):
            del sys.modules[name]


@pytest.fixture
def file(request, tmp_path):
    image, options = FILES[request.param]
    path = tmp_path / request.param
    image.save(path, **options)
    return path


@pytest.fixture(scope="module")
def snippet(saved):
    """The README's first example: what it has defined before it reads its image, and what it does then."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    before, reads, then = blocks[0].replace("runs/quickstart", str(saved)).partition("image = ")
    exec(before, namespace := {})
    return namespace, reads + then


def of_snippet(snippet, path, capsys):
    """The probabilities that the example prints, and those of its pipeline for the path itself."""
    namespace, code = snippet
    exec(code.replace("shoe.png", str(path)), namespace)
    printed = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    plain = {answer["label"]: answer["score"] for answer in namespace["classify"](str(path))}
    return [float(printed[name]) for name in NAMES], [plain[name] for name in NAMES]


@pytest.mark.parametrize("file", FILES, indirect=True)
def test_all_that_reads_a_file_answers_alike(file, runners, demo, snippet, capsys):
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
    split = datasets.Dataset.from_dict({"image": [str(file)], "label": [0]}, features=features)
    run, model, processor = runners["torch"]
    images = DecodedImages.from_dataset(split, processor)
    with torch.inference_mode():
        trained_on = model(Normalization(processor)(images.pixel_values)).logits[0].softmax(-1).tolist()
        as_documented = model(**processor(str(file), return_tensors="pt")).logits[0].softmax(-1).tolist()
    answers = {"an image processor": as_documented, "the demo": demo(str(file))}
    encoded = LazyImages(split, processor).__getitems__([0])
    assert torch.equal(encoded["pixel_values"], images.pixel_values)
    answers["evaluate"] = predict_split(run, images, processor)["logits"][0].softmax(-1).tolist()
    for backend, (each, *_) in runners.items():
        (prediction,) = predict_images(each, model, processor, [str(file)], top_k=3)
        of_label = {label["label"]: label["probability"] for label in prediction["labels"]}
        answers[f"predict by {backend}"] = [of_label[name] for name in NAMES]
    answers["the README"], of_transformers = of_snippet(snippet, file, capsys)
    for reader, answer in answers.items():
        assert np.log(answer) == pytest.approx(np.log(trained_on), abs=0.01), reader
    if file.name in DIFFERENT:
        assert np.log(of_transformers) != pytest.approx(np.log(trained_on), abs=0.1), (
            "the documented difference of a plain pipeline"
        )
