"""The Space as programs see it: self-contained, right, and still there after every kind of upload."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest
import torch
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

import tailmoe.modeling  # noqa: F401 (registers our models)

from .conftest import MODELS, SPACE
from .load import load

EXAMPLES = SPACE / "examples"
MOST_MEMORY = 2e9


def classify(page, path):
    return page.client.predict(handle_file(str(path)), api_name="/classify")


# what it says


def test_the_answer_is_the_models_with_training_counts(pair):
    folder = MODELS / "icl-moe-fashion-mnist-lt"
    model, processor = (
        loader.from_pretrained(folder) for loader in (AutoModelForImageClassification, AutoImageProcessor)
    )
    outputs = model.eval()(**processor(Image.open(EXAMPLES / "bag.png"), return_tensors="pt"))
    answer = classify(pair, EXAMPLES / "bag.png")
    values, classes = outputs.logits[0].softmax(-1).topk(5)
    assert [each["label"] for each in answer["labels"]] == [model.config.id2label[c] for c in classes.tolist()]
    assert [each["probability"] for each in answer["labels"]] == pytest.approx(values.tolist(), abs=1e-5)
    for each in answer["labels"]:
        count = model.config.class_counts[model.config.label2id[each["label"]]]
        assert each["training_images"] == count
        assert each["shot_group"] == ("many" if count > 100 else "few" if count < 20 else "medium")
    assert len(answer["experts"]) == 3
    best = [experts[0]["label"] for experts in answer["experts"]]
    assert best == [model.config.id2label[c] for c in outputs.expert_logits[0].argmax(-1).tolist()]
    assert answer["gate"] is None
    assert ("All 3 experts say" in answer["agreement"]) == (len(set(best)) == 1)


def test_a_gates_weights_are_told(snnl):
    answer = classify(snnl, EXAMPLES / "bag.png")
    assert len(answer["gate"]) == 2
    assert sum(answer["gate"]) == pytest.approx(1)
    assert "expert" in answer["agreement"]


# whatever is uploaded


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def bomb(side):
    """A PNG of one bit a pixel that is small as a file and large decoded."""
    row = b"\0" * (1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


GREY = Image.open(EXAMPLES / "ankle-boot.png").convert("L")
WHOLE = {
    "animated.gif": lambda: encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(90)]),
    "cmyk.jpg": lambda: encoded(GREY.convert("CMYK"), "JPEG"),
    "sixteen.png": lambda: encoded(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)),
    "alpha.png": lambda: encoded(GREY.convert("RGBA")),
    "palette.png": lambda: encoded(GREY.convert("P")),
    "rotated.png": lambda: encoded(GREY.rotate(90, expand=True), exif=exif(6)),
    "image.webp": lambda: encoded(GREY.convert("RGB"), "WEBP", lossless=True),
}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("name", WHOLE)
def test_images_of_every_kind_get_the_answer_of_the_plain_one(pair, tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name]())
    expected, answer = classify(pair, EXAMPLES / "ankle-boot.png"), classify(pair, tmp_path / name)
    assert answer["labels"][0]["label"] == expected["labels"][0]["label"]
    assert answer["labels"][0]["probability"] == pytest.approx(expected["labels"][0]["probability"], abs=0.1)


def test_one_pixel_is_an_image(pair, tmp_path):
    (tmp_path / "dot.png").write_bytes(encoded(GREY.resize((1, 1))))
    assert classify(pair, tmp_path / "dot.png")["labels"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.png", lambda: b"words, not pixels", "cannot be read as an image"),
        ("empty.png", lambda: b"", "cannot be read as an image"),
        ("cut.jpg", lambda: encoded(GREY.resize((300, 300)), "JPEG")[:2000], "cannot be read as an image"),
        ("script.svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "cannot be read"),
        ("bomb.png", lambda: bomb(20_000), "more than 40 megapixels"),
        ("large.png", lambda: bomb(6_400), "more than 40 megapixels"),
    ],
)
def test_what_is_no_image_gets_one_sentence_and_the_page_stays(pair, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content())
    with pytest.raises(AppError, match=message) as error:
        classify(pair, tmp_path / name)
    assert "Traceback" not in str(error.value)
    assert classify(pair, EXAMPLES / "bag.png")["labels"][0]["label"] == "Bag"
    assert pair.process.memory_info().rss < MOST_MEMORY


def test_a_file_of_200_megabytes_is_refused_before_it_is_read(pair):
    content = io.BytesIO(bytes(200_000_000))
    answer = httpx2.post(f"{pair.url}/gradio_api/upload", files={"files": ("large.png", content)}, timeout=60)
    assert answer.status_code == 413
    assert "exceeded maximum allowed size" in answer.text
    assert pair.process.memory_info().rss < MOST_MEMORY


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "app.py", "APP/app.py", "APP/../log"]
)
def test_no_file_but_uploads_can_be_fetched(pair, path):
    path = path.replace("APP", str(pair.folder))
    assert httpx2.get(f"{pair.url}/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_no_file_but_uploads_can_be_classified(pair, meta):
    file = pair.folder / "examples" / "bag.png"  # an image, but of this machine
    asked = httpx2.post(f"{pair.url}/gradio_api/call/classify", json={"data": [{"path": str(file), **meta}]})
    answer = httpx2.get(f"{pair.url}/gradio_api/call/classify/{asked.json()['event_id']}", timeout=30).text
    assert "event: error" in answer
    assert "labels" not in answer


def test_an_uploaded_script_is_never_shown_as_a_page(pair):
    svg = ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (path,) = httpx2.post(f"{pair.url}/gradio_api/upload", files={"files": svg}).json()
    answer = httpx2.get(f"{pair.url}/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")


# many at once


def test_twenty_visitors_at_once_are_each_answered(pair):
    figures = load(pair.url, EXAMPLES / "bag.png", visitors=20, images_each=2)
    assert (figures["answers"], figures["errors"]) == (40, 0)


@pytest.mark.slow
def test_a_burst_of_500_requests_ends_in_answers_or_a_clear_message(pair):
    with ThreadPoolExecutor(100) as visitors:
        jobs = [visitors.submit(classify, pair, EXAMPLES / "bag.png") for _ in range(500)]
        errors = [job.exception() for job in jobs]
    assert all(error is None or "queue" in str(error).lower() for error in errors)
    assert sum(error is None for error in errors) > 100
    assert classify(pair, EXAMPLES / "bag.png")["labels"][0]["label"] == "Bag"
    assert pair.process.memory_info().rss < MOST_MEMORY


# the same as the model


@pytest.mark.parametrize("name", ["icl-moe", "cross-entropy", "snnl-moe"])
def test_what_is_shown_of_an_image_is_what_the_model_tells_of_it(monkeypatch, name):
    monkeypatch.syspath_prepend(str(SPACE))
    from classifier import Classifier

    classifier = Classifier(str(MODELS / f"{name}-fashion-mnist-lt"))
    model, image = classifier.model, Image.open(EXAMPLES / "shirt.png")
    pixels = classifier.processor(image, return_tensors="pt")["pixel_values"]
    view, (maps, outputs) = classifier.view(image), model.grad_cam(pixels)
    assert torch.equal(view.maps, maps[0])
    assert (view.maps.amax(dim=(-2, -1)) == 1).all()
    torch.testing.assert_close(view.logits, model(pixels).logits[0])
    torch.testing.assert_close(view.expert_probabilities, model(pixels).expert_logits[0].softmax(-1))
    assert (view.gate is None) == ("gate_probs" not in outputs)
    assert not any(each.requires_grad for each in (view.logits, view.expert_probabilities, view.maps))
    similarity = classifier.expert_similarity()
    torch.testing.assert_close(similarity.diagonal(), torch.ones(model.config.num_experts))
    assert (similarity.abs() <= 1 + 1e-6).all()


def test_priors_at_the_marks_of_the_slider(monkeypatch):
    monkeypatch.syspath_prepend(str(SPACE))
    from classifier import Classifier, prior_at

    training, own = torch.tensor([0.9, 0.09, 0.01]), torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(prior_at(0, training, own), training)
    torch.testing.assert_close(prior_at(1, training, own), torch.full((3,), 1 / 3))
    torch.testing.assert_close(prior_at(2, training, own), torch.tensor([0.0, 0.25, 0.75]))
    torch.testing.assert_close(prior_at(0.5, training, own), training.sqrt() / training.sqrt().sum())
    for name, balanced in (("icl-moe-fashion-mnist-lt", True), ("cross-entropy-fashion-mnist-lt", False)):
        classifier, logits = Classifier(str(MODELS / name)), torch.randn(10)
        own_place = prior_at(1.0 if balanced else 0.0, classifier.training_prior(), torch.ones(10))
        torch.testing.assert_close(classifier.probabilities(logits, own_place), logits.softmax(-1))


def test_the_slider_starts_at_the_prior_that_the_model_assumes(monkeypatch):
    monkeypatch.syspath_prepend(str(SPACE))
    from app import start_position
    from classifier import Classifier

    for name, position in (("icl-moe", 1.0), ("cross-entropy", 0.0), ("snnl-moe", 0.0)):
        assert start_position(Classifier(str(MODELS / f"{name}-fashion-mnist-lt"))) == position


def test_a_model_with_a_label_prior_is_shown_as_aimed_at_it(monkeypatch):
    monkeypatch.syspath_prepend(str(SPACE))
    from classifier import Classifier

    classifier = Classifier(str(MODELS / "icl-moe-fashion-mnist-lt"))
    image, equal = Image.open(EXAMPLES / "shirt.png"), torch.full((10,), 0.1)
    raw_logits = classifier.probabilities(classifier.view(image).logits, equal)
    classifier.model.set_label_prior([0] + [1] * 9)
    view = classifier.view(image)
    assert view.logits.softmax(-1)[0] < 1e-30
    torch.testing.assert_close(classifier.probabilities(view.logits, equal), raw_logits)
