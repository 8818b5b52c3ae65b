"""What a row may say about its training that a built row does not hold: such a row is left out, by the key's name.

A built row has turns and spans. Tools, switches of the chat template and weights would be lost, and a row that was
meant to be read with them, or not to be trained, would become an ordinary one.
"""

from collections.abc import Mapping
from typing import Any

from alttrain.engine.errors import DataError

_SETTINGS = ("tools", "functions", "documents", "chat_template_kwargs", "template_kwargs")
_WEIGHTS = ("weight", "loss_weight", "trainable", "train")
_EMPTY: tuple[Any, ...] = (None, "", "[]", "{}", "null", [], {})


def check_carried(row: Mapping[str, Any]) -> None:
    """Check that the row and its last turn say nothing that a built row would lose.

    Raises:
        DataError: it has tools or switches, or a weight that is not 1.
    """
    for key in _SETTINGS:
        if row.get(key) not in _EMPTY:
            raise DataError(f"it has {key}, which a built row does not hold; take them out, or train the row as it is.")
    for place in (row, _last_turn(row)):
        for key in _WEIGHTS:
            if isinstance(place.get(key), (bool, int, float)) and place[key] != 1:
                raise DataError(f"its {key} is not 1, and a built row holds no weight; train the row as it is.")


def _last_turn(row: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("messages", "conversations"):
        turns = row.get(key)
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
            return turns[-1]
    return {}
