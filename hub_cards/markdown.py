"""Names from elsewhere in Markdown: what they say, and nothing that they do."""

import re

SPECIAL = re.compile(r"([\\`*_\[\]<>&#~$])")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")  # with changes of direction


def plain(text: str) -> str:
    """Text on one line that Markdown shows as it is; bars are left to whoever makes a table of it."""
    return SPECIAL.sub(r"\\\1", one_line(text))


def code(text: str) -> str:
    """Text as inline code, in a fence longer than any backticks in it."""
    text = one_line(text)
    fence = "`" * (_longest_run(text) + 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def code_block(text: str, language: str) -> str:
    """Lines as a block of code, in a fence longer than any backticks in them."""
    fence = "`" * max(_longest_run(text) + 1, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def one_line(text: str) -> str:
    """Text without line breaks and other control characters."""
    return CONTROL.sub(" ", str(text)).strip()


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
