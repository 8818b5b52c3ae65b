"""What rows say of themselves, in the spellings and columns of published sets."""

from typing import Any

import pytest

from alttrain.engine.restructure.labels import LABEL_COLUMNS, SPELLINGS, OwnLabel, own_label, read_label


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
        ("label", ["harmful", "benign"]),
        ("label", {"harmful": True}),
        ("is_safe", 0.7),
        ("is_safe", 2),
        ("is_safe", "maybe"),
        ("is_response_safe", True),
        ("is_safe_and_sound", True),
    ],
)
def test_labels_that_are_not_understood(column: str, value: Any) -> None:
    """A number says nothing in a column whose name says nothing, and a label of the response none of the prompt."""
    assert read_label(column, value) == "not understood"


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
