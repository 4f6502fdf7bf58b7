"""Names from elsewhere: shown as they are, in prose, in code, in tables, and in a whole card."""

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from tailmoe.hub_cards.markdown import code, code_block, plain
from tailmoe.hub_cards.model_card import render_model_card

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![pixel](https://example.org/pixel.png)",
    "**bold** _slanted_ ~~gone~~ `code`",
    "# heading",
    "a\n\n# heading\n- item",
    "x: y\n---\nlicense: mit",
    "```\n<b>out</b>",
    "a | b | c",
    "&lt;b&gt; &copy;",
    "back\\slash \\`tick",
    "\u202egnp.exe",
    "https://example.org",
    "$$x^2$$",
]
SHOWN = {"\u202egnp.exe": "gnp.exe"}


def tokens_of(text):
    return [
        child
        for token in MarkdownIt("commonmark").enable("table").parse(text)
        for child in [token, *(token.children or [])]
    ]


def shown(text):
    """What a reader sees of one paragraph."""
    return "".join(token.content for token in tokens_of(text) if token.type in ("text", "text_special", "code_inline"))


def as_one_line(text):
    return " ".join(SHOWN.get(text, text).split("\n")).replace("  ", " ")


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_text_is_shown_as_it_is(text):
    line = f"Name: {plain(text)}."
    assert {token.type for token in tokens_of(line)} <= {
        "paragraph_open",
        "inline",
        "text",
        "text_special",
        "paragraph_close",
    }
    assert shown(line).replace("  ", " ") == f"Name: {as_one_line(text)}."


@pytest.mark.parametrize("text", HOSTILE)
def test_code_is_shown_as_it_is(text):
    tokens = [token for token in tokens_of(f"Run {code(text)} now") if token.type == "code_inline"]
    assert [" ".join(token.content.split()) for token in tokens] == [" ".join(as_one_line(text).split())]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_block_of_code_holds_all_its_lines(text):
    (token,) = [token for token in tokens_of(code_block(f"first\n{text}\nlast", "yaml")) if token.type == "fence"]
    assert token.content == f"first\n{text}\nlast\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_changes_what_a_card_is(results, text):
    usual = render_model_card(results, figures=["figures/a.png"])
    results.dataset.name, results.dataset.label_names = text, [text, "T-shirt", "Bag"]
    results.recipe["data"] = {"name": text}
    results.name = results.title = results.description = results.baseline.title = results.baseline.description = text
    results.command = f"tailmoe train {text}"
    card = render_model_card(results, figures=["figures/a.png"])
    kinds = ("html_block", "html_inline", "heading_open", "image", "tr_open", "fence", "hr", "s_open")
    for kind in kinds:
        ours, theirs = ([t for t in tokens_of(each.text) if t.type == kind] for each in (card, usual))
        assert len(ours) == len(theirs), kind
    links = {token.attrs["href"] for token in tokens_of(card.text) if token.type == "link_open"}
    assert not links, links


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_changes_the_metadata_of_a_card(results, text, tmp_path):
    results.dataset.name = results.name = text
    render_model_card(results).save(tmp_path / "README.md")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    assert yaml.safe_load(card.data.to_yaml())["model-index"][0]["name"]
