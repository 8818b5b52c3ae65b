"""One row: a JSON object of the project's own format, or of its neighbours', becomes a `Row`.

What is wrong with one is said in a sentence that never quotes the row's text: it may be harmful.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alttrain.engine.data.sources import Item
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.trace.roles import SPAN_ROLES, Message, Row, Span
from alttrain.engine.trace.segment import segment, split_response, strip_opening

COLUMNS = ("id", "label", "source", "prompt", "messages", "response", "spans", "text")
"""What --data.columns may give another name to."""

PROMPT_NAMES = ("prompt", "question", "instruction")
"""Columns read as the prompt where --data.columns names none."""

CHAT_COLUMNS = ("prompt", "messages", "response", "spans")
"""What a conversation is made of; where a row has one of them, its `text` is not looked at."""

TURN_ROLES = ("system", "user", "assistant")

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Format:
    """How a source writes its rows."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column -> the source's, where --data.columns gives one."""
    think_open: str = "<think>"
    think_close: str = "</think>"

    def __post_init__(self) -> None:
        """Check the delimiters.

        Raises:
            ConfigError: one is empty.
        """
        if not (self.think_open and self.think_close):
            raise ConfigError("--data.think-open and --data.think-close must not be empty: they delimit the reasoning.")

    @property
    def tags(self) -> tuple[str, ...]:
        """What no span may hold."""
        return tuple(dict.fromkeys((self.think_close, self.think_open, "</think>", "<think>")))


def parse_columns(text: str) -> dict[str, str]:
    """Read `prompt=question,response=answer` as {ours: theirs}.

    Raises:
        ConfigError: a part has no `=`, or names no column of ours, or names one twice, or text and a conversation.
    """
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs or ours not in COLUMNS or ours in columns:
            raise ConfigError(
                f"--data.columns has {part!r}: each part is OURS=THEIRS, once for each of {', '.join(COLUMNS)}. "
                "Write it as in prompt=question,response=answer."
            )
        columns[ours] = theirs
    chat = [name for name in CHAT_COLUMNS if name in columns]
    if "text" in columns and chat:
        raise ConfigError(
            f"--data.columns names both text and {chat[0]}: a row is plain text or a conversation. Leave one out."
        )
    return columns


def parse_row(item: Item, stem: str, row_format: Format) -> tuple[Row, list[str]]:
    """Return the row that `item` holds, and the names of the rules that placed its spans.

    A row of plain text has no messages, and all of it is one `unsegmented` span. A row without an id is called
    `stem`-number.

    Raises:
        DataError: the item is not a row, in a sentence that begins with `file:line`.
    """
    if isinstance(item.value, DataError):
        raise item.value
    try:
        if not isinstance(item.value, dict):
            raise DataError(f"not an object but {_kind(item.value)}; a row is one JSON object.")
        cells = _Cells(item.value, row_format)
        if cells.are_plain_text():
            messages: tuple[Message, ...] = ()
            spans, rules = [Span("unsegmented", _text(cells.get("text"), "text"))], ["plain_text"]
        else:
            messages, response = _messages(cells)
            spans, rules = _spans(cells, response)
        row = Row(
            id=_id(cells.get("id"), f"{stem}-{item.number}"),
            label=_note(cells, "label"),
            messages=messages,
            spans=tuple(spans),
            source=_note(cells, "source"),
            where=item.where,
        )
        _check_texts(row, row_format)
    except DataError as error:
        raise DataError(f"{item.where}: {error}") from None
    return row, rules


@dataclass(frozen=True)
class _Cells:
    """A row's values by our names for them; null is the same as missing."""

    values: dict[str, Any]
    row_format: Format

    def get(self, ours: str) -> Any:
        theirs = self.row_format.columns.get(ours)
        if theirs is None:
            return self.values.get(ours)
        if theirs not in self.values:
            raise DataError(f"no column {theirs!r}, which --data.columns names for {ours}; name one that is there.")
        return self.values[theirs]

    def are_plain_text(self) -> bool:
        """Return whether the row is a text without a conversation: --data.columns names it, or nothing else is there.

        A foreign row of a conversation may hold it once more as text.
        """
        columns = self.row_format.columns
        if "text" in columns or not columns.keys().isdisjoint(CHAT_COLUMNS):
            return "text" in columns
        return self.values.get("text") is not None and all(
            self.values.get(name) is None for name in (*PROMPT_NAMES, *CHAT_COLUMNS)
        )

    def prompt(self) -> tuple[str, Any]:
        """Return the prompt's name in the source, and its value."""
        if "prompt" in self.row_format.columns:
            return self.row_format.columns["prompt"], self.get("prompt")
        found = [name for name in PROMPT_NAMES if self.values.get(name) is not None]
        if len(found) > 1:
            raise DataError(
                f"has the columns {' and '.join(found)}, and any may be the prompt. "
                f"Say which with --data.columns prompt={found[0]}."
            )
        return (found[0], self.values[found[0]]) if found else ("prompt", None)


