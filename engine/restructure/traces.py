"""Reading the ordinary reasoning traces that `restructure` starts from.

Rows are read by the same code as training data; a row without a usable trace is left out, with the reason.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alttrain.engine.data.checks import quote_name
from alttrain.engine.data.columns import Format, parse_columns
from alttrain.engine.data.formats import parse_item
from alttrain.engine.data.labels import LABEL_COLUMNS, OwnLabel, Verdict, own_label
from alttrain.engine.data.sources import Item, read_source
from alttrain.engine.errors import AlttrainError, DataError
from alttrain.engine.restructure.carried import check_carried
from alttrain.engine.restructure.config import BenignConfig, SourceConfig
from alttrain.engine.restructure.record import check_read_back
from alttrain.engine.restructure.selection import Where, check_named, check_values, parse_where
from alttrain.engine.restructure.structures import Trace, split_understanding
from alttrain.engine.restructure.tags import find_tag, find_template, find_token
from alttrain.engine.restructure.wording import Label
from alttrain.engine.thinking import MARKS, Thinking
from alttrain.engine.trace.roles import Message, Row, Span

MOST_UNKNOWN = 5
"""How many labels that are not understood are named."""


@dataclass(frozen=True)
class Dropped:
    """A row that was left out: its place, and the reason."""

    where: str
    source: str
    label: Label
    """The section in which it was given."""
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
    labels: Counter[Verdict] = field(default_factory=Counter)
    """How many rows say by a label of their own that they are harmful or benign, or have one that is unclear or not
    understood, or none; rows that --*.where does not take are not counted."""
    label_columns: tuple[str, ...] = ()
    """The columns in which these labels stand."""
    unknown_labels: tuple[str, ...] = ()
    """The first few labels that are not understood: numbers and short names."""
    unclear_labels: tuple[str, ...] = ()
    """The first few labels that are unclear; their rows are left out."""


def read_ordinary(config: SourceConfig) -> Ordinary:
    """Return the traces of a source; their ids hold the number of the row in it, from 1.

    A row whose own label contradicts the section in which the source is given, or may do so, is left out.

    Raises:
        ConfigError: `columns`, `where` or a mark does not have the form that --help describes.
        DataError: the file is missing, broken or without rows, or no row has a column or value that a flag names.
    """
    label: Label = "benign" if isinstance(config, BenignConfig) else "harmful"
    try:
        columns = parse_columns(config.columns)
        # Responses may lack the opening mark, so the default does no harm for a source that has none.
        # The builder has rules of its own for marks in an answer, which name its own flags.
        thinking = Thinking(config.think_open or MARKS.open, config.think_close)
        row_format = Format(columns, thinking, keeps_foreign_marks=True)
        where = parse_where(config.where)
        items = list(read_source(config.path)) if config.path else []
        if config.path:
            _check_source(items, config, columns, where)
    except AlttrainError as error:
        raise error.in_section(label) from None
    label_columns = (columns["label"],) if "label" in columns else LABEL_COLUMNS
    found = Ordinary(config, label, sha256_of(config.path), [], [])
    seen: dict[str, None] = {}
    unknown: dict[Verdict, dict[str, None]] = {"unclear": {}, "not understood": {}}
    for item in items:
        try:
            if isinstance(item.value, DataError):
                raise item.value
            if not where.takes(_values(item)):
                raise DataError("{flag} does not take it.", flag="--data.where")
            own = own_label(_values(item), label_columns, label)
            found.labels[own.verdict] += 1
            seen.setdefault(own.column)
            if own.verdict in unknown and len(unknown[own.verdict]) < MOST_UNKNOWN:
                unknown[own.verdict].setdefault(_name_label(own.value))
            _check_label(own, label)
            found.traces.append(read_trace(item, config, label, row_format))
        except DataError as error:
            found.unusable.append(Dropped(item.where, config.title, label, error.in_section(label).sentence))
    return replace(
        found,
        label_columns=tuple(filter(None, seen)),
        unknown_labels=tuple(unknown["not understood"]),
        unclear_labels=tuple(unknown["unclear"]),
    )


def _check_source(items: Sequence[Item], config: SourceConfig, columns: Mapping[str, str], where: Where) -> None:
    """Check that the source has rows, and the columns and values that the flags name."""
    if not items:
        raise DataError("holds no rows. Give a file with at least one.", where=config.path)
    rows = [item.value for item in items]
    named = [("--data.columns", column) for column in columns.values()]
    named += [("--data.where", column) for column in where.values]
    named += [("--data.category-column", config.category_column)] if config.category_column else []
    if any(isinstance(row, dict) for row in rows):
        check_named(rows, named, config.path)
        check_values(rows, where, config.path)


def _name_label(value: Any) -> str:
    return str(value) if isinstance(value, (bool, int, float)) else quote_name(value)


def _check_label(own: OwnLabel, label: Label) -> None:
    if own.verdict in ("harmful", "benign") and own.verdict != label:
        raise DataError(
            f"its own label in {quote_name(own.column)} says {own.verdict}. Where another column labels the prompt, "
            "name it with {flag} label=NAME.",
            flag="--data.columns",
        )
    if own.verdict == "unclear":
        raise DataError(
            f"its own label in {quote_name(own.column)} may say harmful or benign, and is in no table of labels. Write "
            "harmful or benign there, or name another column with {flag} label=NAME.",
            flag="--data.columns",
        )


def read_trace(item: Item, config: SourceConfig, label: Label, row_format: Format) -> Trace:
    """Return the trace that `item` holds.

    Raises:
        DataError: the row is invalid or says what a built row does not hold, its prompt is written out by a chat
            template, it has no reasoning, or a benign one no answer between its marks, or one with tags of another
            format, or training would refuse what would be written of it.
    """
    rows = [row for row, _ in parse_item(item, config.title, row_format)[0]]
    check_carried(rows, _values(item))
    row = rows[0]
    think = "".join(span.text for span in row.spans if span.role in ("understanding", "assessment", "reasoning"))
    answer = "".join(span.text for span in row.spans if span.role == "answer")
    _check_marks(row.messages, think)
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
    spans = [Span("reasoning", think), *([Span("answer", answer)] if isinstance(config, BenignConfig) else [])]
    check_read_back(Row(trace.id, label, trace.messages, tuple(spans), trace.source, trace.where))
    split_understanding(trace)
    return trace


def _check_marks(messages: Sequence[Message], think: str) -> None:
    """Refuse marks of a chat template, which training would refuse, or read as the end of a turn."""
    for message in messages:
        if message.role == "user" and (mark := find_template(message.content)):
            raise DataError(
                f"the prompt is written out by a chat template (it holds {mark!r}). Name the column of the bare "
                "question with {flag} prompt=NAME.",
                flag="--data.columns",
            )
    prompt = json.dumps([message.as_turn() for message in messages], ensure_ascii=False, default=str)
    for name, text in (("prompt", prompt), ("reasoning", think)):
        if token := find_token(text):
            raise DataError(f"the {name} holds {token!r}, a special token, which training refuses. Take it out.")


def sha256_of(path: str) -> str:
    """Return the hash of a file's bytes; empty text where `path` is no file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else ""


