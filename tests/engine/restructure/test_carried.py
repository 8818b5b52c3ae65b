"""What a row says that a built row would lose in silence, in whatever column, key or kind of file it stands."""

from typing import Any

import pytest

from alttrain.engine.data.columns import Format
from alttrain.engine.data.formats import parse_item
from alttrain.engine.data.sources import Item
from alttrain.engine.errors import DataError
from alttrain.engine.restructure.carried import check_carried

RESPONSE = "<think>A thought.</think>Done."
PLAIN = {"prompt": "Ask.", "response": RESPONSE}
TURNS = [{"role": "user", "content": "Ask."}, {"role": "assistant", "content": RESPONSE}]
CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


def check(row: dict[str, Any], row_format: Format | None = None) -> None:
    found, _ = parse_item(Item("a:1", 1, row), "a", row_format or Format())
    check_carried([each for each, _ in found], row)


def turns(**last: Any) -> list[dict[str, Any]]:
    return [TURNS[0], TURNS[1] | last]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (PLAIN | {"tools": [{"name": "f"}]}, "it has tools"),
        (PLAIN | {"tools": '[{"name": "f"}]'}, "it has tools"),
        (PLAIN | {"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        (PLAIN | {"chat_template_kwargs": '{"a": 1}'}, "chat_template_kwargs"),
        (PLAIN | {"template_kwargs": {"a": 1}}, "template_kwargs"),
        (PLAIN | {"weight": 0.5}, "weight is 0.5"),
        (PLAIN | {"weight": "0.5"}, "weight is 0.5"),
        (PLAIN | {"loss_weight": 2}, "weight is 2"),
        (PLAIN | {"train": False}, "train is 0"),
        (PLAIN | {"train": "False"}, "train is 0"),
        ({"messages": turns(weight="0.5")}, "weight is 0.5"),
        ({"messages": turns(loss=0.5)}, "weight is 0.5"),
        ({"conversation": turns(weight=0.5)}, "weight is 0.5"),
        ({"conversations": turns(weight=0.5)}, "weight is 0.5"),
        ({"messages": [*turns(weight=1), *turns(weight=1)]}, "its weights train 2 turns"),
        ({"messages": turns(tool_calls=[CALL])}, "tool_calls"),
        ({"messages": turns(function_call={"name": "f", "arguments": "{}"})}, "tool_calls"),
        ({"messages": turns(content=None, reasoning_content="A thought.", tool_calls=[CALL])}, "tool_calls"),
        ({"prompt": "Ask.", "completion": [TURNS[1] | {"tool_calls": [CALL]}]}, "tool_calls"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        check(row)


@pytest.mark.parametrize("row", [{"weight": 0}, {"trainable": False}, {"trainable": "false"}])
def test_a_row_that_is_not_trained_is_none_for_the_reader(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="nothing of it is trained"):
        check(PLAIN | row)


def test_columns_that_the_user_names_count() -> None:
    with pytest.raises(DataError, match=r"weight is 0\.5"):
        check(PLAIN | {"w": "0.5"}, Format({"weight": "w"}))
    with pytest.raises(DataError, match="it has functions"):
        check(PLAIN | {"functions": [{"name": "f"}]}, Format(ignored=frozenset({"functions"})))


@pytest.mark.parametrize(
    "row",
    [
        PLAIN,
        PLAIN | {"tools": None, "functions": [], "chat_template_kwargs": {}},
        PLAIN | {"weight": 1, "train": "train", "loss": 2.31},
        PLAIN | {"trainable": True, "train": 1.0},
        {"messages": [TURNS[0] | {"weight": 0}, TURNS[1] | {"weight": 1}]},
        {"messages": [*turns(weight=0), *turns()]},
    ],
)
def test_what_says_nothing_is_taken(row: dict[str, Any]) -> None:
    check(row)
