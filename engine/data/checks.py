"""Checks of a row's texts, and names for values in messages that never quote a row's text, as it may be harmful."""

import re
from typing import Any

from alttrain.engine.data.columns import Format
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Row

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_texts(row: Row, row_format: Format) -> None:
    """Check that every text is valid Unicode, and that no span holds a tag that is written around the reasoning.

    Raises:
        DataError: a text holds half of a surrogate pair, or a span holds a tag; the caller adds `file:line`.
    """
    texts = [("id", row.id), *((f"messages[{i}]", message.content) for i, message in enumerate(row.messages))]
    if len(row.messages) == 1:
        texts[1] = ("prompt", row.messages[0].content)
    texts += [
        ("reasoning", str(m.extras["reasoning_content"])) for m in row.messages if "reasoning_content" in m.extras
    ]
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
    """Return for each span the name that messages give it, and its text; for plain text the name is `text`."""
    if not row.messages:
        return [("text", span.text) for span in row.spans]
    return [(f"spans[{index}] ({span.role})", span.text) for index, span in enumerate(row.spans)]


def quote_name(value: Any) -> str:
    """Quote a short name; anything else is only described, as it may be a row's text."""
    is_short = isinstance(value, str) and re.fullmatch(r"[\w.:/-]{1,40}", value)
    return repr(value) if is_short else describe_kind(value)


def describe_kind(value: Any) -> str:
    """Return a phrase for the kind of a JSON value."""
    if value is None:
        return "missing or null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "other text" if value else "empty text"
    return ("a list" if value else "an empty list") if isinstance(value, list) else "an object"
