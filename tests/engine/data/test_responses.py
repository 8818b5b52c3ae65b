"""The two parts of a response, by marks of its own; what belongs to another format is never trained in silence."""

import pytest

from alttrain.engine.data.columns import Format
from alttrain.engine.data.responses import check_foreign, find_spans, positioned_spans, unwrap_answer
from alttrain.engine.errors import DataError
from alttrain.engine.thinking import ANSWER_MARKS, ANSWER_WORDS, KNOWN, MARKS, TAG_WORDS, Thinking
from alttrain.engine.trace.roles import Span

TAGS = [Thinking(f"<{word}>", f"</{word}>") for word in TAG_WORDS[1:]]
TAGS += [Thinking("<THINK>", "</THINK>"), Thinking("< think >", "< /think >"), Thinking("<|think|>", "<|/think|>")]
TAGS += [Thinking("&lt;think&gt;", "&lt;/think&gt;"), Thinking("<Thought>", "</Thought>")]
ANSWERS = [*ANSWER_MARKS, *((f"<{word}>", f"</{word}>") for word in ANSWER_WORDS), ("<ANSWER>", "</ANSWER>")]
THINK = "The user asks for a sum. It is harmless. So it is 5."
SPANS = [
    Span("understanding", "The user asks for a sum."),
    Span("assessment", " It is harmless."),
    Span("reasoning", " So it is 5."),
    Span("answer", "5."),
]


@pytest.mark.parametrize("marks", [*KNOWN, *TAGS], ids=lambda marks: marks.open)
def test_every_known_pair_of_marks_is_read_when_it_is_named_and_refused_when_not(marks: Thinking) -> None:
    response = f"{marks.open}{THINK}{marks.close}5."
    assert find_spans(response, Format(thinking=marks))[0] == SPANS
    if marks != MARKS:
        with pytest.raises(DataError) as error:
            find_spans(response, Format())
        assert f"--data.think-open {marks.open!r} --data.think-close {marks.close!r}" in str(error.value)
        kept = find_spans(response, Format(keeps_foreign_marks=True))[0]
        assert kept == [Span("answer", ""), Span("unsegmented", response)]
        # An answer after the right marks may hold others: a model that thinks twice.
        with pytest.raises(DataError, match="a mark of the reasoning in another format"):
            find_spans(f"<think>{THINK}</think>\n{marks.open}a{marks.close}5.", Format())


@pytest.mark.parametrize("marks", ANSWERS, ids=lambda marks: marks[0])
def test_marks_around_an_answer_are_taken_off_when_they_are_named_and_refused_when_not(marks: tuple[str, str]) -> None:
    response = f"<think>{THINK}</think>\n\n{marks[0]} 5. {marks[1]}\n"
    assert find_spans(response, Format(answer_marks=marks))[0] == SPANS
    with pytest.raises(DataError) as error:
        find_spans(response, Format())
    assert f"--data.answer-open {marks[0]!r} --data.answer-close {marks[1]!r}" in str(error.value)
    with pytest.raises(DataError, match=r"^the answer does not stand between .+ --data\.answer-open\.$"):
        find_spans(f"<think>{THINK}</think>5.", Format(answer_marks=marks))


@pytest.mark.parametrize(
    "text",
    ["Write <answer> tags.", "a <thinking> b", "x < y > z", "a|b", "[think]", "I think>", "<b>x</b>", "a </s> b"],
)
def test_words_in_angle_brackets_are_words(text: str) -> None:
    check_foreign(text, Format())
    assert unwrap_answer(text, Format()) == text


@pytest.mark.parametrize(
    "text",
    [
        "Sure. <thinking>a</thinking>5.", "So <answer>5.</answer>", "5.</answer>", "<think/>5.", "5.<|eot_id|>",
        "5.</s>", "<｜Assistant｜>5.", "5.<|return|>", "5.<end_of_turn>", "## Thinking\na\n## Final Response\n5.",
    ],
)  # fmt: skip
def test_what_other_formats_and_models_write_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"keep it as text with --data\.foreign-marks keep\.$"):
        check_foreign(text, Format())
    check_foreign(text, Format(keeps_foreign_marks=True))


def test_the_way_out_names_marks_as_the_text_writes_them() -> None:
    with pytest.raises(DataError) as error:
        find_spans("<THOUGHT>The user asks.</THOUGHT>5.", Format())
    assert "--data.think-open '<THOUGHT>' --data.think-close '</THOUGHT>'" in str(error.value)
    # Marks that were named in another case are not those of the text.
    with pytest.raises(DataError, match="a mark of the reasoning in another format"):
        find_spans("<THOUGHT>The user asks.</THOUGHT>5.", Format(thinking=Thinking("<thought>", "</thought>")))


def test_positions_of_safekey_are_counted_from_the_mark_and_one_line_break() -> None:
    response = f"<think>\n{THINK}\n</think>\n\n5."
    expected = [Span("understanding", THINK[:40]), Span("assessment", THINK[40:]), Span("answer", "5.")]
    for end in (8 + len(THINK), 8 + len(THINK) + 1):  # with or without the line break before the closing mark
        assert positioned_spans(response, [48, end], Format()) == (expected, ["positions"])
    assert positioned_spans(response.replace("<think>\n", "<think>"), [48, 8 + len(THINK)], Format())[0] == expected
    cut = positioned_spans(response, [32, 48], Format())[0]
    assert [span.text for span in cut] == [THINK[:24], THINK[24:40], THINK[40:], "5."]
    # Four rows of theirs have no reasoning and the positions in the answer.
    assert positioned_spans("<think>\n\n</think>\n\n5. Six.", [20, 22], Format())[0] == [Span("answer", "5. Six.")]


@pytest.mark.parametrize(
    "positions", [[None, 20], [20, None], [True, 20], [True, 30], [8, 20], [40, 30], [20, 900], [20.0, 30]]
)
def test_positions_that_stand_nowhere_are_refused(positions: list[object]) -> None:
    with pytest.raises(DataError, match=r"^(summary|next_sentence)_end_idx "):
        positioned_spans(f"<think>\n{THINK}\n</think>\n\n5.", positions, Format())
