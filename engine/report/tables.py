"""Tables, which page.py shows as HTML and this file as Markdown; and escaping of text for Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MISSING = "–"
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{mark: f"\\{mark}" for mark in "\\`*[]~|"}})


class Cell(NamedTuple):
    """A cell with a second, smaller line."""

    text: str
    note: str


@dataclass(frozen=True)
class Table:
    """Columns with headings; the first cell of a row is the row's own heading."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    """The cells of each row: a `Cell`, or any value, which is shown by its `str`."""
    caption: str = ""
    """What the table shows; it appears in HTML only."""
    highlighted: str = ""
    """The heading of the row to highlight."""

    def __bool__(self) -> bool:
        return bool(self.rows)


def markdown_table(table: Table) -> str:
    """Return the table as GitHub's Markdown; the texts of its cells are escaped."""
    lines = [[_markdown_cell(cell) for cell in line] for line in (table.columns, *table.rows)]
    lines.insert(1, ["---"] * len(table.columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(value: object) -> str:
    """Return a value escaped for Markdown, on one line, for a cell or a sentence."""
    text = " ".join(str(value).split()).translate(_MARKUP)
    # Between two letters or digits, as in file names, an underscore marks nothing.
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def markdown_code(value: object) -> str:
    """Return a value as a code span of Markdown, on one line; not for cells, where a pipe would end it."""
    text = " ".join(str(value).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def cell_text(value: object) -> str:
    """Return a value as the text of a cell: a mapping as its names and values, a list as its length."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items()) or "none"
    return str(len(value)) if isinstance(value, list) else str(value)


def rate_cell(rate: Mapping[str, Any]) -> Cell | str:
    """Return a share in percent with its resampled interval below, or Wilson's interval where that one has no width."""
    if rate["share"] is None:
        return MISSING
    low, high = rate["clustered"]
    if low == high and rate["wilson"] is not None:
        low, high = rate["wilson"]
    return Cell(f"{100 * rate['share']:.1f}%", f"{100 * low:.1f} to {100 * high:.1f}")


def number_cell(value: float | None, style: str, unit: str = "") -> str:
    """Return a number in a format style such as `.2f`, with its unit; a dash for None."""
    return MISSING if value is None else f"{value:{style}}{unit}"


def _markdown_cell(cell: object) -> str:
    text = f"{cell.text} ({cell.note})" if isinstance(cell, Cell) else cell
    return markdown_text(text)
