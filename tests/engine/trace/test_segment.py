"""Segments: nothing is lost, real traces are placed, and a response is cut where its reasoning is closed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import SPAN_ROLES, Span
from alttrain.engine.trace.segment import segment, split_response

# Text that is dense in what the rules look at.
DENSE = st.lists(
    st.sampled_from(
        [*" \n\t.!?…。！؟।\"')*_A1a有害", "\n\n", "\n- ", "e.g.", "Dr.", "1.", "Okay.", " harmful ", "<x>"]
    ),
    max_size=60,
).map("".join)


@given(st.one_of(DENSE, st.text()))
def test_segments_join_to_the_trace(text: str) -> None:
    spans, rules = segment(text)
    assert "".join(span.text for span in spans) == text
    assert all(span.text and span.role in SPAN_ROLES for span in spans)
    assert ("first_sentence" in rules) == any(span.role == "understanding" for span in spans)
    assert ("verdict_sentence" in rules) == any(span.role == "assessment" for span in spans)


def test_segment_places_fillers_with_the_understanding_and_reasoning_on_both_sides() -> None:
    spans, rules = segment("Okay. The user asks for help. I think. It is harmless. So I help.")
    assert spans == [
        Span("understanding", "Okay. The user asks for help."),
        Span("reasoning", " I think."),
        Span("assessment", " It is harmless."),
        Span("reasoning", " So I help."),
    ]
    assert rules == ["first_sentence", "verdict_sentence"]


def test_a_trace_of_fillers_is_unsegmented_and_an_empty_one_has_no_spans() -> None:
    assert segment("Okay. Hmm.") == ([Span("unsegmented", "Okay. Hmm.")], [])
    assert segment("") == ([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\na\n</think>\n\nb", ("a", "b")),
        ("a</think>b", ("a", "b")),
        ("<think><think>\na</think> b", ("a", "b")),
        ("<think>a</think>\n</think>b", ("a", "b")),
        ("<think>a</think>\n\n", ("a", None)),
        ("<think>\n\n</think>\n\nb", ("", "b")),
    ],
)
def test_split_response(text: str, expected: tuple[str, str | None]) -> None:
    assert split_response(text) == expected


def test_split_response_at_other_delimiters() -> None:
    assert split_response("<|im_start|>think\na\n<|im_start|>answer\nb", "<|im_start|>think", "<|im_start|>answer") == (
        "a",
        "b",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plain", "the response has no reasoning: '</think>' is missing. Give the source's own --data.think-close."),
        ("<think>a", "the response opens its reasoning and never closes it: '</think>' is missing."),
        ("<think>a</think>b</think>c", "the response closes its reasoning 2 times with '</think>'; once is the rule."),
    ],
)
def test_split_response_refuses(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        split_response(text)
    assert str(error.value).startswith(message)


def test_every_real_trace_is_placed(shared_data: Path) -> None:
    """In 1,000 traces of safety reasoning nearly all have a verdict; in 460 of mathematics none has."""
    rows = json.loads((shared_data / "train/STAR-1.json").read_text(encoding="utf-8"))
    assert [_rules(row["response"]) for row in rows].count(["first_sentence", "verdict_sentence"]) >= 950
    lines = (shared_data / "train/benign_math_think_deepseekchat_460.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(_rules(json.loads(line)["response"]) == ["first_sentence"] for line in lines)


def _rules(response: str) -> list[str]:
    think, answer = split_response(response)
    spans, rules = segment(think)
    assert "".join(span.text for span in spans) == think
    assert answer
    return rules
