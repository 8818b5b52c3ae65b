"""What a row may say about its training that a built row does not hold: such a row is left out, by the name of it.

A built row has turns and spans. Tools, switches of the chat template, calls of tools in its response and weights would
be lost, and a row that was meant to be read with them, or not to be trained, would become an ordinary one. Training's
own reader says what a row has, in whatever column, spelling or kind of file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Row

_WAY_OUT = "which a built row does not hold; take them out, or train the row as it is."
_UNREAD_SETTINGS = ("functions", "documents", "template_kwargs")
_UNREAD_WEIGHTS = ("train", "training", "loss")
_EMPTY: tuple[Any, ...] = (None, "", "[]", "{}", "null", [], {})


def check_carried(rows: Sequence[Row], values: Mapping[str, Any]) -> None:
    """Check that a row says nothing that a built row would lose.

    Args:
        rows: what training reads of it.
        values: its columns; some that training does not read tell how it was meant to be trained.

    Raises:
        DataError: it trains several turns, or has tools, switches, calls of tools, or a weight that is not 1.
    """
    if len(rows) != 1:
        raise DataError(f"its weights train {len(rows)} turns, and a built row trains one; train the row as it is.")
    (row,) = rows
    for name, carried in (
        ("tools", row.tools),
        ("switches of the chat template (chat_template_kwargs)", row.switches),
        ("calls of tools in its response (tool_calls)", row.tool_calls),
    ):
        if carried:
            raise DataError(f"it has {name}, {_WAY_OUT}")
    if row.weight != 1:
        raise DataError(f"its weight is {row.weight:g}, and a built row holds no weight; train the row as it is.")
    for key in _UNREAD_SETTINGS:
        if values.get(key) not in _EMPTY:
            raise DataError(f"it has {key}, {_WAY_OUT}")
    for key in _UNREAD_WEIGHTS:
        value = values.get(key)
        is_no = isinstance(value, str) and value.strip().lower() in ("false", "0", "0.0")
        if is_no or (isinstance(value, (bool, int, float)) and (key != "loss" or value == 0) and value != 1):
            raise DataError(f"its {key} is not 1, and a built row holds no weight; train the row as it is.")
