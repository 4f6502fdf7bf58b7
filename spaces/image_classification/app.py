"""A page that shows how a mixture of experts sees an image, expert by expert, and how it handles rare classes.

The models come from the environment, a visitor cannot name another one: `MODEL_ID`, a Hub repository or a folder, pinned to
the commit `MODEL_REVISION`; and, to compare with, `BASELINE_ID` and `BASELINE_REVISION`.
"""

import csv
import difflib
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import charts
import gradio as gr
import panels
import torch
from classifier import Classifier, prior_at
from images import open_image, visitor_image

HERE = Path(__file__).parent
TITLE = "What each expert sees"
INTRODUCTION = """Most image collections are long-tailed: a few classes have thousands of pictures, most have a handful. Here a
mixture of experts names what is in an image, and shows what each expert made of it and how rare the class was in training."""
PRIOR_TEXT = """A model's answer assumes how frequent the classes are. Say how frequent they are where you are, and see how the
answer moves: as in the training images, all alike, or a mix of your own."""
THEME = gr.themes.Soft(
    primary_hue="blue",
    font=["system-ui", "sans-serif"],  # of the visitor's machine: nothing is loaded from elsewhere
    font_mono=["ui-monospace", "monospace"],
)
LARGEST_UPLOAD = "20mb"
WAITING_VISITORS = 100


def build_app(model: Classifier, baseline: Classifier | None = None) -> gr.Blocks:
    """The page. Its endpoint for programs is `/classify`, see `classify`."""

    def classify(image: gr.FileData) -> dict:
        """Name what is in an image.

        Returns `labels`, the five most probable classes with `probability`, `training_images` and `shot_group`;
        `experts`, for each expert its three most probable classes; `gate`, the gate's weight of each expert or null;
        and `agreement`, a sentence.
        """
        view = model.view(open_image(str(image["path"]), model.processor))
        return {
            "labels": top(model, view.logits.softmax(dim=-1), panels.TOP_LABELS),
            "experts": [
                top(model, probabilities, panels.TOP_OF_EXPERTS) for probabilities in view.expert_probabilities
            ],
            "gate": None if view.gate is None else view.gate.tolist(),
            "agreement": panels.agreement(model, view),
        }

    def look(path: str | None, position: float, own: list[float]) -> tuple:
        """Everything that an image changes: answer, experts, comparison, and the panels of the prior."""
        if path is None:
            return panels.WAITING, "", panels.WAITING, None, panels.WAITING, ""
        image = open_image(path, model.processor)
        view = model.view(image)
        compared = panels.WAITING
        if baseline is not None:
            pair = [(model.name, model), (baseline.name, baseline)]
            compared = panels.compare_panel(pair, [view, baseline.view(image)])
        answer = panels.answer_panel(model, view.logits.softmax(dim=-1))
        logits = view.logits.tolist()
        return answer, panels.experts_panel(model, view), compared, logits, *move(logits, position, own)

    def move(logits: list[float] | None, position: float, own: list[float]) -> tuple[str, str]:
        """The answer under the slider's prior, and how it moves along the slider."""
        if logits is None:
            return panels.WAITING, ""
        scores, own_prior = torch.tensor(logits), torch.tensor(own)
        prior = prior_at(position, model.training_prior(), own_prior)
        chart = charts.prior_chart(model, model.along_priors(scores, own_prior), position)
        return panels.answer_panel(model, model.probabilities(scores, prior)), chart

    def use_mix(text: str, logits: list[float] | None) -> tuple:
        """The visitor's mix, the slider moved to it, and the answer there."""
        own = weights_of(text, model.labels)
        return own, 2, *move(logits, 2, own)

    with gr.Blocks(title=TITLE) as app:
        gr.Markdown(f"# {TITLE}\n\n{INTRODUCTION}", elem_classes="introduction")
        logits, own = gr.State(None), gr.State([1.0] * len(model.labels))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                image = visitor_image(
                    label="Image", sources=["upload", "clipboard", "webcam"], height=300, elem_id="image"
                )
                show_examples(model, image)
            with gr.Column(scale=3, min_width=300), gr.Tabs():
                with gr.Tab("Classify"):
                    answer = gr.HTML(panels.WAITING)
                    experts = gr.HTML()
                with gr.Tab("Compare", visible=baseline is not None):
                    gr.Markdown("The same image, seen by this model and by the one it is compared with.")
                    comparison = gr.HTML(panels.WAITING)
                with gr.Tab("Prior"):
                    gr.Markdown(PRIOR_TEXT)
                    position = gr.Slider(
                        0,
                        2,
                        value=start_position(model),
                        step=0.05,
                        label="0 as trained, 1 all classes equal, 2 my own mix",
                    )
                    moved, chart = gr.HTML(panels.WAITING), gr.HTML()
                    with gr.Accordion("My own mix", open=False):
                        mix = gr.Textbox(
                            lines=3,
                            label="How frequent classes are where you are, one a line; those not named have weight 1",
                            placeholder=f"{model.labels[-1]}: 20\n{model.labels[0]}: 0.5",
                        )
                        apply_mix = gr.Button("Use my mix")
                with gr.Tab("Know the model"):
                    know_the_model(model)
        shown = [answer, experts, comparison, logits, moved, chart]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        image.change(look, [image, position, own], shown, show_progress="minimal", api_visibility="private")
        position.change(move, [logits, position, own], [moved, chart], **quiet)
        apply_mix.click(use_mix, [mix, logits], [own, position, moved, chart], **quiet)
        gr.api(classify, api_name="classify")
    return app


