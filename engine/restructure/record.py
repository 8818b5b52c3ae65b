"""A row as the builder writes it: one object of the project's own format, which training reads back as the same row."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from alttrain.engine.data.columns import Format
from alttrain.engine.data.formats import parse_item
from alttrain.engine.data.sources import Item
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Message, Row


def as_record(row: Row) -> dict[str, Any]:
    """Return `row` in the project's own format, one line of JSONL."""
    return (
        {"id": row.id, "label": row.label}
        | _prompt(row.messages)
        | {
            "spans": list(map(asdict, row.spans)),
            "source": row.source,
        }
        | ({"structure": row.structure} if row.structure else {})
    )


def _prompt(messages: Sequence[Message]) -> dict[str, Any]:
    is_plain = len(messages) == 1 and messages[0].role == "user" and not messages[0].extras
    if is_plain:
        return {"prompt": messages[0].content}
    return {"messages": [message.as_turn() for message in messages]}


def check_read_back(row: Row) -> None:
    """Check that training reads what would be written of `row` as that row.

    Raises:
        DataError: it refuses it, or reads another row.
    """
    try:
        value = json.loads(json.dumps(as_record(row)))
    except (TypeError, ValueError, RecursionError):
        raise DataError("it holds a value that JSON does not have, and cannot be written.") from None
    try:
        read = parse_item(Item(row.where, 1, value), "", Format())[0]
    except DataError as error:
        raise DataError(f"training would refuse what would be written of it: {error.sentence}") from None
    if [each for each, _ in read] != [row]:
        raise DataError("training would read what would be written of it as another row; train the row as it is.")
