"""Keys that a built row would lose in silence."""

from typing import Any

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.restructure.carried import check_carried


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"tools": [{"name": "f"}]}, "tools"),
        ({"tools": '[{"name": "f"}]'}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        ({"weight": 0}, "weight"),
        ({"loss_weight": 0.5}, "loss_weight"),
        ({"trainable": False}, "trainable"),
        ({"messages": [{"role": "user"}, {"role": "assistant", "loss_weight": 0.0}]}, "loss_weight"),
        ({"conversations": [{"from": "gpt", "train": False}]}, "train"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(row: dict[str, Any], key: str) -> None:
    with pytest.raises(DataError, match=rf"\b{key}\b"):
        check_carried(row)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"tools": None, "functions": [], "documents": "[]", "chat_template_kwargs": {}},
        {"weight": 1, "loss_weight": 1.0, "trainable": True, "train": "train"},
        {"messages": [{"role": "user", "weight": 0}, {"role": "assistant", "weight": 1}]},
        {"messages": "no list"},
    ],
)
def test_what_says_nothing_is_taken(row: dict[str, Any]) -> None:
    check_carried(row)
