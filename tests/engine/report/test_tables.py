"""Tables and their texts: Markdown that says what it was given, whatever that was."""

import html
import re

import pytest

from alttrain.engine.report.tables import (
    Cell,
    Table,
    cell_text,
    markdown_code,
    markdown_table,
    markdown_text,
    number_cell,
    rate_cell,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b",
    "a\\",
    "`x` and ``",
    "**b** and *",
    "_x_ __y__ a_b_c _d",
    "[a](x) and ![i](x)",
    "a &amp; b & c",
    "one\ntwo\r\n| three |",
    "~~s~~",
    "<!-- x -->",
    "1. x",
]


def test_a_table_in_markdown() -> None:
    table = Table(("arm", "rate"), (("full", Cell("95%", "91 to 99")), ("base", 0)), caption="not here")
    assert markdown_table(table) == "| arm | rate |\n| --- | --- |\n| full | 95% (91 to 99) |\n| base | 0 |"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("held_out.csv", "held_out.csv"),
        ("<script> & |", "&lt;script&gt; &amp; \\|"),
        ("two\nlines", "two lines"),
        ("_x_", "\\_x\\_"),
        (-1.5, "-1.5"),
    ],
)
def test_text_in_markdown(value: object, text: str) -> None:
    assert markdown_text(value) == text


@pytest.mark.parametrize(
    ("value", "code"),
    [("a/b.jsonl", "`a/b.jsonl`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("two\nlines", "`two lines`")],
)
def test_code_in_markdown(value: str, code: str) -> None:
    assert markdown_code(value) == code


@pytest.mark.parametrize("value", HOSTILE)
def test_a_reader_of_markdown_sees_the_value_and_no_markup(value: str) -> None:
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    seen = " ".join(value.split())
    rendered = reader.render(markdown_table(Table(("name", "value"), [("a row", value)])))
    cells = re.findall(r"<td>(.*?)</td>", rendered, flags=re.DOTALL)
    assert all("<" not in cell for cell in cells)
    assert [html.unescape(cell) for cell in cells] == ["a row", seen]
    assert html.unescape(reader.render(f"See {markdown_text(value)}.")) == f"<p>See {seen}.</p>\n"
    assert html.unescape(reader.render(f"See {markdown_code(value)}.")) == f"<p>See <code>{seen}</code>.</p>\n"


def test_cells_of_mappings_and_lists() -> None:
    assert cell_text({"prompt": 290, "end": 30}) == "prompt 290, end 30"
    assert cell_text({}) == "none"
    assert cell_text(["a", "b"]) == "2"
    assert cell_text(0) == "0"


def test_a_rate_has_the_interval_that_has_a_width() -> None:
    rate = {"share": 0.5, "clustered": (0.4, 0.62), "wilson": (0.45, 0.55)}
    assert rate_cell(rate) == Cell("50.0%", "40.0 to 62.0")
    assert rate_cell(rate | {"share": 1.0, "clustered": (1.0, 1.0), "wilson": (0.987, 1.0)}) == (
        "100.0%",
        "98.7 to 100.0",
    )
    assert rate_cell(rate | {"clustered": (0.5, 0.5), "wilson": None}) == ("50.0%", "50.0 to 50.0")
    assert rate_cell({"share": None}) == "–"


def test_a_number_that_there_is_none_of() -> None:
    assert number_cell(133149, ",.0f") == "133,149"
    assert number_cell(0.3216, ".2f", " bits") == "0.32 bits"
    assert number_cell(None, ".2f", " bits") == "–"


def test_a_table_without_rows_is_nothing() -> None:
    assert not Table(("a",), ())
    assert Table(("a",), (("b",),))
