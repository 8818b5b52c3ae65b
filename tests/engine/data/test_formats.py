"""What a row may look like, and the sentence for each way in which it may not."""

import json
from typing import Any

import pytest

from alttrain.engine.data.columns import Format, parse_columns
from alttrain.engine.data.formats import parse_item, parse_row
from alttrain.engine.data.sources import Item
from alttrain.engine.errors import DataError
from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.roles import Message, Row, Span

SPANS = [{"role": "understanding", "text": "It asks."}, {"role": "answer", "text": "Yes."}]
NATIVE = {"id": "a", "label": "benign", "prompt": "Hello?", "spans": SPANS, "source": "hand"}
USER = {"role": "user", "content": "Hello?"}


def parse(value: Any, row_format: Format = Format()) -> Row:  # noqa: B008 (frozen)
    return parse_row(Item("f.jsonl:7", 3, value), "f", row_format)[0]


def rules(value: Any) -> list[str]:
    return parse_row(Item("f.jsonl:7", 3, value), "f", Format())[1]


def test_a_native_row_is_read_to_the_letter() -> None:
    assert parse(NATIVE) == Row(
        "a",
        "benign",
        (Message("user", "Hello?"),),
        (Span("understanding", "It asks."), Span("answer", "Yes.")),
        "hand",
        "f.jsonl:7",
    )
    assert rules(NATIVE) == ["listed"]


def test_spans_may_stand_in_any_order_and_an_answer_may_be_empty_or_missing() -> None:
    spans = [{"role": "answer", "text": ""}, {"role": "assessment", "text": " x"}, {"role": "reasoning", "text": "y"}]
    assert [span.role for span in parse({**NATIVE, "spans": spans}).spans] == ["answer", "assessment", "reasoning"]
    assert len(parse({**NATIVE, "spans": SPANS[:1]}).spans) == 1


@pytest.mark.parametrize("name", ["prompt", "question", "instruction"])
def test_neighbours_are_read_as_they_are(name: str) -> None:
    row = parse({name: "Hello?", "response": "<think>\nOkay. It asks. It is harmless.\n</think>\n\nYes."})
    assert row.messages == (Message("user", "Hello?"),)
    assert row.spans == (
        Span("understanding", "Okay. It asks."),
        Span("assessment", " It is harmless."),
        Span("answer", "Yes."),
    )
    assert (row.id, row.label, row.source) == ("f-3", "", "")


@pytest.mark.parametrize(
    ("response", "spans"),
    [
        ("A. B.</think>\n\n", (Span("understanding", "A. B."),)),
        ("<think>\n\n</think>\n\nYes.", (Span("answer", "Yes."),)),
        ("<think>\nIt asks. And", (Span("unsegmented", "It asks. And"),)),
        (" Yes. No.\n", (Span("answer", ""), Span("unsegmented", "Yes. No."))),
        ("<think>Okay.</think>Yes.", (Span("unsegmented", "Okay."), Span("answer", "Yes."))),
    ],
)
def test_what_no_rule_can_place_is_unsegmented(response: str, spans: tuple[Span, ...]) -> None:
    assert parse({"prompt": "Hello?", "response": response}).spans == spans


def test_messages_end_in_a_user_turn_or_in_the_response() -> None:
    turns = [{"role": "system", "content": "Be kind."}, USER]
    native = parse({"id": "a", "messages": turns, "spans": SPANS})
    assert native.messages == (Message("system", "Be kind."), Message("user", "Hello?"))
    answered = parse({"messages": [*turns, {"role": "assistant", "content": "It asks.</think>Yes."}]})
    assert answered.messages == native.messages
    assert answered.spans == native.spans


