"""Class names in figures: `$` is a dollar, and characters come from a font that has them or the log says which to install."""

import logging

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from tailmoe.training.figures import fonts
from tailmoe.training.figures.style import save

CHARACTERS = {"Chinese": "猫", "Japanese": "いぬ", "Korean": "강아지", "emoji": "🦄"}


@pytest.fixture(autouse=True)
def _nothing_told_and_nothing_found_before():
    for each in (fonts._installed, fonts._tell):
        each.cache_clear()


def make_font(path, characters):
    """A font in which each character is a black square."""
    pen = TTGlyphPen(None)
    for step, place in zip(
        ("moveTo", "lineTo", "lineTo", "lineTo"), [(0, 0), (0, 800), (800, 800), (800, 0)], strict=True
    ):
        getattr(pen, step)(place)
    pen.closePath()
    names = {character: f"square{number}" for number, character in enumerate(characters)}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap({ord(character): name for character, name in names.items()})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names.values(), pen.glyph())})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def drawn(tmp_path, *names):
    """The pixels of a figure with names along its axis, in its title and in its legend."""
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.set_xticks(range(len(names)), names)
    axes.set_title(names[0])
    axes.plot([0, 1], label=names[-1])
    figure.legend()
    save(figure, tmp_path / "figure.png")
    return np.asarray(Image.open(tmp_path / "figure.png").convert("L")).astype(int)


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["a $b$", "$5 and $6", r"$\alpha$", r"$\frac{$", "_$x^{2}$"])
def test_a_dollar_is_a_dollar(name, tmp_path, monkeypatch):
    ours = drawn(tmp_path, name, name)
    escaped = name.replace("$", r"\$")
    monkeypatch.setattr("tailmoe.training.figures.style.set_fonts", lambda figure: None)
    assert np.array_equal(ours, drawn(tmp_path, escaped, escaped)), "matplotlib's own way to write a dollar"


def test_exponents_of_logarithmic_axes_stay(tmp_path, monkeypatch):
    def pixels():
        figure = Figure()
        figure.subplots().loglog([1, 1e6], [1, 1e6])
        save(figure, tmp_path / "figure.png")
        return np.asarray(Image.open(tmp_path / "figure.png"))

    ours = pixels()
    monkeypatch.setattr("tailmoe.training.figures.style.set_fonts", lambda figure: None)
    assert np.array_equal(ours, pixels())


@pytest.mark.parametrize("script", CHARACTERS)
@pytest.mark.filterwarnings("error")
def test_an_installed_font_draws_the_characters_that_the_figures_own_lacks(script, tmp_path, monkeypatch, caplog):
    name = CHARACTERS[script]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    boxes = drawn(tmp_path, name, "b")
    files = [make_font(tmp_path / "Other.ttf", "ж"), make_font(tmp_path / "Squares.ttf", "".join(CHARACTERS.values()))]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    fonts._installed.cache_clear()
    caplog.clear()
    found = drawn(tmp_path, name, "b")
    assert warnings_in(caplog) == []
    assert (found < 50).sum() > (boxes < 50).sum() + 50 * len(name), "squares are blacker than boxes"


@pytest.mark.parametrize("script", CHARACTERS)
@pytest.mark.filterwarnings("error")
def test_the_log_says_once_which_package_has_a_font_for_them(script, tmp_path, monkeypatch, caplog):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(broken)])
    for name in (CHARACTERS[script], f"{CHARACTERS[script]} again", "plain"):
        drawn(tmp_path, name, "b")
    (line,) = warnings_in(caplog)
    assert ("fonts-symbola" if script == "emoji" else "fonts-noto-cjk") in line


def test_names_that_the_figures_own_font_has_ask_for_no_other(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("fonts were searched"))
    drawn(tmp_path, "Übung, кошка, γάτα", "قطة", "two\nlines\t", "x\ufe0f\u200d")
    assert warnings_in(caplog) == []
