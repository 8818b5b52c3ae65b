"""Sentences: nothing is lost, ends are found in several scripts, and what only starts a thought is known."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.trace.sentences import is_filler, split_sentences

# Text that is dense in what the rules look at.
DENSE = st.lists(
    st.sampled_from(
        [*" \n\t.!?…。！؟।\"')*_A1a有害", "\n\n", "\n- ", "e.g.", "Dr.", "1.", "Okay.", " harmful ", "<x>"]
    ),
    max_size=60,
).map("".join)


@given(st.one_of(DENSE, st.text()))
def test_sentences_join_to_the_text(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join(sentences) == text
    assert all(sentence.strip() for sentence in sentences) or len(sentences) == 1
    assert all(sentence[:1].isspace() or not before[-1:].isspace() for before, sentence in pairwise(sentences))


@pytest.mark.parametrize(
    "sentences",
    [
        ["One.", " Two!", " Three?", " Four"],
        ["He met Dr. Smith, i.e. the writer.", " She left."],
        ["J. R. R. Tolkien wrote it.", " Then he slept."],
        ["Take point A.", " Then go on."],
        ["It is 3.14 or v1.2.3 there.", " Done."],
        ["1. First of all this.", "\n2. Then that."],
        ["See Fig. 3 and No. 5.", " No.", " That is wrong."],
        ["Wait... no, it holds.", " Hmm...", " Let me see."],
        ['He said "Stop."', " She (never.)", " Stopped."],
        ["**Bold.**", " `code.`", " End."],
        ["A heading", "\n\nA paragraph", "\n- an item", "\n- another", "\n# Heading\n"],
        ["Wrapped prose goes\non here.", "\nAnd here."],
        ["用户在问一个问题。", "这是有害的！", "“不行。”", "她说"],
        ["هل هذا صحيح؟", " نعم"],
        ["यह एक प्रश्न है।", " ठीक है।"],
        ["Ist das so?", " Äpfel sind rot.", " Élan vital."],
    ],
)
def test_sentence_ends(sentences: list[str]) -> None:
    assert split_sentences("".join(sentences)) == sentences


def test_a_long_text_is_split_in_time_that_grows_with_it() -> None:
    text = "x. y " * 40_000  # full stops that end nothing, as no capital follows: one sentence to the end
    assert split_sentences(text) == [text]  # in quadratic time nobody would wait for it


@pytest.mark.parametrize(
    "sentence",
    [
        "Okay.",
        "Okay, so",
        "Hmm.",
        "Alright.",
        "  Hmm... wait",
        "Alright, let's tackle this problem step by step.",
        "嗯，",
        "...",
    ],
)
def test_fillers(sentence: str) -> None:
    assert is_filler(sentence)


@pytest.mark.parametrize("sentence", ["Okay, the user asks for a poem.", "So x is 3.", "用户想知道答案。", "No."])
def test_sentences_that_say_something(sentence: str) -> None:
    assert not is_filler(sentence)
