"""Names of columns: how they are given, and which of a row's values they find."""

from typing import Any

import pytest

from alttrain.engine.data.columns import Cells, Format, parse_columns
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.thinking import Thinking


def test_columns_are_read() -> None:
    assert parse_columns("prompt=q, response = a,") == {"prompt": "q", "response": "a"}
    assert parse_columns("") == {}


def test_columns_name_plain_text_or_a_conversation() -> None:
    with pytest.raises(ConfigError, match=r"^--data\.columns names both text and response: .+ Leave one out\.$"):
        parse_columns("text=body,response=a")


@pytest.mark.parametrize("text", ["prompt", "prompt=", "color=a", "prompt=a,prompt=b", "=a"])
def test_columns_refuse(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--data\.columns has '.*: each part is OURS=THEIRS"):
        parse_columns(text)


def test_a_value_is_found_under_the_name_that_the_source_has_for_it() -> None:
    cells = Cells({"q": "Hello?", "id": None}, Format({"prompt": "q"}))
    assert cells.prompt() == ("q", "Hello?")
    assert cells.get("id") is None
    assert cells.get("source") is None


def test_a_named_column_must_be_there() -> None:
    with pytest.raises(
        DataError, match=r"^no column 'q', which --data\.columns names for prompt; name one that is there\.$"
    ):
        Cells({"prompt": "x"}, Format({"prompt": "q"})).get("prompt")


@pytest.mark.parametrize("name", ["prompt", "question", "instruction"])
def test_one_of_three_names_is_the_prompt(name: str) -> None:
    assert Cells({name: "Hello?"}, Format()).prompt() == (name, "Hello?")
    assert Cells({name: None}, Format()).prompt() == ("prompt", None)


def test_two_names_may_both_be_the_prompt() -> None:
    with pytest.raises(DataError, match=r"columns prompt and question, .+ --data\.columns prompt=prompt\.$"):
        Cells({"question": "a", "prompt": "b"}, Format()).prompt()


@pytest.mark.parametrize(
    ("values", "columns", "expected"),
    [
        ({"text": "It rains."}, {}, True),
        ({"text": "It rains.", "prompt": None}, {}, True),
        ({"text": "It rains.", "question": "Hello?"}, {}, False),
        ({"text": "It rains.", "response": "Yes."}, {}, False),
        ({"body": "It rains.", "prompt": "not this"}, {"text": "body"}, True),
        ({"text": "It rains."}, {"prompt": "q"}, False),
        ({"text": "It rains."}, {"id": "n"}, True),
        ({}, {}, False),
    ],
)
def test_plain_text_is_told_from_a_conversation(
    values: dict[str, Any], columns: dict[str, str], expected: bool
) -> None:
    assert Cells(values, Format(columns)).are_plain_text() is expected


def test_no_span_may_hold_the_source_s_delimiters_nor_ours() -> None:
    assert Format().tags == ("</think>", "<think>")
    assert Format({}, Thinking("[T]", "[/T]")).tags == ("[/T]", "[T]", "</think>", "<think>")
