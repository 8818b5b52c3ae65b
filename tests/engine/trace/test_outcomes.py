"""Every way in which a model may write its marks has one outcome, and only reasoning with an answer has an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.outcomes import OUTCOMES, WITH_ANSWER, Generated, is_opened, split_generated

CASES = {
    "<think>\nA b.\n</think>\n\nC.": ("answered", "A b.", "C."),
    "A b.\n</think>\n\nC.": ("answered", "A b.", "C."),
    "<think>\n<think>\nA b.</think>C.": ("answered", "A b.", "C."),
    "<think>\nA b.": ("unfinished", "A b.", ""),
    "Well. <think> A b.": ("unfinished", "A b.", ""),
    "<think>A</think>B</think>C": ("doubled", "A", ""),
    "A</think></think>C": ("doubled", "A", ""),
    "<think>A</think>B<think>C</think>D": ("doubled", "A", ""),
    "<think>A<think>B</think>C": ("doubled", "A", ""),
    "Well. <think>A</think>B": ("doubled", "Well.", ""),
    "<think>A<think>B": ("unfinished", "A<think>B", ""),
    "</think>C.": ("no reasoning", "", "C."),
    "<think>\n\n</think>\n\nC.": ("no reasoning", "", "C."),
    "C.": ("no reasoning", "", "C."),
    "A b.</think> \n": ("empty", "A b.", ""),
    "<think></think>": ("empty", "", ""),
    "<think>\n": ("empty", "", ""),
    " \n": ("empty", "", ""),
    "": ("empty", "", ""),
}


@pytest.mark.parametrize("text", CASES, ids=ascii)
def test_what_a_model_wrote(text: str) -> None:
    found = split_generated(text)
    assert (found.outcome, found.think, found.answer) == CASES[text]


def test_a_template_that_opened_the_reasoning_makes_a_text_without_marks_unfinished() -> None:
    assert split_generated("A b.", opened=True) == Generated("unfinished", "A b.", "")
    assert split_generated("", opened=True).outcome == "empty"
    assert split_generated("A </think> C", opened=True) == Generated("answered", "A", "C")
    assert split_generated("<think>A</think>C", opened=True) == Generated("answered", "A", "C")
    assert split_generated("A <think> B </think> C", opened=True) == Generated("doubled", "A", "")


def test_other_marks() -> None:
    marks = Thinking("<|begin_of_thought|>", "<|end_of_thought|>")
    assert split_generated("<|begin_of_thought|>A<|end_of_thought|>B", marks) == Generated("answered", "A", "B")
    assert split_generated("<think>A</think>B", marks) == Generated("no reasoning", "", "<think>A</think>B")


def test_a_set_of_responses_shows_whether_its_template_opens_the_reasoning() -> None:
    assert is_opened(["A b.", "A</think>B"])
    assert not is_opened(["A b.", "A</think>B", "<think>A</think>B"]), "some open it themselves"
    assert not is_opened(["A b.", "C."]), "nothing shows it"
    assert not is_opened([])


@given(st.lists(st.sampled_from(["<think>", "</think>", "A", "b. ", "\n", " "]), max_size=12), st.booleans())
def test_every_text_has_one_outcome(parts: list[str], opened: bool) -> None:
    found = split_generated("".join(parts), opened=opened)
    assert found.outcome in OUTCOMES
    assert bool(found.answer) == (found.outcome in (*WITH_ANSWER, "no reasoning"))
    assert "think>" not in found.answer
    if found.outcome == "answered":
        assert found.think
        assert "think>" not in found.think


def test_texts_stay_out_of_the_repr() -> None:
    assert "secret" not in repr(split_generated("<think>secret</think>secret"))


def test_a_hundred_kilobytes_of_marks_are_split_at_once() -> None:
    for unit in ("<think>", "</think>", "<think> </think>", "<think>\n"):
        assert split_generated(unit * 10_000).outcome in OUTCOMES
