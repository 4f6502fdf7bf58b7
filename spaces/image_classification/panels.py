"""What the page shows of an answer, as HTML that a screen reader can follow; every name from elsewhere is escaped."""

import base64
import io
from html import escape

import numpy as np
from classifier import Classifier, View
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

TOP_LABELS, TOP_OF_EXPERTS = 5, 3
MAP_SIDE = 192  # pixels
WAITING = '<p class="hint">Choose an image, or one of the examples.</p>'
SPOKEN = {"many": "many-shot", "medium": "medium-shot", "few": "few-shot"}


def answer_panel(model: Classifier, probabilities: Tensor) -> str:
    """The most probable classes of (C,), and how rare the first one was in training."""
    best = int(probabilities.argmax())
    return f"""<section class="answer" aria-live="polite">
<p class="winner">{escape(model.labels[best])}</p>{rarity(model, best)}
{bars(model, probabilities, TOP_LABELS)}</section>"""


def rarity(model: Classifier, c: int) -> str:
    """A class's training images and shot group."""
    group, count = model.group(c), model.counts[c]
    images = "1 training image" if count == 1 else f"{count:,} training images"
    return f'<p class="chip {group}">{SPOKEN[group]} class, {images}</p>'


def bars(model: Classifier, probabilities: Tensor, count: int) -> str:
    """The most probable classes of (C,), each with a bar."""
    values, classes = probabilities.topk(min(count, len(probabilities)))
    rows = [_bar(model, c, p, f"{100 * p:.1f} %") for c, p in zip(classes.tolist(), values.tolist(), strict=True)]
    return f'<ol class="bars">{"".join(rows)}</ol>'


def _bar(model: Classifier, c: int, share: float, told: str, note: str = "") -> str:
    return (
        f'<li><span class="name">{escape(model.labels[c])}{note}</span><span class="value">{told}</span>'
        f'<span class="bar {model.group(c)}" style="width:{100 * share:.1f}%" aria-hidden="true"></span></li>'
    )


def experts_panel(model: Classifier, view: View) -> str:
    """Each expert's view: where it looked, its most probable classes, the gate's weight; and how far they agree."""
    cards = []
    for number, probabilities in enumerate(view.expert_probabilities):
        best = escape(model.labels[int(probabilities.argmax())])
        gate = "" if view.gate is None else f'<p class="gate">weight of the gate {100 * view.gate[number]:.0f} %</p>'
        cards.append(
            f'<article class="expert"><h4>Expert {number + 1}</h4>'
            f'<img src="{heat_map(view.image, view.maps[number])}" width="{MAP_SIDE}" height="{MAP_SIDE}" '
            f'alt="Where expert {number + 1} looked for {best}: bright where it counts most.">'
            f"{gate}{bars(model, probabilities, TOP_OF_EXPERTS)}</article>"
        )
    return f'<section><p class="agreement">{escape(agreement(model, view))}</p><div class="experts">{"".join(cards)}</div></section>'


def agreement(model: Classifier, view: View) -> str:
    """One sentence on what the experts have in common."""
    answers = [int(probabilities.argmax()) for probabilities in view.expert_probabilities]
    if len(answers) == 1:
        return "One network, no experts to agree or differ."
    most = max(answers, key=answers.count)
    if answers.count(most) == len(answers):
        return f"All {len(answers)} experts say {model.labels[most]}."
    if len(set(answers)) == len(answers):
        return f"All {len(answers)} experts differ: {', '.join(model.labels[c] for c in answers)}."
    others = [f"expert {n + 1} says {model.labels[c]}" for n, c in enumerate(answers) if c != most]
    return f"{answers.count(most)} of {len(answers)} experts say {model.labels[most]}; {', '.join(others)}."


def heat_map(image: Image.Image, heat: Tensor) -> str:
    """A map (H, W) over the image in grey, as the address of a PNG in itself."""
    size = (MAP_SIDE, MAP_SIDE)
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    smooth = Image.fromarray(heat.float().numpy(), mode="F").resize(size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), 0, 1)
    shown = grey[..., None] * 0.5 + 0.5 * colormaps["inferno"](strength)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray((255 * shown).astype(np.uint8)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def compare_panel(models: list[tuple[str, Classifier]], views: list[View]) -> str:
    """The answers of several models to one image, side by side."""
    columns = [
        f'<article class="model"><h4>{escape(title)}</h4>{answer_panel(model, view.logits.softmax(dim=-1))}</article>'
        for (title, model), view in zip(models, views, strict=True)
    ]
    answers = [model.labels[int(view.logits.argmax())] for (_, model), view in zip(models, views, strict=True)]
    first, second = (escape(answer) for answer in answers)
    sentence = f"Both say {first}." if first == second else f"They differ: {first} and {second}."
    return f'<section><p class="agreement">{sentence}</p><div class="models">{"".join(columns)}</div></section>'


def confusions_panel(model: Classifier, label: str) -> str:
    """How the test images of a class were labelled."""
    c = model.labels.index(label)
    row = model.confusions(c)
    total = sum(row)
    if not total:
        return f'{rarity(model, c)}<p class="hint">There is no test image of this class.</p>'
    order = sorted(range(len(row)), key=lambda k: -row[k])[:TOP_LABELS]
    items = [
        _bar(model, k, row[k] / total, f"{row[k]:,} of {total:,}", " (right)" if k == c else "")
        for k in order
        if row[k]
    ]
    return f'{rarity(model, c)}<p>Its test images were labelled:</p><ol class="bars">{"".join(items)}</ol>'


def numbers_table(results: dict) -> str:
    """The card's numbers: of the model, and of its baseline where there is one."""
    runs = [run for run in (results["baseline"], results) if run is not None]
    columns = {
        "overall": "accuracy",
        "balanced": "balanced_accuracy",
        "many-shot": "many_accuracy",
        "medium-shot": "medium_accuracy",
        "few-shot": "few_accuracy",
        "calibration error": "ece",
    }
    head = "".join(f'<th scope="col">{title}</th>' for title in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(run["title"])}</th>'
        + "".join(f"<td>{_percent(run['metrics'].get(name))}</td>" for name in columns.values())
        + f"<td>{run['num_parameters']:,}</td></tr>"
        for run in runs
    )
    return f"""<div class="scroll"><table><caption>Accuracy on {results["dataset"]["num_test"]:,} test images, in %</caption>
<thead><tr><td></td>{head}<th scope="col">parameters</th></tr></thead><tbody>{body}</tbody></table></div>"""


def similarity_table(similarity: Tensor) -> str:
    """The cosine similarity of the experts' first-layer weights (M, M), as a table with shades."""
    names = [f"expert {k + 1}" for k in range(len(similarity))]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f'<td style="--shade:{100 * abs(v):.0f}%" class="shaded">{v:.2f}</td>' for v in row)
        + "</tr>"
        for name, row in zip(names, similarity.tolist(), strict=True)
    )
    return f"""<div class="scroll"><table><caption>Cosine similarity of the experts' first-layer weights</caption>
<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"""


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f}"
