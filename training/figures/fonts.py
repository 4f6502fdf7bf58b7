"""Class names in figures: text and never mathematics, in fonts that have their characters."""

import functools
import logging
import unicodedata

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

logger = logging.getLogger(__name__)
EXPONENT = r"\mathdefault"  # in the labels that matplotlib itself makes on logarithmic axes
NO_GLYPH = ("Cc", "Cf", "Zl", "Zp", "Zs")  # categories of characters that are not drawn
# packages of Debian and its descendants, by what the Unicode names of characters begin with
PACKAGES = {
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH", "BOPOMOFO"): "fonts-noto-cjk",
    ("",): "fonts-noto-core or, for emoji, fonts-symbola",
}


def set_fonts(figure: Figure) -> None:
    """Show the figure's texts as they are written, `$` too, where their own font lacks characters by an installed one.

    The log tells, once for each package that would help, if no installed font has them.
    """
    for axes in figure.axes:  # makes the labels of the ticks
        axes.get_xticklabels(), axes.get_yticklabels()
    texts = figure.findobj(Text)
    for text in texts:
        text.set_parse_math(EXPONENT in text.get_text())
    missing = frozenset(c for text in texts for c in text.get_text() if _is_drawn(c)) - _own_characters()
    if not missing:
        return
    families, without = _installed(missing)
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    for character in sorted(without):
        _tell(_package(character))


def _is_drawn(character: str) -> bool:
    return unicodedata.category(character) not in NO_GLYPH and not "\ufe00" <= character <= "\ufe0f"  # variants


@functools.cache
def _own_characters() -> frozenset[str]:
    return _characters(font_manager.findfont(font_manager.FontProperties()))


def _characters(path: str) -> frozenset[str]:
    """What a font file has glyphs for; nothing if it cannot be drawn with, as colour emoji cannot."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def _installed(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Families of installed fonts that have the characters, as few as possible, and the characters that none has."""
    files = {path: _characters(path) & characters for path in sorted(font_manager.findSystemFonts())}
    families = []
    while files and characters:
        best = max(files, key=lambda path: len(files[path] & characters))
        if not files[best] & characters:
            break
        font_manager.fontManager.addfont(best)
        families.append(FT2Font(best).family_name)
        characters -= files.pop(best)
    return families, characters


def _package(character: str) -> str:
    name = unicodedata.name(character, "")
    return next(package for starts, package in PACKAGES.items() if name.startswith(starts))


@functools.cache
def _tell(package: str) -> None:
    logger.warning(
        "No installed font has some characters of class names: figures show boxes in their place. Install one that does, on "
        "Debian and Ubuntu of the package %s, and draw them again.",
        package,
    )
