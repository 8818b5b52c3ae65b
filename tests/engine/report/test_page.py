"""The one page: what it is made of is shown to the letter, well formed, and without anything from elsewhere."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from alttrain.engine.report import page
from alttrain.engine.report.page import (
    Answer,
    Answers,
    Block,
    Bullets,
    Callout,
    Definitions,
    Figure,
    Figures,
    Preformatted,
    Prose,
    Section,
    render,
)
from alttrain.engine.report.plots import Line, curves
from alttrain.engine.report.tables import Cell, Table

HTML = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))
Reader, HOSTILE, assert_stands_alone = HTML["Reader"], HTML["HOSTILE"], HTML["assert_stands_alone"]
SVG = curves("a plot", "loss: 3 at step 1, 2 at step 2.", {"loss": Line([1, 2], [3.0, 2.0])})


def one_of_each(text: str) -> list[Block]:
    """Return a block of every kind, with `text` wherever text goes."""
    return [
        Prose(text),
        Prose(text, is_soft=True),
        Callout([text, text]),
        Bullets([text, text]),
        Definitions({text: text}),
        Figures([Figure(text, text, SVG)]),
        Table([text, text], [[text, Cell(text, text)], ["other", text]], text, highlighted=text),
        Preformatted(text, text),
        Answers(text, text, text, [Answer(text, text, text, text)]),
    ]


def body_of(block: Block) -> str:
    """Return what a block becomes, without the page around it."""
    text = render("a title", [block], [])
    return text[text.index("</h1>") + 5 : text.index("</main>")].strip()


def test_every_kind_of_block_is_well_formed_and_stands_alone() -> None:
    text = render("a title", [Prose("words")], [Section("a heading", "a lead", one_of_each("words"))])
    assert_stands_alone(text)
    elements = Reader(text).elements
    expected = (
        "main",
        "h1",
        "section",
        "h2",
        "h3",
        "figure",
        "figcaption",
        "svg",
        "table",
        "caption",
        "pre",
        "dl",
        "ul",
    )
    assert {name: elements[name] for name in expected} == dict.fromkeys(expected, 1)


def test_text_is_never_markup() -> None:
    text = render(HOSTILE, one_of_each(HOSTILE), [Section(HOSTILE, HOSTILE, one_of_each(HOSTILE))])
    plain = render("words", one_of_each("words"), [Section("words", "words", one_of_each("words"))])
    assert Reader(text).elements == Reader(plain).elements
    assert Reader(text).text == Reader(plain).text.replace("words", HOSTILE)
    attributes = [re.findall(r'aria-label="([^"]*)"', which) for which in (text, plain)]
    assert [len(found) for found in attributes] == [6, 6]


@pytest.mark.parametrize(
    ("block", "html"),
    [
        (Prose("a < b"), "<p>a &lt; b</p>"),
        (Prose("so", is_soft=True), '<p class="soft">so</p>'),
        (Callout(["a", "b"]), '<div class="callout">\n<p>a</p>\n<p>b</p>\n</div>'),
        (Bullets(["a", "b"]), '<ul class="columns">\n<li>a</li>\n<li>b</li>\n</ul>'),
        (Definitions({"ranks": 2}), "<dl>\n<dt>ranks</dt><dd>2</dd>\n</dl>"),
        (
            Preformatted("S", "{\n  1\n}"),
            '<pre class="scroll" role="region" tabindex="0" aria-label="S">{\n  1\n}</pre>',
        ),
    ],
)
def test_what_blocks_become(block: Block, html: str) -> None:
    assert body_of(block) == html


def test_a_table_has_headings_a_caption_and_a_row_to_look_at() -> None:
    html = body_of(
        Table(("arm", "rate"), (("full", Cell("95%", "91 to 99")), ("base", 0)), "Rates.", highlighted="base")
    )
    assert '<div class="scroll" role="region" tabindex="0" aria-label="Table: arm"><table>' in html
    assert "<caption><span>Rates.</span></caption>" in html
    assert '<thead><tr><th scope="col">arm</th><th scope="col">rate</th></tr></thead>' in html
    assert '<tr><th scope="row">full</th><td>95%<small>91 to 99</small></td></tr>' in html
    assert '<tr class="main"><th scope="row">base</th><td>0</td></tr>' in html


def test_what_has_nothing_to_show_is_left_out() -> None:
    nothing = [Figures([Figure("a plot", "", "")]), Table(("a",), ())]
    text = render(
        "a title", nothing, [Section("empty", "a lead", nothing), Section("full", "", [*nothing, Prose("it")])]
    )
    assert not Reader(text).elements.keys() & {"figure", "table"}
    assert "empty" not in text
    assert "<section><h2>full</h2>\n<p>it</p>\n</section>" in text


def test_a_figure_without_a_plot_leaves_the_others() -> None:
    text = body_of(Figures([Figure("none", "", ""), Figure("one", "", SVG)]))
    assert "<figure><figcaption>one</figcaption>\n<svg" in text
    assert Reader(text).elements["figure"] == 1


def test_the_same_content_gives_the_same_bytes() -> None:
    assert render("a", one_of_each("b"), []) == render("a", one_of_each("b"), [])


def test_both_colour_schemes_and_a_phone_are_thought_of() -> None:
    text = render("a title", [Prose("words")], [])
    assert text.startswith('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>a title</title>\n')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert ".scroll { overflow-x: auto;" in text


def test_markup_is_taken_as_it_is_in_one_place() -> None:
    templates = list(Path(page.__file__).parent.glob("*.jinja"))
    found = [expression for file in templates for expression in re.findall(r"{{[^}]*safe[^}]*}}", file.read_text())]
    assert found == ["{{ figure.svg|safe }}"]
    assert not any("autoescape" in file.read_text() for file in templates)


def test_a_block_that_no_template_knows_is_an_error() -> None:
    unknown: Any = object()
    with pytest.raises(UndefinedError):
        render("a title", [unknown], [])


def test_it_imports_without_jinja2() -> None:
    program = "import sys, alttrain.engine.report.page; print({'jinja2', 'matplotlib', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
