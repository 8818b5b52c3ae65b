"""One turn: whatever its parts are called, they are read once, and what is not understood refuses the row."""

from typing import Any

import pytest

from alttrain.engine.data.columns import Cells, Format
from alttrain.engine.data.turns import Turn, read_turn, read_weight
from alttrain.engine.errors import DataError

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}


def read(turn: Any, ignored: frozenset[str] = frozenset()) -> Turn:
    return read_turn(turn, "messages[0]", Cells({}, Format(ignored=ignored)))


def refusal(turn: Any) -> str:
    with pytest.raises(DataError) as error:
        read(turn)
    return str(error.value)


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Yes.", **fields}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"),
        ("gpt", "assistant"),
        ("model", "assistant"),
        ("observation", "tool"),
        ("developer", "developer"),
    ],
)
def test_speakers_have_many_names(name: str, role: str) -> None:
    assert (
        read({"from": name, "value": "x"})
        == read({"role": name, "content": "x"})
        == Turn("messages[0]", role, "x", extras={})
    )


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_stands_under_any_of_its_names(key: str) -> None:
    assert read(assistant(**{key: "It asks."})).reasoning == "It asks."
    assert read(assistant(**{key: ["It asks."]})).reasoning == "It asks."
    assert read(assistant(**{key: ""})).reasoning == ""
    assert read(assistant(**{"reasoning_content": "It asks.", key: "It asks."})).reasoning == "It asks."
    assert read(assistant(**{key: "It asks."}), frozenset({key})).reasoning == ""
    assert refusal(assistant(**{key: 5})).startswith(f"messages[0].{key} is a number; reasoning must be text.")
    for mode in (True, "off", "High", ["on"]):
        said = refusal(assistant(**{key: mode}))
        assert said.endswith(f"which switches reasoning and is none. Leave it unread with --data.ignore {key}.")
    assert refusal({"role": "user", "content": "x", key: "y"}).startswith(
        "messages[0] has reasoning and is a turn of role"
    )
    with_part = {"role": "assistant", "content": [{"type": "thinking", "text": "It does not."}], key: "It asks."}
    assert refusal(with_part) == "messages[0] has its reasoning twice, and the two differ; keep one of them."


def test_two_keys_of_reasoning_must_agree() -> None:
    assert (
        refusal(assistant(reasoning="a", thinking="b"))
        == "messages[0] has reasoning and thinking, which differ; keep one of them."
    )


def test_content_may_be_parts() -> None:
    parts = [
        {"type": "reasoning", "value": "A sum."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "2 + 3."}]},
        "It is ",
        {"type": "text", "text": "5"},
        {"text": "."},
        {"type": "tool_call", "value": '{"name": "add", "arguments": {"a": 2}}'},
        {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 2}},
    ]
    turn = read(assistant(content=parts))
    assert (turn.content, turn.reasoning) == ("It is 5.", "A sum.\n\n2 + 3.")
    assert turn.tool_calls == (CALL, {**CALL, "id": "c"})


def test_what_stands_beside_the_text_of_a_part_is_not_lost() -> None:
    for key, value in (("train", False), ("weight", 1), ("image", "x.png")):
        part = {"type": "text", "text": "x", key: value}
        assert refusal(assistant(content=[part])).startswith(f"messages[0].content[0] has {key!r} beside its text,")
    late = [{"type": "text", "text": "x"}, {"type": "thinking", "text": "y"}]
    assert refusal(assistant(content=late)).startswith("messages[0].content[1] is reasoning after text,")
    cells = Cells({}, Format())
    read_turn(assistant(content=[{"type": "text", "text": "x", "note": "y"}]), "messages[0]", cells)
    assert cells.unread_keys == {"messages[].content[].note"}