def _messages(cells: _Cells) -> tuple[tuple[Message, ...], Any]:
    """Return the turns before the response, and the response as it stands in the source (None where there is none)."""
    response, turns = cells.get("response"), cells.get("messages")
    # In a source whose column is mapped, other columns of a similar name are not the prompt.
    name, prompt = ("prompt", None) if "messages" in cells.row_format.columns else cells.prompt()
    if turns is None or "prompt" in cells.row_format.columns:
        return (Message("user", _text(prompt, name)),), response
    if prompt is not None:
        raise DataError(f"has both messages and {name}; a row has one of them. Name it with --data.columns.")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"messages is {_kind(turns)}; it must be a list with at least one turn.")
    messages = [_message(turn, f"messages[{index}]") for index, turn in enumerate(turns)]
    if messages[-1].role == "assistant":
        if response is not None:
            raise DataError("has a response and an assistant turn at the end of messages; keep one of them.")
        response = messages.pop().content
    if not messages or messages[-1].role != "user":
        raise DataError("messages has no user turn before the response; the last turn before it must be the user's.")
    close = cells.row_format.think_close
    # What reasoning models are shown of earlier turns is the answers alone.
    history = [
        Message(m.role, m.content.rpartition(close)[2].lstrip()) if m.role == "assistant" else m for m in messages
    ]
    return tuple(history), response


def _message(turn: Any, name: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{name} is {_kind(turn)}; a turn is an object with role and content.")
    role = turn.get("role")
    if role not in TURN_ROLES:
        raise DataError(
            f"{name}.role is {quote_name(role)}; it must be {', '.join(TURN_ROLES[:-1])} or {TURN_ROLES[-1]}."
        )
    return Message(role, _text(turn.get("content"), f"{name}.content"))


def _spans(cells: _Cells, response: Any) -> tuple[list[Span], list[str]]:
    spans = cells.get("spans")
    if spans is None and response is None:
        raise DataError("has no spans and no response. List the spans, or name the response with --data.columns.")
    if spans is None:
        return find_spans(_text(response, "response"), cells.row_format)
    if response is not None:
        raise DataError("has both spans and a response; a row has one of them. Keep one.")
    if not isinstance(spans, list) or not spans:
        raise DataError(f"spans is {_kind(spans)}; it must be a list with at least one span.")
    return [_span(span, f"spans[{index}]") for index, span in enumerate(spans)], ["listed"]


def _span(span: Any, name: str) -> Span:
    if not isinstance(span, dict):
        raise DataError(f"{name} is {_kind(span)}; a span is an object with role and text.")
    role, text = span.get("role"), span.get("text")
    if role not in SPAN_ROLES:
        raise DataError(f"{name}.role is {quote_name(role)}; it must be one of {', '.join(SPAN_ROLES)}.")
    if not isinstance(text, str):
        raise DataError(f"{name}.text is {_kind(text)}; it must be text.")
    return Span(role, text)


def find_spans(response: str, row_format: Format) -> tuple[list[Span], list[str]]:
    """Find the spans of an ordinary response by rule.

    A response that opens its reasoning and never closes it stays `unsegmented`, as reasoning without an answer; one
    without either delimiter stays `unsegmented` too, as an answer after empty reasoning.

    Returns:
        The spans, and the names of the rules that placed one.

    Raises:
        DataError: the delimiters stand at several places, or there is no text between them.
    """
    opened, body = strip_opening(response, row_format.think_open)
    rules: list[str] = []
    if row_format.think_close in body:
        think, answer = split_response(response, row_format.think_open, row_format.think_close)
        spans, rules = segment(think)
        if answer is not None:
            spans.append(Span("answer", answer))
    else:
        spans = [Span("unsegmented", body.strip())]
        if not opened:
            spans.insert(0, Span("answer", ""))
    if not any(span.text for span in spans):
        raise DataError("the response holds nothing but its delimiters; it must hold reasoning or an answer.")
    return spans, rules


def _id(value: Any, default: str) -> str:
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id")


def _note(cells: _Cells, name: str) -> str:
    """Return what a row says about itself; a foreign row may use the name for something that is not text."""
    value = cells.get(name)
    return value if isinstance(value, str) else ""


def _text(value: Any, name: str) -> str:
    if value is None:
        raise DataError(f"{name} is missing or null; it must be text. Another name is given with --data.columns.")
    if not isinstance(value, str):
        raise DataError(f"{name} is {_kind(value)}; it must be text.")
    if not value.strip():
        raise DataError(f"{name} is empty; it must be text.")
    return value


def _check_texts(row: Row, row_format: Format) -> None:
    texts = [("id", row.id), *((f"messages[{i}]", message.content) for i, message in enumerate(row.messages))]
    if len(row.messages) == 1:
        texts[1] = ("prompt", row.messages[0].content)
    spans = name_spans(row)
    texts += spans
    for name, text in texts:
        if _SURROGATE.search(text):
            raise DataError(f"{name} holds half of a surrogate pair, which no text may; write the whole character.")
    for name, text in spans:
        for tag in row_format.tags:
            if tag in text:
                raise DataError(
                    f"{name} holds the tag {tag!r}, which is written around the reasoning and may not stand inside a "
                    "span. Take it out."
                )


def name_spans(row: Row) -> list[tuple[str, str]]:
    """Return each span's name in a message, and its text; the span of a row of plain text is its `text`."""
    if not row.messages:
        return [("text", span.text) for span in row.spans]
    return [(f"spans[{index}] ({span.role})", span.text) for index, span in enumerate(row.spans)]


def quote_name(value: Any) -> str:
    """Quote a short name; anything else is only described, as it may be a row's text."""
    is_short = isinstance(value, str) and re.fullmatch(r"[\w.:/-]{1,40}", value)
    return repr(value) if is_short else _kind(value)


def _kind(value: Any) -> str:
    """Say what kind of JSON value it is."""
    if value is None:
        return "missing or null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "other text" if value else "empty text"
    return ("a list" if value else "an empty list") if isinstance(value, list) else "an object"