def test_earlier_turns_are_the_template_s_to_write() -> None:
    """Their marks are changed only where the template does not know them."""
    content = "<think>\nIt asks.\n</think>\n\nYes."
    turns = [USER, {"role": "assistant", "content": content}, USER]
    assert parse({"messages": turns, "spans": SPANS}).messages[1] == Message("assistant", content)
    apart = [USER, {"role": "assistant", "content": "Yes.", "thinking": "It asks."}, USER]
    thought = Message("assistant", "Yes.", {"reasoning_content": "It asks."})
    assert parse({"messages": apart, "spans": SPANS}).messages[1] == thought
    foreign = [USER, {"role": "assistant", "content": "[T]It asks.[/T]Yes."}, USER]
    assert parse({"messages": foreign, "spans": SPANS}, Format({}, Thinking("[T]", "[/T]"))).messages[1] == thought


def test_columns_and_delimiters_may_have_other_names() -> None:
    row_format = Format(parse_columns("prompt=q, response=a,id=n"), Thinking("[T]", "[/T]"))
    row = parse({"q": "Hello?", "prompt": "not this", "n": 5, "a": "[T]It asks.[/T]Yes."}, row_format)
    assert (row.id, row.messages[0].content) == ("5", "Hello?")
    assert row.spans == (Span("understanding", "It asks."), Span("answer", "Yes."))


def test_plain_text_is_a_row_without_a_conversation() -> None:
    plain = Row("f-3", "", (), (Span("unsegmented", " It rains.\nIt pours. "),), "", "f.jsonl:7")
    assert parse({"text": " It rains.\nIt pours. "}) == plain
    assert parse({"id": None, "prompt": None, "spans": None, "text": " It rains.\nIt pours. "}) == plain
    assert rules({"text": "It rains."}) == ["plain_text"]
    named = parse({"body": "It rains.", "prompt": "not this"}, Format(parse_columns("text=body")))
    assert (named.messages, named.spans) == ((), (Span("unsegmented", "It rains."),))


def test_a_conversation_may_be_there_once_more_as_text() -> None:
    assert parse({**NATIVE, "text": "It rains."}) == parse(NATIVE)
    answered = {"q": "Hello?", "a": "It asks.</think>Yes.", "text": "It rains."}
    assert parse(answered, Format(parse_columns("prompt=q,response=a"))).messages == (Message("user", "Hello?"),)


def _with(**changes: Any) -> dict[str, Any]:
    return {**NATIVE, **changes}


