"""The texts of evaluation sets, and the forms of a prompt that are compared with them.

Two texts are the same when their normalised forms are equal: form is disregarded, wording is not, and paraphrases are
not found.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.data.content import content_suffix
from alttrain.engine.data.sources import read_source
from alttrain.engine.data.tables import TABLES, read_table
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Message

PROMPT_COLUMNS = (
    "prompt", "question", "instruction", "input", "query", "goal", "behavior", "behaviour", "request", "text",
    "content", "value", "forbidden_prompt", "problem", "messages", "conversations",
)  # fmt: skip
"""Columns that hold prompts: all of their texts are compared, however short."""

_LABEL_COLUMNS = (
    "label", "labels", "type", "category", "categories", "subcategory", "tag", "tags", "source", "split", "id", "role",
    "from", "language", "lang", "focus", "note", "name", "model", "attack", "answer", "final_label",
)  # fmt: skip
# A text of fewer characters may be a word of a label: a prompt that is one is not a leak.
_SHORT = 20
# Bytes below which one of several turns says nothing by itself ("Go on.").
_SHORT_TURN = 10

_DOUBLE_QUOTES = '"“”„‟«»″〃＂❝❞〝〞〟'
_SINGLE_QUOTES = "'‘’‚‛′`´‹›＇ʼʹ❛❜"
_QUOTES = str.maketrans(dict.fromkeys(_DOUBLE_QUOTES + _SINGLE_QUOTES, "'"))
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣－⁃⸺⸻", "-"))
_NUMBER = re.compile(r"\s*[-+]?[\d.,]*%?\s*")
_HEADER_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Avoided:
    """The texts of one file, normalised, and how many of its cells they come from."""

    texts: frozenset[str]
    num_cells: int
    """Cells, or texts of rows, that are compared."""
    num_short: int = 0
    """Short texts of columns that hold labels, which are not compared."""


def normalise(text: str) -> str:
    """Return `text` without what writing it down another way changes.

    That is NFKC, case, runs of white space, characters of no width, the shape of quotes and dashes and the spaces
    around dashes, and quotes at the beginning and punctuation at the end, unless there is nothing else.
    """
    text = " ".join(unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold().split())
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES).translate(_DASHES)
        text = "".join(char for char in text if not _has_no_width(char))
    if "''" in text or "-" in text or not text.isascii():
        text = " ".join(re.sub(r"'+", "'", text).split())
        text = re.sub(r"-[- ]*", "-", text.replace(" -", "-"))
    end = len(text)
    while end and (text[end - 1] == " " or unicodedata.category(text[end - 1]).startswith("P")):
        end -= 1
    return text[:end].lstrip("' ") or text


def _has_no_width(char: str) -> bool:
    return (unicodedata.category(char) in ("Cf", "Cc") and not char.isspace()) or "\ufe00" <= char <= "\ufe0f"


def forms_of(messages: Sequence[Message]) -> set[str]:
    """Return the normalised texts by which a prompt may stand in an evaluation set.

    They are every user turn, but short ones of a longer conversation ("Go on."), and the whole conversation, each with
    and without what the system turn says.
    """
    system = [message.content for message in messages if message.role == "system"]
    turns = [message.content for message in messages if message.role != "system"]
    asked = [message.content for message in messages if message.role == "user"]
    texts = {"\n".join(turns)}
    if system:
        texts |= {"\n".join([*system, *turns]), *("\n".join([*system, text]) for text in asked)}
    if len(turns) > 1:
        alone = {normalise(text) for text in asked}
        return {normalise(text) for text in texts} | {one for one in alone if len(one.encode()) >= _SHORT_TURN}
    return {normalise(text) for text in texts} - {""}


def read_avoided(name: str) -> Avoided:
    """Return the texts of every cell of a delimited table, or of every string in the rows of another source.

    A cell that holds JSON is compared whole and string by string.

    A table's first row is compared like the others, but for single words, which are the names of its columns. Of a
    table or row with `instruction` and `input`, the two joined are compared as well. Numbers, and short texts in
    columns that hold labels, are not.

    Raises:
        DataError: the file is missing, is not what its name says, has rows of several widths, or has nothing to
            compare.
    """
    path = Path(name)
    is_table = content_suffix(path) in TABLES
    found = _table_texts(path, name) if is_table else _source_texts(name)
    normalised = [(column, normalise(text)) for column, text in found if not _NUMBER.fullmatch(text)]
    normalised = [(column, text) for column, text in normalised if text]
    counts = Counter(column for column, _ in normalised)
    values: dict[str, set[str]] = {}
    for column, text in normalised:
        values.setdefault(column, set()).add(text)
    holds_labels = {
        column
        for column, distinct in values.items()
        if column.lower() not in PROMPT_COLUMNS
        and (column.lower() in _LABEL_COLUMNS or 4 * len(distinct) <= counts[column])
    }
    compared = [text for column, text in normalised if len(text) >= _SHORT or column not in holds_labels]
    if not compared:
        raise DataError("holds no text to compare with. Take it out of --avoid, or give the right file.", where=name)
    return Avoided(frozenset(compared), len(compared), len(normalised) - len(compared))


def _table_texts(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (column, text) of the cells; the column is empty where the first row names none."""
    table = read_table(path, name)
    if not table.rows:
        return
    header = [cell.strip() if _HEADER_NAME.fullmatch(cell.strip()) else "" for cell in table.rows[0].cells]
    for row in table.rows:
        try:
            table.check_width(row)
        except DataError as error:
            raise error.at(f"{name}:{row.line}") from None
        if row is table.rows[0]:
            texts = [("", cell) for cell, column in zip(row.cells, header, strict=True) if not column]
        else:
            texts = list(zip(header, row.cells, strict=True))
            texts += _joined(dict(texts))
        for column, text in texts:
            yield from _strings(text, column)
    if content_suffix(path) == ".txt" and table.delimiter:
        for row in table.rows:  # each line may be a text as well
            yield "", table.delimiter.join(row.cells)


def _source_texts(name: str) -> Iterator[tuple[str, str]]:
    for item in read_source(name):
        if isinstance(item.value, DataError):
            raise item.value
        yield from _strings(item.value, "")


def _strings(value: Any, column: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield column, value
        yield from _strings(_from_json(value), column)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(part, str(key))
        yield from _joined(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _strings(part, column)


def _from_json(cell: str) -> Any:
    """Return the list or object that a text holds as JSON, such as the turns of a conversation; None where none is."""
    if not cell.startswith(("[", "{")):
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return None


def _joined(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    first, second = row.get("instruction"), row.get("input")
    is_both = isinstance(first, str) and isinstance(second, str) and first and second
    return [("instruction", f"{first}\n{second}")] if is_both else []
