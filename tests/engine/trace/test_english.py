"""What English sentences are called, wherever they stand and at the start of a trace."""

import pytest

from alttrain.engine.trace.rules import Rules

RULES = Rules.default()


@pytest.mark.parametrize(
    ("sentence", "label", "verdict"),
    [
        ("Okay, so the user wants a recipe for bread.", "understanding", None),
        ("They're looking for something that can be done in an hour.", "understanding", None),
        ("First, I should consider the policies.", "assessment", None),
        ("Is this request harmful?", "assessment", None),
        ("The policy says that the AI must refuse requests of this kind.", "assessment", None),
        ("That's clearly illegal and could hurt people.", "assessment", "harmful"),
        ("This falls under the privacy policy.", "assessment", "harmful"),
        ("This request is harmless.", "assessment", "benign"),
        ("I don't see any issues with the policies here.", "assessment", "benign"),
        ("The user isn't asking for anything illegal.", "assessment", "benign"),
        ("So I can\u2019t help with that.", "refusal", None),
        ("The best course of action is to politely decline.", "refusal", None),
        ("I'll list three kinds of flour.", "solving", None),
        ("The dough rises for an hour.", "solving", None),
        ("That way, I follow the policy and am still helpful.", "solving", None),
        ("I shouldn't refuse the question outright.", "solving", None),
        ("Division by zero is not allowed, so x is 3.", "solving", None),
        ("This would lead to a contradiction.", "solving", None),
        ("Let me think about how to approach this.", "other", None),
        ("Hmm.", "other", None),
    ],
)
def test_english_sentences(sentence: str, label: str, verdict: str | None) -> None:
    found = RULES.label(sentence)
    assert (found.label, found.verdict) == (label, verdict)


def test_the_first_sentence_that_says_something_says_what_is_asked() -> None:
    think = "Okay, let me see. Okay, I need to explain how a bill becomes law. I need to explain it well."
    assert [sentence.label for sentence in RULES.read(think)] == ["other", "understanding", "solving"]
