"""Cards from the templates beside this file: a variable that is not there is an error, never an empty place."""

from pathlib import Path

import jinja2

from tailmoe.hub_cards import markdown
from tailmoe.training.results.scores import percent

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> str:
    """A template's text with its values.

    Raises:
        jinja2.UndefinedError: If the template uses a value that is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.filters |= {
        "percent": percent,
        "thousands": lambda number: f"{int(number):,}",
        "plain": markdown.plain,
        "code": markdown.code,
    }
    return environment.get_template(template).render(values)
