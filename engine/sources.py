"""Files of ordinary reasoning traces: a prompt, a response with the reasoning in it, perhaps a category.

A row that holds no usable trace is left out with its reason; a file that cannot be read is an error.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alttrain.engine.curate import Dropped
from alttrain.engine.data_card import SourceFacts
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.restructure import Trace, split_understanding
from alttrain.engine.trace import Message, split_response


@dataclass(frozen=True)
class SourceConfig:
    """A file of ordinary traces, and how to read it."""

    path: str = ""
    """A .json or .jsonl file; empty for no rows of this label."""
    columns: str = "prompt=question,response=response,category=category"
    """Names in the file; a category is a text or a list of texts, and may be missing."""
    think_open: str = "<think>"
    """What opens the reasoning in a response; it may be missing there."""
    think_close: str = "</think>"
    """What closes the reasoning in a response."""
    answer_open: str = ""
    """What opens the answer behind the reasoning, as in <answer>; empty where nothing does."""
    answer_close: str = ""
    """What closes the answer."""
    category: str = ""
    """The category of rows that name none, as in mathematics."""
    name: str = ""
    """What the rows' ids and the card call the source; empty for the file's name."""
    licence: str = ""
    """The source's licence, for the card."""


@dataclass(frozen=True)
class Source:
    """What was read from one file."""

    facts: SourceFacts
    traces: list[Trace]
    unusable: list[Dropped]


def slug(source: SourceConfig) -> str:
    """Return the name of a source as its rows' ids begin: letters and digits, in lower case."""
    return "".join(filter(str.isalnum, (source.name or Path(source.path).stem).lower()))


def read_source(source: SourceConfig, label: Literal["harmful", "benign"]) -> Source:
    """Return the traces of a file; a row that holds none is left out, with the reason."""
    name = source.name or Path(source.path).stem
    traces: list[Trace] = []
    unusable: list[Dropped] = []
    number = 0
    for number, (where, record) in enumerate(records(source.path) if source.path else (), 1):
        try:
            traces.append(read_trace(record, source, label, f"{slug(source)}-{number}", where))
        except DataError as error:
            unusable.append(Dropped(where, name, str(error)))
    facts = SourceFacts(
        name, label, Path(source.path).name, sha256_of(source.path), source.licence, number, len(traces), 0
    )
    return Source(facts, traces, unusable)


def read_trace(
    record: Mapping[str, Any], source: SourceConfig, label: Literal["harmful", "benign"], row_id: str, where: str
) -> Trace:
    """Return the trace of one record of the file.

    Raises:
        DataError: the record holds none; the message tells the reason alone.
    """
    columns = parse_columns(source.columns)
    prompt, response = (_text(record, columns, name) for name in ("prompt", "response"))
    try:
        # An opening delimiter may be missing, so the default does no harm where the source has none.
        think, answer = split_response(response, source.think_open or "<think>", source.think_close)
    except DataError as error:
        raise DataError(str(error).partition(". ")[0]) from error
    answer = _unwrap(answer or "", source)
    if label == "benign" and not answer:
        raise DataError("the response has no answer")
    if any(tag in text for tag in ("<think>", "</think>") for text in (think, answer)):
        raise DataError("a <think> or </think> stands inside the reasoning or the answer")
    categories = record.get(columns.get("category", "category"), source.category)
    categories = (categories,) if isinstance(categories, str) else tuple(map(str, categories or ()))
    trace = Trace(row_id, label, categories, (Message("user", prompt),), think, answer, slug(source), where)
    split_understanding(trace)
    return trace


def parse_columns(columns: str) -> dict[str, str]:
    """Return {our name: the file's} from prompt=question,response=answer.

    Raises:
        ConfigError: a part is not NAME=COLUMN, or NAME is not one of ours.
    """
    names: dict[str, str] = {}
    for part in columns.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if name not in ("prompt", "response", "category") or not equals or not column:
            raise ConfigError(f"--columns says '{part}': it must be like prompt=question,response=answer,category=topic.")
        names[name] = column
    return {"prompt": "prompt", "response": "response"} | names


def _text(record: Mapping[str, Any], columns: Mapping[str, str], name: str) -> str:
    value = record.get(columns[name])
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"its {name} ('{columns[name]}') is missing, empty or not text")
    return value


def _unwrap(answer: str, source: SourceConfig) -> str:
    opening, closing = source.answer_open, source.answer_close
    if not (answer.startswith(opening) and answer.endswith(closing)):
        raise DataError(f"the answer does not stand between '{opening}' and '{closing}'")
    return answer[len(opening) : len(answer) - len(closing)].strip()
