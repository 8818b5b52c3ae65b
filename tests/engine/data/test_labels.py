"""What rows say of themselves, in the spellings and columns of published sets."""

from typing import Any

import pytest

from alttrain.engine.data.labels import (
    LABEL_COLUMNS,
    SPELLINGS,
    OwnLabel,
    may_speak_of_response,
    own_label,
    plain_column,
    read_label,
)


@pytest.mark.parametrize(
    ("column", "value", "verdict"),
    [
        ("label", "harmful", "harmful"),
        ("label", " Vanilla-Harmful ", "harmful"),
        ("label", "adversarial harmful", "harmful"),
        ("data_type", "vanilla_benign", "benign"),
        ("prompt_harm_label", "unharmful", "benign"),
        ("label", "ＳＡＦＥ", "benign"),
        ("label", "有害", "harmful"),
        ("label", ["unsafe"], "harmful"),
        ("is_safe", True, "benign"),
        ("is_safe", False, "harmful"),
        ("is_safe", 0, "harmful"),
        ("is_safe", 1.0, "benign"),
        ("is_safe", "False", "harmful"),
        ("isHarmful", "yes", "harmful"),
        ("prompt_is_harmful", False, "benign"),
        ("Unsafe", "1", "harmful"),
        ("benign", "no", "harmful"),
        ("harmful", "benign", "benign"),
        ("safety", "safe", "benign"),
        ("harm_label", "benign", "benign"),
        ("prompt_harmfulness", "unharmful", "benign"),
        ("toxicity", 0, "benign"),
        ("toxicity", 1, "harmful"),
        ("harmfulness", 0, "benign"),
        ("harm_label", False, "benign"),
        ("safety", True, "benign"),
        ("labels", ["benign"], "benign"),
        ("labels", '["benign"]', "benign"),
        ("labels", ["safe", "safe"], "benign"),
        ("label", "non-toxic", "benign"),
        ("label", "Safe.", "benign"),
        ("label", "良性", "benign"),
        ("label", "恶意", "harmful"),
        ("label", "not safe", "harmful"),
    ],
)
def test_labels_that_are_understood(column: str, value: Any, verdict: str) -> None:
    assert read_label(column, value) == verdict


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", 1),
        ("label", True),
        ("label", "1"),
        ("label", "controversial"),
        ("label", ""),
        ("label", "3/5"),
        ("label", "none"),
        ("label", ["a", "b"]),
        ("is_response_safe", True),
        ("is_safe_and_sound", True),
    ],
)
def test_labels_that_are_not_understood(column: str, value: Any) -> None:
    """A number says nothing in a column whose name says nothing, and a label of the response none of the prompt."""
    assert read_label(column, value) == "not understood"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", "rather safe"),
        ("label", "Unrated"),
        ("label", "non-adversarial"),
        ("label", "not a jailbreak"),
        ("label", "safe/unsafe"),
        ("label", "良好"),
        ("label", ["harmful", "benign"]),
        ("label", {"harmful": True}),
        ("labels", [{"name": "benign"}]),
        ("is_safe", 0.7),
        ("is_safe", 2),
        ("is_safe", "maybe"),
        ("toxicity", 0.02),
        ("harmfulness", 1),
        ("safety", 5),
    ],
)
def test_labels_that_may_say_either(column: str, value: Any) -> None:
    """They are in no table, and speak of harm in their own words or in those of the column."""
    assert read_label(column, value) == "unclear"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "x"}, OwnLabel("none")),
        ({"label": None}, OwnLabel("none")),
        ({"label": "harmful"}, OwnLabel("harmful", "label")),
        ({"label": 3, "is_safe": False}, OwnLabel("harmful", "is_safe")),
        ({"label": "harmful", "is_safe": True}, OwnLabel("benign", "is_safe")),
        ({"label": 3}, OwnLabel("not understood", "label")),
        ({"label": " ", "is_safe": None}, OwnLabel("none")),
        ({"type": "homonyms", "category": ["Self-Harm"]}, OwnLabel("none")),
        ({"type": "homonyms", "category": "Benign"}, OwnLabel("benign", "category")),
        ({"label": 3, "type": "homonyms"}, OwnLabel("not understood", "label")),
        ({"Label": "benign"}, OwnLabel("benign", "Label")),
        ({"isSafe": True}, OwnLabel("benign", "isSafe")),
        ({"Prompt Harm-Label": "unharmful"}, OwnLabel("benign", "Prompt Harm-Label")),
        ({"is_harmful_prompt": False}, OwnLabel("benign", "is_harmful_prompt")),
        ({"harmful_prompt": "How are locks picked?"}, OwnLabel("none")),
        ({"is_response_safe": True}, OwnLabel("none")),
        ({"metadata": {"label": "benign"}}, OwnLabel("benign", "metadata.label")),
        ({"metadata": '{"isSafe": true}'}, OwnLabel("benign", "metadata.isSafe")),
        ({"metadata": {"more": {"label": "benign"}}}, OwnLabel("none")),
        ({"metadata": "{ broken"}, OwnLabel("none")),
        ({"label": "harmful", "safety": "rather safe"}, OwnLabel("unclear", "safety")),
        ({"label": "harmful", "type": "safe_targets"}, OwnLabel("harmful", "label")),
        ({"type": "safe_targets"}, OwnLabel("unclear", "type")),
        ({"category": "Child Safety"}, OwnLabel("none")),
        ({"label": 3, "category": "A benign request"}, OwnLabel("unclear", "category")),
        ({"verdict": "benign"}, OwnLabel("unclear", "verdict")),
        ({"info": {"kind": "Safe"}}, OwnLabel("unclear", "info.kind")),
        ({"verdict": "harmful"}, OwnLabel("none")),
        ({"label": "harmful", "verdict": "benign"}, OwnLabel("harmful", "label")),
        ({"response_label": "safe", "answer": "safe"}, OwnLabel("none")),
    ],
)
def test_a_contradiction_weighs_more_than_what_agrees(row: dict[str, Any], found: OwnLabel) -> None:
    assert own_label(row, LABEL_COLUMNS, "harmful") == found


def test_only_the_columns_asked_for_are_read() -> None:
    assert own_label({"label": "benign", "kind": "unsafe"}, ("kind",), "harmful") == OwnLabel("harmful", "kind")
    assert own_label({"label": "benign", "type": "x"}, ("type",), "harmful") == OwnLabel("not understood", "type")


def test_every_spelling_is_written_as_it_is_compared() -> None:
    assert all(read_label("label", spelling) == verdict for spelling, verdict in SPELLINGS.items())
    assert all(
        read_label("label", spelling.upper().replace("_", "-")) == verdict for spelling, verdict in SPELLINGS.items()
    )


def test_columns_that_are_listed_are_written_as_they_are_compared() -> None:
    assert [plain_column(name) for name in LABEL_COLUMNS] == list(LABEL_COLUMNS)


def test_columns_that_may_label_the_response() -> None:
    assert all(map(may_speak_of_response, ("is_safe", "isSafe", "metadata.is_safe")))
    assert not any(map(may_speak_of_response, ("label", "prompt_is_safe", "prompt_harm_label")))