@pytest.mark.parametrize("key", ["channel", "recipient", "mask", "masked", "train_detail", "files"])
def test_a_key_that_changes_what_a_turn_means_and_is_not_read_refuses_it(key: str) -> None:
    assert refusal(assistant(**{key: "x"})).startswith(f"messages[0].{key} ")
    assert read(assistant(**{key: "x"}), frozenset({key})).content == "Yes."


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "url": "x"}, {"type": "text"}, {"type": "text", "text": "a", "value": "b"}, 5]
)
def test_a_part_that_is_not_understood_refuses_the_row(part: Any) -> None:
    assert refusal(assistant(content=["x", part])).startswith("messages[0].content[1] is a part of type ")


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_calls": [CALL]},
        {"tool_calls": '[{"name": "add", "arguments": {"a": 2}}]'},
        {"tool_calls": [{"function": {"name": "add", "arguments": '{"a": 2}'}}]},
        {"function_call": {"name": "add", "arguments": '{"a": 2}'}},
    ],
)
def test_tool_calls_are_read_however_they_are_written(fields: dict[str, Any]) -> None:
    assert read({"role": "assistant", "content": None, **fields}) == Turn(
        "messages[0]", "assistant", "", "", (CALL,), {}
    )
    assert read({"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'}).tool_calls == (CALL,)


@pytest.mark.parametrize("calls", [5, [5], [{"name": 5}], "[", [{"function": {"name": "add", "arguments": "{"}}]])
def test_broken_tool_calls_refuse_the_row(calls: Any) -> None:
    assert refusal(assistant(tool_calls=calls)).startswith("messages[0].tool_calls")
    assert refusal({"role": "user", "content": "x", "tool_calls": [CALL]}).startswith(
        "messages[0] has tool calls and is"
    )


@pytest.mark.parametrize("key", ["weight", "loss_weight", "trainable", "train", "loss"])
def test_a_weight_is_a_number_or_true_or_false(key: str) -> None:
    for value, weight in ((0, 0.0), (0.5, 0.5), (True, 1.0), (False, 0.0), ("0.5", 0.5), ("true", 1.0)):
        assert read(assistant(**{key: value})).weight == weight
    for value in (-1, float("nan"), "much", [1]):
        assert refusal(assistant(**{key: value})).startswith(f"messages[0].{key} is ")
        assert refusal(assistant(**{key: value})).endswith(f"--data.ignore {key}.")
    assert read(assistant(**{key: "much"}), frozenset({key})).weight is None
    assert read({"role": "user", "content": "x", key: 0}).weight == 0.0
    assert refusal({"role": "user", "content": "x", key: 1}).startswith(
        "messages[0] has a weight of 1 and is a turn of role"
    )


def test_two_weights_must_agree() -> None:
    assert read(assistant(weight=1, trainable=True)).weight == 1.0
    assert refusal(assistant(weight=1, trainable=False)).endswith("which differ; keep one of them.")
    with pytest.raises(DataError, match=r"^weight is other text; .+ --data\.ignore weight\.$"):
        read_weight("x", "weight")


def test_what_is_not_read_is_noted_and_what_changes_the_meaning_refuses() -> None:
    cells = Cells({}, Format())
    read_turn(assistant(id=5, time="now", note=""), "messages[0]", cells)
    assert cells.unread_keys == {"messages[].id", "messages[].time"}
    assert refusal({"role": "user", "content": "x", "images": ["y"]}).startswith(
        "messages[0].images is for a model that sees"
    )
    assert (
        refusal({"role": "user", "content": " "}) == "messages[0].content is missing, null or empty; it must be text."
    )
    assert refusal({"role": "critic", "content": "x"}).startswith(
        "messages[0].role is 'critic'; it must be one of system,"
    )


def test_turns_that_hold_little() -> None:
    assert read({"role": "system", "content": ""}).content == ""  # the template's to write
    assert read({"role": "User", "content": "x"}).role == "user"
    assert read({"role": "tool", "content": {"sum": 5}}).content == '{"sum": 5}'


def test_a_turn_of_calls_alone_has_no_content_for_the_template() -> None:
    message = read({"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning": "A sum."}).as_message()
    assert message.as_turn() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL],
        "reasoning_content": "A sum.",
    }
