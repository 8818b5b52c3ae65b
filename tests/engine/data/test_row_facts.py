"""What a row says of itself: read as its publisher means it, or refused by name."""

from typing import Any

import pytest

from alttrain.engine.data.columns import Cells, Format
from alttrain.engine.data.row_facts import (
    NothingTrainedError,
    read_id,
    read_note,
    read_row_weight,
    read_structure,
    read_switches,
    read_tools,
)
from alttrain.engine.errors import DataError

TOOL = {"type": "function", "function": {"name": "add"}}


def cells(row: dict[str, Any], ignored: frozenset[str] = frozenset()) -> Cells:
    return Cells(row, Format(ignored=ignored))


@pytest.mark.parametrize(
    "tools",
    [
        [TOOL],
        '[{"type": "function", "function": {"name": "add"}}]',
        ['{"type": "function", "function": {"name": "add"}}'],
    ],
)
def test_tools_may_be_objects_or_json_text(tools: Any) -> None:
    assert read_tools(cells({"tools": tools})) == (TOOL,)


@pytest.mark.parametrize("tools", [None, "", "[]", []])
def test_no_tools(tools: Any) -> None:
    assert read_tools(cells({"tools": tools})) == ()


def test_switches_without_a_value_say_nothing() -> None:
    assert read_switches(cells({"chat_template_kwargs": {"a": None, "b": "", "c": [], "d": False, "e": 0}})) == {
        "d": False,
        "e": 0,
    }
    assert read_switches(cells({"template_kwargs": '{"a": 1}'})) == {"a": 1}
    row = cells({"enable_thinking": False, "chat_template_kwargs": {"a": 1}})
    assert read_switches(row) == {"enable_thinking": False, "a": 1}
    assert row.unread() == []
    assert read_switches(cells({"enable_thinking": False}, frozenset({"enable_thinking"}))) == {}


@pytest.mark.parametrize("name", ["tools", "messages", "add_generation_prompt", "tokenize"])
def test_what_the_trainer_gives_the_template_is_no_switch(name: str) -> None:
    with pytest.raises(DataError, match=rf"^chat_template_kwargs has '{name}', which is the trainer's to give\."):
        read_switches(cells({"chat_template_kwargs": {name: 1}}))


@pytest.mark.parametrize("name", ["weight", "loss_weight", "sample_weight", "trainable"])
def test_a_weight_of_0_trains_nothing(name: str) -> None:
    assert read_row_weight(cells({name: 2})) == 2.0
    assert read_row_weight(cells({})) == 1.0
    for value in (0, False):
        with pytest.raises(NothingTrainedError, match=rf"^its {name} is 0, so nothing of it is trained\.$"):
            read_row_weight(cells({name: value}))


def test_a_column_called_train_is_a_weight_where_it_is_true_or_false() -> None:
    for value in (False, "False"):
        with pytest.raises(NothingTrainedError, match=r"^its train is 0"):
            read_row_weight(cells({"train": value}))
    assert read_row_weight(cells({"train": True})) == 1.0
    split = cells({"train": "train"})
    assert read_row_weight(split) == 1.0
    assert split.unread() == ["train"]


@pytest.mark.parametrize(("value", "text"), [(None, "f-1"), (7, "7"), (7.0, "7"), ("7", "7")])
def test_an_id_is_text(value: Any, text: str) -> None:
    assert read_id(value, "f-1") == text


@pytest.mark.parametrize("value", [True, 1.5, " ", [1]])
def test_an_id_is_nothing_else(value: Any) -> None:
    with pytest.raises(DataError, match=r"^id is .+; it must be text or a whole number\.$"):
        read_id(value, "f-1")


@pytest.mark.parametrize("value", [True, False, "true", "False"])
def test_a_label_of_preferences_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"^label is (true|false), as in .+ --data\.ignore label\.$"):
        read_note(cells({"label": value}), "label")


def test_a_note_that_is_no_text_is_not_read() -> None:
    for value in ({"a": 1}, ["b"], 3):
        row = cells({"label": value, "source": value})
        assert [read_note(row, name) for name in ("label", "source")] == ["", ""]
        assert row.unread() == ["label", "source"]
    row = cells({"label": "harmful"})
    assert read_note(row, "label") == "harmful"
    assert row.unread() == []


def test_the_structure_of_a_control_is_read_and_any_other_column_of_that_name_is_not() -> None:
    row = cells({"structure": "no-conditional"})
    assert (read_structure(row), row.unread()) == ("no-conditional", [])
    for value in ("a paragraph", {"type": "object"}, ["full"], 3):
        row = cells({"structure": value})
        assert (read_structure(row), row.unread()) == ("", ["structure"])
    assert read_structure(cells({"structure": "full"}, frozenset({"structure"}))) == ""
