"""Words of harm are found where something is judged, and not where mathematics uses them."""

import re

import pytest

from alttrain.engine.trace.verdicts import VERDICT_BENIGN, VERDICT_CHINESE, VERDICT_HARMFUL


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (VERDICT_HARMFUL, "This request is harmful."),
        (VERDICT_HARMFUL, "That would violate the policies."),
        (VERDICT_HARMFUL, "The guidelines prohibit it."),
        (VERDICT_HARMFUL, "I should refuse."),
        (VERDICT_HARMFUL, "This isn't something I am allowed to help with."),
        (VERDICT_BENIGN, "It is a harmless question."),
        (VERDICT_BENIGN, "There is no ethical concern here."),
        (VERDICT_BENIGN, "It is safe to answer."),
        (VERDICT_CHINESE, "这个请求是有害的。"),
        (VERDICT_CHINESE, "这会违反法律。"),
    ],
)
def test_words_of_harm(words: str, sentence: str) -> None:
    assert re.search(words, sentence, re.IGNORECASE)


@pytest.mark.parametrize("words", [VERDICT_HARMFUL, VERDICT_BENIGN, VERDICT_CHINESE])
@pytest.mark.parametrize(
    "sentence",
    ["The point violates the second inequality.", "Division by zero is not allowed.", "The safe opens on day 5."],
)
def test_mathematics_has_none(words: str, sentence: str) -> None:
    assert not re.search(words, sentence, re.IGNORECASE)
