"""Charts as SVG in the page's own colours, light or dark, with a title on every mark that a pointer or a reader finds."""

import math
from html import escape

from classifier import Classifier

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 28, 44
COLOURS = ("#3b82c4", "#d9722b", "#2a9d78", "#c56aa5", "#b48a00")


def accuracy_chart(model: Classifier) -> str:
    """Accuracy of each class on test images against its training images, rare classes to the right."""
    accuracy = model.results["metrics"]["per_class_accuracy"]
    most, fewest = max(model.counts) * 1.3, min(model.counts) / 1.3

    def across(count: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(most / count) / math.log(most / fewest)

    marks = []
    for bound in (model.bounds["many_above"], model.bounds["few_below"]):
        if fewest < bound < most:
            x = across(bound)
            marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="bound"/>')
    for tick in _ticks(fewest, most):
        marks.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:,}</text>')
    for c, value in enumerate(accuracy):
        if value is None:
            continue
        told = (
            f"{model.labels[c]}: {model.counts[c]:,} training images, {100 * value:.1f} % right{_taken_for(model, c)}"
        )
        marks.append(
            f'<circle cx="{across(model.counts[c]):.1f}" cy="{_up(value):.1f}" r="6" class="{model.group(c)}" '
            f'tabindex="0" role="img" aria-label="{escape(told)}"><title>{escape(told)}</title></circle>'
        )
    return _chart(marks, "Accuracy of each class", "training images of the class", "right on test images (%)")


def prior_chart(model: Classifier, lines: dict[int, list[float]], position: float) -> str:
    """Probability of some classes along the slider from 0 to 2, and where it stands.

    Args:
        lines: For each class, its probability at evenly spaced positions; at most five classes.
        position: Of the slider.
    """

    def across(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / 2

    marks = [
        f'<line x1="{across(position):.1f}" x2="{across(position):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="here"/>'
    ]
    for place, anchor, name in ((0, "start", "as trained"), (1, "middle", "all equal"), (2, "end", "my own mix")):
        marks.append(f'<text x="{across(place):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{name}</text>')
    for colour, (c, values) in zip(COLOURS, lines.items(), strict=False):
        points = " ".join(f"{across(2 * n / (len(values) - 1)):.1f},{_up(v):.1f}" for n, v in enumerate(values))
        told = f"{model.labels[c]}: {100 * values[0]:.1f} % as trained, {100 * values[-1]:.1f} % with my own mix"
        marks.append(f'<polyline points="{points}" style="stroke:{colour}"><title>{escape(told)}</title></polyline>')
    legend = "".join(
        f'<li><span class="key" style="background:{colour}"></span>{escape(model.labels[c])}</li>'
        for colour, c in zip(COLOURS, lines, strict=False)
    )
    chart = _chart(marks, "How the answer moves with the prior", "", "probability (%)")
    return f'{chart}<ul class="legend">{legend}</ul>'


def _chart(marks: list[str], title: str, across: str, up: str) -> str:
    rules = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_up(v):.1f}" y2="{_up(v):.1f}" class="rule"/>'
        f'<text x="{LEFT - 6}" y="{_up(v) + 4:.1f}" text-anchor="end">{100 * v:.0f}</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    return f"""<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="chart" role="group" aria-label="{title}">
{rules}{"".join(marks)}
<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{across}</text>
<text x="{LEFT}" y="{TOP - 8}">{up}</text></svg>"""


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM - 8) * share


def _ticks(low: float, high: float) -> list[int]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for power in powers for tick in (10**power, 3 * 10**power) if low < tick < high and tick >= 1]


def _taken_for(model: Classifier, c: int) -> str:
    """What the class is most often taken for, at most two others."""
    row = model.confusions(c)
    others = [k for k in sorted(range(len(row)), key=lambda k: -row[k]) if k != c and row[k]][:2]
    shares = [f"{model.labels[k]} {100 * row[k] / sum(row):.0f} %" for k in others]
    return f"; taken for {', '.join(shares)}" if shares else ""
