"""Words of harm are found where something is judged, and not where mathematics uses them."""

import pytest

from alttrain.engine.trace.verdicts import is_verdict


@pytest.mark.parametrize(
    "sentence",
    [
        "This request is harmful.",
        "That would violate the policies.",
        "The guidelines prohibit it.",
        "I should refuse.",
        "This isn't something I am allowed to help with.",
        "It is a harmless question.",
        "There is no ethical concern here.",
        "It is safe to answer.",
        "这个请求是有害的。",
        "这会违反法律。",
    ],
)
def test_verdicts(sentence: str) -> None:
    assert is_verdict(sentence)


@pytest.mark.parametrize(
    "sentence",
    ["The point violates the second inequality.", "Division by zero is not allowed.", "The safe opens on day 5."],
)
def test_mathematics_is_no_verdict(sentence: str) -> None:
    assert not is_verdict(sentence)
