"""Parsing one row: a JSON object in the project's own format, or in one of the usual others, becomes a `Row`.

Error messages never quote the row's text, as it may be harmful.
"""

from typing import Any

from alttrain.engine.data.checks import check_texts, describe_kind, quote_name
from alttrain.engine.data.columns import Cells, Format
from alttrain.engine.data.sources import Item
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import SPAN_ROLES, Message, Row, Span
from alttrain.engine.trace.segment import segment, split_response, strip_opening

TURN_ROLES = ("system", "user", "assistant")


def parse_row(item: Item, stem: str, row_format: Format) -> tuple[Row, list[str]]:
    """Return the row that `item` holds, and the names of the rules that placed its spans.

    A row of plain text has no messages, and its text is one `unsegmented` span. A row without an id gets the id
    `stem`-number.

    Raises:
        DataError: the item is not a valid row; the message begins with `file:line`.
    """
    if isinstance(item.value, DataError):
        raise item.value
    try:
        if not isinstance(item.value, dict):
            raise DataError(f"not an object but {describe_kind(item.value)}; a row is one JSON object.")
        cells = Cells(item.value, row_format)
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
        check_texts(row, row_format)
    except DataError as error:
        raise error.at(item.where) from None
    return row, rules


def _messages(cells: Cells) -> tuple[tuple[Message, ...], Any]:
    """Return the turns before the response, and the response as the source has it (None where it has none)."""
    response, turns = cells.get("response"), cells.get("messages")
    # Where --data.columns names the messages, a column called prompt or question is not the prompt.
    name, prompt = ("prompt", None) if "messages" in cells.row_format.columns else cells.prompt()
    if turns is None or "prompt" in cells.row_format.columns:
        return (Message("user", _text(prompt, name)),), response
    if prompt is not None:
        raise DataError(
            f"has both messages and {name}; a row has one of them. Name it with {{flag}}.", flag="--data.columns"
        )
    if not isinstance(turns, list) or not turns:
        raise DataError(f"messages is {describe_kind(turns)}; it must be a list with at least one turn.")
    messages = [_message(turn, f"messages[{index}]") for index, turn in enumerate(turns)]
    if messages[-1].role == "assistant":
        if response is not None:
            raise DataError("has a response and an assistant turn at the end of messages; keep one of them.")
        response = messages.pop().content
    if not messages or messages[-1].role != "user":
        raise DataError("messages has no user turn before the response; the last turn before it must be the user's.")
    close = cells.row_format.thinking.close
    # Of earlier turns, reasoning models are shown only the answers.
    history = [
        Message(m.role, m.content.rpartition(close)[2].lstrip()) if m.role == "assistant" else m for m in messages
    ]
    return tuple(history), response


def _message(turn: Any, name: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{name} is {describe_kind(turn)}; a turn is an object with role and content.")
    role = turn.get("role")
    if role not in TURN_ROLES:
        raise DataError(
            f"{name}.role is {quote_name(role)}; it must be {', '.join(TURN_ROLES[:-1])} or {TURN_ROLES[-1]}."
        )
    return Message(role, _text(turn.get("content"), f"{name}.content"))


def _spans(cells: Cells, response: Any) -> tuple[list[Span], list[str]]:
    spans = cells.get("spans")
    if spans is None and response is None:
        raise DataError(
            "has no spans and no response. List the spans, or name the response with {flag}.", flag="--data.columns"
        )
    if spans is None:
        return find_spans(_text(response, "response"), cells.row_format)
    if response is not None:
        raise DataError("has both spans and a response; a row has one of them. Keep one.")
    if not isinstance(spans, list) or not spans:
        raise DataError(f"spans is {describe_kind(spans)}; it must be a list with at least one span.")
    return [_span(span, f"spans[{index}]") for index, span in enumerate(spans)], ["listed"]


def _span(span: Any, name: str) -> Span:
    if not isinstance(span, dict):
        raise DataError(f"{name} is {describe_kind(span)}; a span is an object with role and text.")
    role, text = span.get("role"), span.get("text")
    if role not in SPAN_ROLES:
        raise DataError(f"{name}.role is {quote_name(role)}; it must be one of {', '.join(SPAN_ROLES)}.")
    if not isinstance(text, str):
        raise DataError(f"{name}.text is {describe_kind(text)}; it must be text.")
    return Span(role, text)


def find_spans(response: str, row_format: Format) -> tuple[list[Span], list[str]]:
    """Find the spans of an ordinary response by rule.

    A response that opens its reasoning and never closes it is one `unsegmented` span of reasoning, without an answer; a
    response without either delimiter is one `unsegmented` span after empty reasoning.

    Returns:
        The spans, and the names of the rules that placed one.

    Raises:
        DataError: the delimiters stand at several places, or there is no text between them.
    """
    thinking = row_format.thinking
    opened, body = strip_opening(response, thinking)
    rules: list[str] = []
    if thinking.close in body:
        think, answer = split_response(response, thinking)
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


def _note(cells: Cells, name: str) -> str:
    """Return the text of the column `name`; empty where it holds no text, as it may in other projects' rows."""
    value = cells.get(name)
    return value if isinstance(value, str) else ""


def _text(value: Any, name: str) -> str:
    if value is None:
        raise DataError(
            f"{name} is missing or null; it must be text. Another name is given with {{flag}}.", flag="--data.columns"
        )
    if not isinstance(value, str):
        raise DataError(f"{name} is {describe_kind(value)}; it must be text.")
    if not value.strip():
        raise DataError(f"{name} is empty; it must be text.")
    return value
