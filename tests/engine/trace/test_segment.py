"""Segments: nothing is lost, real traces are placed, and a response is cut where its reasoning is closed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.errors import DataError
from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.roles import SPAN_ROLES, Span
from alttrain.engine.trace.rules import Rules
from alttrain.engine.trace.segment import segment, split_response

# Text that is dense in what the rules look at, and in sentences of every label.
SENTENCES = (
    "Okay.",
    " The user asks.",
    " Is it harmful?",
    " It is harmless.",
    " I must refuse.",
    " Let me think.",
    " 7.",
)
DENSE = st.lists(
    st.sampled_from([*" \n\t.!?…。！؟।\"')*_A1a有害", "\n\n", "\n- ", "e.g.", " harmful ", "<x>", *SENTENCES]),
    max_size=40,
).map("".join)


@given(st.one_of(DENSE, st.text()))
def test_segments_join_to_the_trace(text: str) -> None:
    spans, rules = segment(text)
    assert "".join(span.text for span in spans) == text
    assert all(span.text and span.role in SPAN_ROLES for span in spans)
    assert rules == [
        name
        for name, role in (("first_sentence", "understanding"), ("first_assessment", "assessment"))
        if any(span.role == role for span in spans)
    ]


@given(DENSE)
def test_an_assessment_is_what_the_metric_calls_one(text: str) -> None:
    """All of it, nothing that stands directly around it, and nothing earlier but the first sentence."""
    rules = Rules.default()
    spans = segment(text)[0]
    labels = [[rules.label(sentence).label for sentence in rules.split(span.text)] for span in spans]
    roles = [span.role for span in spans]
    if "assessment" in roles:
        at = roles.index("assessment")
        assert set(labels[at]) == {"assessment"}
        assert all("assessment" not in before for before in labels[1:at])
        assert labels[at + 1 : at + 2] == [] or labels[at + 1][0] != "assessment"
        assert roles[0] == "understanding"
    elif roles[:1] == ["understanding"]:
        assert all("assessment" not in later for later in labels[1:])


@pytest.mark.parametrize(
    ("spans", "rules"),
    [
        (
            [
                ("understanding", "Okay. The user asks for help."),
                ("reasoning", " It rains."),
                ("assessment", " It is harmless."),
                ("reasoning", " So I help."),
            ],
            ["first_sentence", "first_assessment"],
        ),
        (
            [
                ("understanding", "Okay, so the user wants to know a secret. They sound worried."),
                ("assessment", " First, I should check the policies. That would violate someone's privacy."),
                ("reasoning", " So I must refuse. That would be harmful."),
            ],
            ["first_sentence", "first_assessment"],
        ),
        (
            [
                ("understanding", "This is harmful."),
                ("assessment", " It is illegal."),
                ("reasoning", " I must refuse."),
            ],
            ["first_sentence", "first_assessment"],
        ),
        (
            [("understanding", "用户想知道怎么做面包。"), ("assessment", "这个请求是否有害？这是无害的。")],
            ["first_sentence", "first_assessment"],
        ),
        (
            [("understanding", "Okay. The user asks for help."), ("reasoning", " It rains. The user asks again.")],
            ["first_sentence"],
        ),
        ([("understanding", "Hmm. Seven.")], ["first_sentence"]),
    ],
    ids=["both sides", "runs of sentences", "the first judges", "Chinese", "no assessment", "no reasoning"],
)
def test_segments(spans: list[tuple[str, str]], rules: list[str]) -> None:
    assert segment("".join(text for _, text in spans)) == ([Span(role, text) for role, text in spans], rules)


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
    assert split_response(
        "<|im_start|>think\na\n<|im_start|>answer\nb", Thinking("<|im_start|>think", "<|im_start|>answer")
    ) == ("a", "b")


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
    """In 1,000 traces of safety reasoning nearly all have an assessment; in 460 of mathematics hardly any."""
    rows = json.loads((shared_data / "train/STAR-1.json").read_text(encoding="utf-8"))
    both = ["first_sentence", "first_assessment"]
    assert [_rules(row["response"]) for row in rows].count(both) >= 950
    lines = (shared_data / "train/benign_math_think_deepseekchat_460.jsonl").read_text(encoding="utf-8").splitlines()
    placed = [_rules(json.loads(line)["response"]) for line in lines]
    assert placed.count(["first_sentence"]) + placed.count(both) == 460
    assert placed.count(both) <= 4  # "we need to check if this is the shortest" is taken for one


def _rules(response: str) -> list[str]:
    think, answer = split_response(response)
    spans, rules = segment(think)
    assert "".join(span.text for span in spans) == think
    assert answer
    return rules
