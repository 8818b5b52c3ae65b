"""The blocks of a report's page, and their rendering as one HTML file that opens offline.

A page has a title, opening blocks, and headed sections of blocks. The templates beside this file turn them into HTML
with autoescape on: every text is escaped there, and neither this file nor its callers write tags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alttrain.engine.report.tables import Table

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    is_soft: bool = False
    """Whether it is grey, for remarks."""


@dataclass(frozen=True)
class Callout:
    """Paragraphs in a frame, the first in bold: the main result."""

    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, in two columns where there is room."""

    items: Sequence[str]


@dataclass(frozen=True)
class Definitions:
    """Terms, each with its meaning or value."""

    entries: Mapping[str, object]


@dataclass(frozen=True)
class Figure:
    """A plot under its caption."""

    title: str
    note: str
    svg: str
    """From plots.py, which escapes its texts; empty where there was nothing to plot."""


@dataclass(frozen=True)
class Figures:
    """Plots side by side where there is room; those without an SVG are left out."""

    figures: Sequence[Figure]

    @property
    def drawn(self) -> list[Figure]:
        """The figures that have an SVG."""
        return [figure for figure in self.figures if figure.svg]

    def __bool__(self) -> bool:
        return bool(self.drawn)


@dataclass(frozen=True)
class Preformatted:
    """Text whose lines stay as they are; a wide one scrolls in its own box."""

    name: str
    """The name that a screen reader reads out."""
    text: str


@dataclass(frozen=True)
class Answer:
    """One model's response to a request."""

    name: str
    outcome: str
    reasoning: str
    text: str


@dataclass(frozen=True)
class Answers:
    """One request, and several models' responses to it, side by side."""

    title: str
    note: str
    request: str
    answers: Sequence[Answer]


Block = Prose | Callout | Bullets | Definitions | Figures | Table | Preformatted | Answers


@dataclass(frozen=True)
class Section:
    """A headed part of a page: a sentence on what it shows, then blocks; the page leaves it out if all are empty."""

    title: str
    lead: str
    blocks: Sequence[Block]


def render(title: str, opening: Sequence[Block], sections: Sequence[Section]) -> str:
    """Return the page as HTML that loads no script, font or picture; the same content gives the same bytes."""
    shown = [section for section in sections if any(section.blocks)]
    return _environment().get_template("page.jinja").render(title=title, opening=opening, sections=shown)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["kind"] = lambda block: type(block).__name__
    return environment
