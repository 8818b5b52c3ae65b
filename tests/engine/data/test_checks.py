"""What no text may hold, and names in messages that never quote a row."""

from typing import Any

import pytest

from alttrain.engine.data.checks import check_texts, describe_kind, name_spans, quote_name
from alttrain.engine.data.columns import Format
from alttrain.engine.errors import DataError
from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.roles import Message, Row, Span


def row(answer: str = "Yes.", *turns: str, **changes: str) -> Row:
    messages = tuple(Message("user", turn) for turn in turns or ("Hello?",))
    spans = (Span("understanding", "It asks."), Span("answer", answer))
    return Row(changes.get("id", "a"), "", messages, spans, "", "f.jsonl:7")


def test_a_good_row_passes() -> None:
    check_texts(row("1 < 2, and 3 > 2. \U0001f600"), Format())
    check_texts(row("Yes.", "what does <think> mean?"), Format())  # a prompt may speak of the tags


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(id="a\ud800"), "id holds half of a surrogate pair, which no text may; write the whole character."),
        (row("Yes.", "a\ud800"), "prompt holds half of a surrogate pair"),
        (row("Yes.", "a", "b\udfff"), r"messages\[1\] holds half of a surrogate pair"),
        (row("a\ud800"), r"spans\[1\] \(answer\) holds half of a surrogate pair"),
        (row("a</think>"), r"spans\[1\] \(answer\) holds the tag '</think>', .+ Take it out\.$"),
        (row("<think>a"), r"spans\[1\] \(answer\) holds the tag '<think>'"),
        (row("a[/T]"), r"spans\[1\] \(answer\) holds the tag '\[/T\]'"),
    ],
)
def test_what_no_text_may_hold(bad: Row, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        check_texts(bad, Format({}, Thinking("[T]", "[/T]")))


def test_spans_have_names_for_messages() -> None:
    assert name_spans(row()) == [("spans[0] (understanding)", "It asks."), ("spans[1] (answer)", "Yes.")]
    plain = Row("a", "", (), (Span("unsegmented", "It rains."),), "", "f.jsonl:7")
    assert name_spans(plain) == [("text", "It rains.")]


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("star1-17", "'star1-17'"),
        ("a.b:c/d_e", "'a.b:c/d_e'"),
        ("a secret", "other text"),
        ("x" * 41, "other text"),
        ("x\n", "other text"),
        ("", "empty text"),
        (5, "a number"),
    ],
)
def test_only_a_short_name_is_quoted(value: Any, quoted: str) -> None:
    assert quote_name(value) == quoted


def test_every_kind_of_json_has_words() -> None:
    kinds = [None, True, 1, 1.5, "x", "", [1], [], {}]
    assert [describe_kind(value) for value in kinds] == [
        "missing or null",
        "true or false",
        "a number",
        "a number",
        "other text",
        "empty text",
        "a list",
        "an empty list",
        "an object",
    ]
