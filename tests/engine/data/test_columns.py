"""Names of columns: how they are given, and which of a row's values they find."""

from typing import Any

import pytest

from alttrain.engine.data.columns import Cells, Format, parse_columns, read_json
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
        DataError, match=r"^no column 'q', which --data\.columns names for prompt; name one that is there \(prompt\)\.$"
    ):
        Cells({"prompt": "x"}, Format({"prompt": "q"})).get("prompt")


@pytest.mark.parametrize("name", ["prompt", "question", "instruction"])
def test_one_of_three_names_is_the_prompt(name: str) -> None:
    assert Cells({name: "Hello?"}, Format()).prompt() == (name, "Hello?")
    assert Cells({name: None}, Format()).prompt() == ("prompt", None)


def test_two_names_may_both_be_the_prompt() -> None:
    with pytest.raises(DataError, match=r"columns prompt and question, .+ --data\.columns prompt=COLUMN\.$"):
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


@pytest.mark.parametrize("name", ["images", "videos", "audio", "documents", "functions", "function_call"])
def test_a_column_that_changes_the_meaning_of_a_row_and_is_not_read_refuses_it(name: str) -> None:
    with pytest.raises(DataError, match=rf"^{name} "):
        Cells({"prompt": "x", name: ["y"]}, Format()).check()
    Cells({"prompt": "x", name: []}, Format()).check()
    Cells({"prompt": "x", name: ["y"]}, Format(ignored=frozenset({name}))).check()
    Cells({"prompt": "x", name: ["y"]}, Format({"tools": name})).check()


def test_what_nobody_reads_is_told() -> None:
    cells = Cells(
        {"prompt": "x", "score": 3, "note": "", "other": None, "own": "y"}, Format(ignored=frozenset({"own"}))
    )
    assert cells.unread() == ["prompt", "score"]
    assert cells.get("prompt") == "x"
    cells.unread_keys.add("messages[].id")
    assert cells.unread() == ["score", "messages[].id"]


def test_an_answer_is_a_response_beside_reasoning_alone() -> None:
    assert Cells({"reasoning": "a", "answer": "b"}, Format()).get("response") == "b"
    assert Cells({"answer": "b"}, Format()).get("response") is None
    assert Cells({"reasoning": "a", "answer": "b", "output": "c"}, Format()).get("response") == "c"


def test_json_text_is_what_it_holds() -> None:
    assert read_json('[{"a": 1}]', "tools") == read_json([{"a": 1}], "tools") == [{"a": 1}]
    with pytest.raises(DataError, match=r"^tools is text, and not JSON;"):
        read_json("[", "tools")


def test_no_span_may_hold_the_source_s_delimiters_nor_ours() -> None:
    assert Format().tags == ("</think>", "<think>")
    assert Format({}, Thinking("[T]", "[/T]")).tags == ("[/T]", "[T]", "</think>", "<think>")
