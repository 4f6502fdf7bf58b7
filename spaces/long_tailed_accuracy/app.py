"""The metric on a page: predictions, references and class counts as JSON lists."""

import json
from pathlib import Path

import evaluate
import gradio as gr

HERE = Path(__file__).parent
METRIC = evaluate.load(str(HERE / "long_tailed_accuracy.py"))
INPUTS = {
    "predictions": "[0, 1, 1, 2]",
    "references": "[0, 1, 0, 2]",
    "class_counts": "[500, 50, 5]",
}


def compute(*texts: str) -> dict:
    """The metric of what was written into the fields; an empty one is left out."""
    try:
        values = {name: json.loads(text) for name, text in zip(INPUTS, texts, strict=True) if text.strip()}
        return METRIC.compute(**values)
    except (ValueError, TypeError) as error:
        raise gr.Error(str(error)) from None


page = gr.Interface(
    compute,
    [gr.Textbox(value, label=name) for name, value in INPUTS.items()],
    gr.JSON(label="Long-tailed accuracy"),
    title="Long-tailed accuracy",
    article=(HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2],
    flagging_mode="never",
    api_name="compute",
)

if __name__ == "__main__":
    page.launch()
