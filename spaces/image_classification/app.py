"""A page that classifies an image and shows what each expert made of it.

The model comes from the environment: `MODEL_ID`, a Hub repository or a folder, and `MODEL_REVISION`. A visitor cannot name
another one.
"""

import os

import gradio as gr
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

TOP_LABELS, TOP_OF_EXPERTS = 5, 3
INTRODUCTION = """# What each expert sees
Upload an image: the page shows the ensemble's answer, how rare its class was in training, and each expert's own view."""


def build_app(model_id: str, revision: str | None = None) -> gr.Blocks:
    """The page for one model; its API endpoint is `/classify`, from an image to the answer, a sentence and a table."""
    # the model's code lies beside its weights, and the owner of this page chose the repository
    model = AutoModelForImageClassification.from_pretrained(model_id, revision=revision, trust_remote_code=True).eval()
    processor = AutoImageProcessor.from_pretrained(model_id, revision=revision, trust_remote_code=True)

    @torch.inference_mode()
    def classify(image: Image.Image | None) -> tuple[dict[str, float], str, list[list[str]]]:
        if image is None:
            raise gr.Error("Choose an image first: PNG, JPEG, WebP or another that Pillow reads.")
        outputs = model(**processor(image, return_tensors="pt"))
        answer = dict(top_labels(model, outputs.logits[0], TOP_LABELS))
        return answer, rarity(model, next(iter(answer))), expert_rows(model, outputs)

    with gr.Blocks(title="What each expert sees") as app:
        gr.Markdown(f"{INTRODUCTION}\n\nModel: `{os.path.basename(model_id.rstrip('/'))}`")
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="pil", label="Image", sources=["upload", "clipboard", "webcam"])
                button = gr.Button("Classify", variant="primary")
            with gr.Column():
                answer = gr.Label(num_top_classes=TOP_LABELS, label="The ensemble's answer")
                sentence = gr.Markdown()
                table = gr.Dataframe(
                    headers=["expert", "view"], column_widths=["30%", "70%"], label="Each expert", wrap=True
                )
        gr.on(
            [button.click, image.upload],
            classify,
            inputs=image,
            outputs=[answer, sentence, table],
            api_name="classify",
        )
    return app


def top_labels(model: torch.nn.Module, logits: torch.Tensor, count: int) -> list[tuple[str, float]]:
    """The `count` most probable labels of logits (C,), with their probabilities."""
    probabilities, classes = logits.softmax(dim=-1).topk(min(count, len(logits)))
    return [(model.config.id2label[c], p) for c, p in zip(classes.tolist(), probabilities.tolist(), strict=True)]


def expert_rows(model: torch.nn.Module, outputs: dict) -> list[list[str]]:
    """For each expert its name, with the gate's weight if the model has a gate, and its most probable labels."""
    gates = outputs.get("gate_probs")
    rows = []
    for index, logits in enumerate(outputs["expert_logits"][0]):
        view = ", ".join(f"{label} {100 * p:.1f} %" for label, p in top_labels(model, logits, TOP_OF_EXPERTS))
        weight = "" if gates is None else f" (gate {100 * gates[0, index]:.1f} %)"
        rows.append([f"expert {index + 1}{weight}", view])
    return rows


def rarity(model: torch.nn.Module, label: str) -> str:
    """How many training images the class had, and its shot group."""
    counts = getattr(model.config, "class_counts", None)
    if counts is None:
        return f"It is not recorded how many training images *{label}* had."
    count = counts[model.config.label2id[label]]
    group = "many-shot" if count > 100 else "few-shot" if count < 20 else "medium-shot"
    return f"*{label}* had **{count:,} training images**: a {group} class."


if __name__ == "__main__":
    if "MODEL_ID" not in os.environ:
        raise SystemExit("Set MODEL_ID to a Hub repository or a folder with a model.")
    build_app(os.environ["MODEL_ID"], os.environ.get("MODEL_REVISION")).launch()
