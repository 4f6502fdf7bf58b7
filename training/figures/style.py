"""How all figures look: PNG files of 150 dpi, in colours that colour-blind readers and grey print tell apart.

Colours are those of Okabe and Ito and sequential maps.
"""

import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from tailmoe.training.figures.fonts import set_fonts

DPI = 150
MODEL_COLOUR, BASELINE_COLOUR = "#0072B2", "#D55E00"
COLOURS = (MODEL_COLOUR, BASELINE_COLOUR, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NAMED_CLASSES = 20  # with more, names do not fit along an axis
NAME_LENGTH = 20


def short(name: str) -> str:
    """A class name, cut where it would not fit."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def open_axes(axes: Axes) -> None:
    """No frame but the two axes, and faint lines across."""
    axes.grid(axis="y", color="0.85", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def count_ticks(axis: object) -> None:
    """1, 2, 5, 10, ... as plain numbers on a logarithmic axis of images."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(ScalarFormatter())


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    FigureCanvasAgg(figure)  # whatever backend the user has chosen for his own figures
    set_fonts(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the log has told
        figure.savefig(path, dpi=DPI)
