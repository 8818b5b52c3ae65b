"""Conversations in every shape become one list of turns, or a sentence says what two parts do not agree."""

from typing import Any

import pytest

from alttrain.engine.data.chat_formats import read_turns
from alttrain.engine.data.columns import Cells, Format
from alttrain.engine.errors import DataError

USER = {"role": "user", "content": "Hello?"}
ASSISTANT = {"role": "assistant", "content": "Yes."}


def read(row: dict[str, Any], **columns: str) -> list[tuple[str, str, str]]:
    return [(turn.role, turn.content, turn.reasoning) for turn in read_turns(Cells(row, Format(columns)))]


ANSWERED = [("user", "Hello?", ""), ("assistant", "Yes.", "")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ASSISTANT]},
        {"messages": '[{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]'},
        {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes."}]},
        {"conversation": [USER], "response": "Yes."},
        {"prompt": "Hello?", "response": "Yes."},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"prompt": [USER], "completion": "Yes."},
        {"prompt": '[{"role": "user", "content": "Hello?"}]', "completion": '[{"from": "gpt", "value": "Yes."}]'},
        {"prompt": ["Hello?"], "response": ["Yes."]},
        {"messages": [USER, ASSISTANT], "prompt": "Hello?"},
        {"prompt": "Hello?", "response": "Yes.", "system": "nan"},
        {"question": "Hello?", "output": "Yes.", "system": "", "input": "", "history": [], "reasoning": ""},
        {"instruction": "Hello?", "input": None, "output": "Yes.", "system_prompt": " "},
    ],
)
def test_every_shape_is_read(row: dict[str, Any]) -> None:
    assert read(row) == ANSWERED


def test_a_system_column_is_the_first_turn() -> None:
    for name in ("system", "system_prompt"):
        assert read({"messages": [USER], name: "Be kind."}) == [("system", "Be kind.", ""), ("user", "Hello?", "")]
    turns = [{"role": "system", "content": "Be kind."}, USER]
    assert len(read({"messages": turns, "system": "Be kind. "})) == 2
    with pytest.raises(DataError, match=r"^system and the first turn are both the system's, and they differ;"):
        read({"messages": turns, "system": "Be brief."})
    with pytest.raises(DataError, match=r"^has the columns system and system_prompt, and any may be the system\."):
        read({"messages": [USER], "system": "a", "system_prompt": "b"})
    assert read({"prompt": "Hello?", "rules": "Be kind."}, system="rules")[0] == ("system", "Be kind.", "")


def test_alpaca_s_input_follows_the_instruction() -> None:
    assert read({"instruction": "Add.", "input": "2 and 3"}) == [("user", "Add.\n2 and 3", "")]
    assert read({"prompt": "Add.", "more": "2 and 3"}, input="more") == [("user", "Add.\n2 and 3", "")]
    assert read({"instruction": "no", "input": "Hello?"}, prompt="input") == [("user", "Hello?", "")]
    for name in ("prompt", "question"):
        with pytest.raises(DataError, match=rf"^has the columns {name} and input, and both may be the prompt\."):
            read({name: "Add.", "input": "2 and 3"})
    with pytest.raises(DataError, match=r"^has messages beside input or history;"):
        read({"messages": [USER], "input": "2 and 3"})


def test_a_history_stands_before_the_prompt() -> None:
    turns = [("user", "a", ""), ("assistant", "b", ""), ("user", "Hello?", "")]
    for history in ([["a", "b"]], '[["a", "b"]]', [{"role": "user", "content": "a"}, {"from": "gpt", "value": "b"}]):
        assert read({"instruction": "Hello?", "history": history}) == turns
    for history in ([["a"]], "x", [5], {"a": "b"}):
        with pytest.raises(DataError, match=r"^history(\[0\])? is "):
            read({"instruction": "Hello?", "history": history})


def test_a_reasoning_column_belongs_to_the_response() -> None:
    thought = [("user", "Hello?", ""), ("assistant", "Yes.", "It asks.")]
    for row in (
        {"prompt": "Hello?", "response": "Yes.", "reasoning": "It asks."},
        {"messages": [USER], "reasoning": "It asks.", "answer": "Yes."},
        {"messages": [USER, ASSISTANT], "thinking": "It asks."},
        {"messages": [USER, {**ASSISTANT, "thinking": "It asks."}], "reasoning": "It asks."},
    ):
        assert read(row) == thought
    named = {"question": "Hello?", "trace": ["It asks."], "attempt": "Yes."}
    assert read(named, reasoning="trace", response="attempt") == thought
    assert read({"prompt": "x", "response": "", "reasoning": "It asks."})[1] == ("assistant", "", "It asks.")
    with pytest.raises(DataError, match=r"^has reasoning and no response that follows it\. .+ --data\.columns\.$"):
        read({"prompt": "Hello?", "reasoning": "It asks."})
    with pytest.raises(DataError, match=r"has its reasoning twice, and the two differ"):
        read({"messages": [USER, {**ASSISTANT, "thinking": "Other."}], "reasoning": "It asks."})
    with pytest.raises(DataError, match=r"^reasoning is a list; reasoning must be text\. .+-data\.ignore reasoning\.$"):
        read({"prompt": "Hello?", "response": "Yes.", "reasoning": ["a", "b"]})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [USER], "prompt": "x"}, "has both messages and prompt; a row has one of them."),
        (
            {"messages": [USER], "conversations": [USER, ASSISTANT]},
            "has the columns messages and conversations, and any may be",
        ),
        (
            {"messages": [USER, ASSISTANT], "response": "x"},
            "has a response and an assistant turn at the end of messages;",
        ),
        ({"prompt": [USER], "completion": [USER]}, "completion ends in a turn of role user;"),
        ({"prompt": "x", "response": "y", "output": "z"}, "has the columns response and output, and any may be the"),
        ({"prompt": "nan", "response": "y"}, "prompt is 'nan', which tables write for a missing value."),
        ({"response": "y", "body": "x"}, "prompt is missing or null; it must be text. Another name is given with"),
        ({"prompt": "x", "response": ["y", "z"]}, "response is a list; it must be text."),
        ({"messages": "x"}, "messages is text, and not JSON;"),
        (
            {"prompt": [USER, ASSISTANT], "response": "x"},
            "has a response and an assistant turn at the end of messages;",
        ),
    ],
)
def test_refusals(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as error:
        read(row)
    assert str(error.value).startswith(reason)