def _span(**changes: Any) -> dict[str, Any]:
    return _with(spans=[SPANS[0], {**SPANS[1], **changes}])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "not an object but a list; a row is one JSON object."),
        ("text", "not an object but other text; a row is one JSON object."),
        (None, "not an object but missing or null; a row is one JSON object."),
        (_with(prompt=None), "prompt is missing or null; it must be text."),
        ({"spans": SPANS}, "prompt is missing or null; it must be text."),
        (_with(prompt=" \n"), "prompt is empty; it must be text."),
        (_with(prompt=5), "prompt is a number; it must be text."),
        (_with(prompt=[5]), "prompt[0] is a number; a turn is an object with role and content."),
        (_with(question="Bye?"), "has the columns prompt and question, and any may be the prompt."),
        ({**_with(prompt="Bye?"), "messages": [USER]}, "has both messages and prompt; a row has one of them."),
        (_with(id=""), "id is empty text; it must be text or a whole number."),
        (_with(id=True), "id is true or false; it must be text or a whole number."),
        (_with(spans=[]), "spans is an empty list; it must be a list with at least one span."),
        (_with(spans=[{"role": "answer", "text": " "}]), "spans hold no text; a row trains the text of its spans."),
        (_span(weight=0), "spans[1] has 'weight' beside role and text, which is not read. Take it out."),
        (_with(spans="x"), "spans is other text; it must be a list with at least one span."),
        (
            _with(spans=None),
            "has no spans and no response. List the spans, or name the response with --data.columns; the columns are",
        ),
        (_with(response="x"), "has both spans and a response; a row has one of them. Keep one."),
        (_with(spans=["x"]), "spans[0] is other text; a span is an object with role and text."),
        (
            _span(role="thinking"),
            "spans[1].role is 'thinking'; it must be one of understanding, assessment, reasoning,",
        ),
        (_span(role="prompt"), "spans[1].role is 'prompt'; it must be one of understanding,"),
        (_span(role=None), "spans[1].role is missing or null; it must be one of understanding,"),
        (_span(text=None), "spans[1].text is missing or null; it must be text."),
        (_span(text=["x"]), "spans[1].text is a list; it must be text."),
        (_span(text="a</think>"), "spans[1] (answer) holds the tag '</think>', which is written around the reasoning"),
        (_span(text="<think>a"), "spans[1] (answer) holds the tag '<think>', which is written around the reasoning"),
        (_span(text="a\ud800"), "spans[1] (answer) holds half of a surrogate pair, which no text may;"),
        (_with(prompt="a\udfff"), "prompt holds half of a surrogate pair, which no text may;"),
        ({"messages": [], "spans": SPANS}, "messages is an empty list; it must be a list with at least one turn."),
        ({"messages": [5], "spans": SPANS}, "messages[0] is a number; a turn is an object with role and content."),
        (
            {"messages": [{"role": "critic", "content": "x"}], "spans": SPANS},
            "messages[0].role is 'critic'; it must be one of system, developer, user, assistant, tool.",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}], "spans": SPANS},
            "messages[0].content[0] is a part of type 'text'; a part must hold one text, reasoning or tool call.",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            "messages has no user turn before the response; the last turn before it must be the user's or a tool's.",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "x"}], "spans": SPANS},
            "has both spans and a response; a row has one of them. Keep one.",
        ),
        ({"text": " "}, "text is empty; it must hold text."),
        ({"text": 5}, "text is a number; it must be text."),
        ({"text": "a</think>"}, "text holds the tag '</think>', which is written around the reasoning"),
        ({"text": "a\ud800"}, "text holds half of a surrogate pair, which no text may;"),
        ({"text": "x", "response": "x"}, "prompt is missing or null; it must be text."),
        ({"prompt": "x", "response": " "}, "response is empty; it must be text."),
        ({"prompt": "x", "response": "<think>"}, "the response holds nothing but its delimiters;"),
        ({"prompt": "x", "response": "<think> </think>"}, "the response holds nothing but its delimiters;"),
        ({"prompt": "x", "response": "a</think>b</think>c"}, "the response closes its reasoning 2 times"),
        ({"prompt": "x", "response": "a <think> b</think>c"}, "spans[0] (understanding) holds the tag '<think>',"),
    ],
)
def test_refusals(value: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        parse(value)
    text = str(error.value)
    assert text.startswith(f"f.jsonl:7: {message}")
    assert "\n" not in text
    assert text.endswith(".")


def test_a_named_column_must_be_there() -> None:
    with pytest.raises(DataError, match=r"^f\.jsonl:7: no column 'q', which --data\.columns names for prompt;"):
        parse({"prompt": "x", "response": "y"}, Format({"prompt": "q"}))


def test_the_source_s_own_delimiters_may_not_stand_in_a_span() -> None:
    with pytest.raises(DataError, match=r"holds the tag '\[/T\]'"):
        parse(_span(text="a[/T]"), Format({}, Thinking("[T]", "[/T]")))


def test_refusals_never_quote_a_row() -> None:
    """Whatever stands in a row may be harmful: a message says where, never what."""
    secret = "a secret that must not be told"
    for changed in (
        _with(id=secret, spans=None),
        _with(prompt=[secret, secret]),
        _with(prompt=f"{secret}\ud800"),
        _span(role=secret),
        _span(text=f"{secret}</think>"),
        {"messages": [{"role": secret, "content": secret}], "spans": SPANS},
        {"text": f"{secret}</think>"},
        {"prompt": secret, "response": f"{secret}</think>{secret}</think>{secret}"},
        secret,
    ):
        with pytest.raises(DataError) as error:
            parse(json.loads(json.dumps(changed)))
        assert secret not in str(error.value)


def test_a_row_of_an_asked_model_is_trained_as_it_was_opened() -> None:
    """Its prompt ended inside the reasoning: what the response does not close is reasoning, never an answer."""
    cut = {"prompt": "Hello?", "response": "It asks. And so", "opened": True, "outcome": "unfinished", "think": "x y z"}
    assert parse(cut).spans == (Span("unsegmented", "It asks. And so"),)
    assert parse({**cut, "opened": False}, Format(ignored=frozenset({"think"}))).spans[0] == Span("answer", "")
    whole = {**cut, "response": "It asks.\n</think>\n\nYes."}
    assert parse(whole).spans == (Span("understanding", "It asks."), Span("answer", "Yes."))
    assert parse({**whole, "response": "<think>\nIt asks.\n</think>\n\nYes."}).spans == parse(whole).spans


def test_a_response_without_reasoning_beside_a_column_that_may_hold_it_is_refused() -> None:
    row = {
        "question": "Hello?",
        "response": "Yes.",
        "my_trace": "It asks for a word.",
        "cot_type": "math",
        "thoughts": 3,
    }
    with pytest.raises(DataError) as error:
        parse(row)
    assert str(error.value).endswith(
        "the response has no reasoning, and my_trace may hold it, unread. Read it with --data.columns "
        "reasoning=my_trace, or leave it out on purpose with --data.ignore my_trace."
    )
    assert parse(row, Format({"reasoning": "my_trace"})).spans[0] == Span("understanding", "It asks for a word.")
    assert parse(row, Format(ignored=frozenset({"my_trace"}))).spans[0] == Span("answer", "")
    assert parse({**row, "response": "<think>It asks.</think>Yes."}).spans[-1] == Span("answer", "Yes.")


def test_turns_that_are_trained() -> None:
    turns = [
        USER,
        {"role": "assistant", "content": "Yes."},
        USER,
        {"role": "assistant", "content": "It asks.</think>No."},
    ]

    def ids(row: dict[str, Any], row_format: Format = Format()) -> list[tuple[str, int, float]]:  # noqa: B008 (frozen)
        rows, _ = parse_item(Item("f.jsonl:7", 3, row), "f", row_format)
        return [(row.id, len(row.messages), row.weight) for row, _ in rows]

    every = Format(turns="all")
    assert ids({"messages": turns}) == [("f-3", 3, 1.0)]
    assert ids({"messages": turns}, every) == [("f-3.turn1", 1, 1.0), ("f-3.turn3", 3, 1.0)]
    assert ids({"messages": turns[:2]}, every) == [("f-3", 1, 1.0)]
    weighted = [USER, {**turns[1], "weight": 0.5}, USER, {**turns[3], "weight": 0}]
    assert ids({"messages": weighted}) == ids({"messages": weighted}, every) == [("f-3.turn1", 1, 0.5)]
    assert ids({"messages": weighted, "weight": 4}) == [("f-3.turn1", 1, 2.0)]
    assert ids({"messages": weighted[:3]}) == [("f-3.turn1", 1, 0.5)]
    some = [USER, {**turns[1], "weight": 1}, USER, turns[3]]
    assert [weight for _, _, weight in ids({"messages": some})] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tools": "x"}, "tools is text, and not JSON;"),
        ({"tools": {"a": 1}}, "tools is an object; it must be a list of objects that describe tools."),
        (
            {"chat_template_kwargs": [1]},
            "chat_template_kwargs is a list; it must be an object of the template's variables.",
        ),
        ({"weight": "much"}, "weight is other text; a weight in the loss is true, false or a number of at least 0."),
        ({"weight": 1, "loss_weight": 2}, "has the columns weight and loss_weight, and any may be the weight."),
        ({"images": ["x"]}, "images is for a model that sees or hears"),
        ({"summary_end_idx": 5}, "has both spans and a response"),
    ],
)
def test_what_a_row_says_about_its_training_is_read_or_refused(changes: dict[str, Any], reason: str) -> None:
    answered = {"response": "It asks.</think>Yes."} if "summary_end_idx" in changes else {}
    with pytest.raises(DataError) as error:
        parse(_with(**changes, **answered))
    assert str(error.value).startswith(f"f.jsonl:7: {reason}")
