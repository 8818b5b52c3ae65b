"""Reading the ordinary reasoning traces that `restructure` starts from.

Rows are read by the same code as training data; a row without a usable trace is left out, with the reason.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from alttrain.engine.data.columns import Format, parse_columns
from alttrain.engine.data.formats import parse_row
from alttrain.engine.data.sources import Item, read_source
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.restructure.config import BenignConfig, Label, SourceConfig
from alttrain.engine.restructure.structures import Trace, split_understanding
from alttrain.engine.thinking import MARKS, Thinking


@dataclass(frozen=True)
class Dropped:
    """A row that was left out: its place, and the reason."""

    where: str
    source: str
    reason: str
    avoided_in: str = ""
    """The file of --avoid that holds its prompt, if that is the reason."""


@dataclass(frozen=True)
class Ordinary:
    """The traces of one source, and its rows without a usable one."""

    config: SourceConfig
    label: Label
    sha256: str
    """Hash of the file; empty for a hub id."""
    traces: list[Trace]
    unusable: list[Dropped]


def read_ordinary(config: SourceConfig) -> Ordinary:
    """Return the traces of a source; their ids hold the number of the row in it, from 1.

    Raises:
        ConfigError: `columns` or a mark does not have the form that --help describes.
        DataError: the file is missing or broken.
    """
    label: Label = "benign" if isinstance(config, BenignConfig) else "harmful"
    traces: list[Trace] = []
    unusable: list[Dropped] = []
    try:
        columns = parse_columns(config.columns)
        # Responses may lack the opening mark, so the default does no harm for a source that has none.
        row_format = Format(columns, Thinking(config.think_open or MARKS.open, config.think_close))
    except ConfigError as error:
        raise error.in_section(label) from None
    for item in read_source(config.path) if config.path else ():
        try:
            traces.append(read_trace(item, config, label, row_format))
        except DataError as error:
            unusable.append(Dropped(item.where, config.title, error.in_section(label).sentence))
    return Ordinary(config, label, sha256_of(config.path), traces, unusable)


def read_trace(item: Item, config: SourceConfig, label: Label, row_format: Format) -> Trace:
    """Return the trace that `item` holds.

    Raises:
        DataError: the row is invalid, or it has no reasoning, or a benign one no answer between its marks.
    """
    row, _ = parse_row(item, config.title, row_format)
    think = "".join(span.text for span in row.spans if span.role in ("understanding", "assessment", "reasoning"))
    answer = "".join(span.text for span in row.spans if span.role == "answer")
    if not think:
        raise DataError("the response has no reasoning between its delimiters; a trace needs some.")
    if isinstance(config, BenignConfig):
        answer = _unwrap(answer, config)
    trace = Trace(
        id=f"{config.slug}-{item.number}",
        label=label,
        categories=_categories(item, config),
        messages=row.messages,
        think=think,
        answer=answer,
        source=config.title,
        where=item.where,
    )
    split_understanding(trace)
    return trace


def sha256_of(path: str) -> str:
    """Return the hash of a file's bytes; empty text where `path` is no file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else ""


def _unwrap(answer: str, config: BenignConfig) -> str:
    opening, closing = config.answer_open, config.answer_close
    if not (answer.startswith(opening) and answer.endswith(closing)):
        raise DataError(f"the answer does not stand between {opening!r} and {closing!r}; give the source's own.")
    inside = answer[len(opening) : len(answer) - len(closing)].strip()
    if not inside:
        raise DataError("the response has no answer; a benign trace needs one.")
    return inside


def _categories(item: Item, config: SourceConfig) -> tuple[str, ...]:
    value = item.value.get(config.category_column) if isinstance(item.value, dict) else None
    named = value if isinstance(value, list) else [value]
    return tuple(name for name in named if isinstance(name, str) and name) or (config.category,)