def start_position(model: Classifier) -> float:
    """Where the slider stands at the prior that the model itself assumes."""
    return 0.0 if torch.allclose(model.model.log_assumed_prior().exp(), model.training_prior()) else 1.0


def weights_of(text: str, labels: list[str]) -> list[float]:
    """The weight of each class, from lines such as `Bag: 20`; 1 for classes that are not named.

    Raises:
        gr.Error: If a line has another form, names no class, or all weights are 0.
    """
    weights = dict.fromkeys(labels, 1.0)
    known = {label.casefold(): label for label in labels}
    for line in filter(str.strip, text.splitlines()):
        name, _, number = line.rpartition(":")
        if name.strip().casefold() not in known:
            nearest = difflib.get_close_matches(name.strip().casefold(), known, n=1, cutoff=0)
            raise gr.Error(f"Write lines such as “{known[nearest[0]]}: 20”; this is no class: {name or line}")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise gr.Error(f"The weight of {name.strip()} must be a number, 0 or more.")
        weights[known[name.strip().casefold()]] = weight
    if not any(weights.values()):
        raise gr.Error("One of the weights must be above 0.")
    return list(weights.values())


def top(model: Classifier, probabilities: torch.Tensor, count: int) -> list[dict]:
    """The most probable classes of (C,), for programs."""
    values, classes = probabilities.topk(min(count, len(probabilities)))
    return [
        {
            "label": model.labels[c],
            "probability": p,
            "training_images": model.counts[c],
            "shot_group": model.group(c),
        }
        for c, p in zip(classes.tolist(), values.tolist(), strict=True)
    ]


def show_examples(model: Classifier, image: gr.Image) -> None:
    """The example images whose classes the model knows, from the most frequent class to the rarest."""
    with (HERE / "examples" / "examples.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in model.labels]
    if rows:
        rows.sort(key=lambda row: -model.counts[model.labels.index(row["label"])])
        names = [f"{row['label']} ({model.group(model.labels.index(row['label']))}-shot)" for row in rows]
        paths = [[str(HERE / "examples" / row["file"])] for row in rows]
        gr.Examples(paths, image, label="Examples, from frequent to rare classes", example_labels=names)


def know_the_model(model: Classifier) -> None:
    """What was measured on the test images, and how alike the experts are."""
    if model.results is None or model.results["metrics"] is None:
        gr.Markdown("This model's repository has no results.")
    else:
        gr.HTML(panels.numbers_table(model.results))
        gr.HTML(charts.accuracy_chart(model))
        first = model.labels[min(range(len(model.counts)), key=model.counts.__getitem__)]
        label = gr.Dropdown(model.labels, value=first, label="What a class is taken for")
        confusions = gr.HTML(panels.confusions_panel(model, first))
        label.change(
            lambda chosen: panels.confusions_panel(model, chosen), label, confusions, api_visibility="private"
        )
    gr.HTML(panels.similarity_table(model.expert_similarity()))


def main() -> None:
    """Serve the page."""
    if "MODEL_ID" not in os.environ:
        sys.exit("Set MODEL_ID to a Hub repository or a folder with a model.")
    model, baseline = (
        Classifier(os.environ[f"{name}_ID"], os.environ.get(f"{name}_REVISION"))
        if f"{name}_ID" in os.environ
        else None
        for name in ("MODEL", "BASELINE")
    )
    app = build_app(model, baseline).queue(max_size=WAITING_VISITORS, default_concurrency_limit=2)
    app.launch(
        theme=THEME, css_paths=HERE / "style.css", max_file_size=LARGEST_UPLOAD, footer_links=["api"], ssr_mode=False
    )


if __name__ == "__main__":
    main()