def _unwrap(answer: str, config: BenignConfig) -> str:
    opening, closing = config.answer_open, config.answer_close
    if not (answer.startswith(opening) and answer.endswith(closing)):
        raise DataError(
            f"the answer does not stand between {opening!r} and {closing!r}, the marks that {{flag}} and "
            "--benign.answer-close name; give the source's own.",
            flag="--benign.answer-open",
        )
    inside = answer[len(opening) : len(answer) - len(closing)].strip()
    if not inside:
        raise DataError("the response has no answer; a benign trace needs one.")
    if tag := find_tag(inside):
        raise DataError(
            f"the answer holds the tag {tag!r} of another format, which would be trained. Name the marks around the "
            "answer with {flag} and --benign.answer-close.",
            flag="--benign.answer-open",
        )
    return inside


def _categories(item: Item, config: SourceConfig) -> tuple[str, ...]:
    value = _values(item).get(config.category_column or "category")
    if isinstance(value, dict):  # {category: true or false}
        value = [name for name, is_named in value.items() if is_named is True or is_named == 1]
    named = value if isinstance(value, list) else [value]
    return tuple(name for name in named if isinstance(name, str) and name) or (config.category,)


def _values(item: Item) -> Mapping[str, Any]:
    return item.value if isinstance(item.value, dict) else {}
