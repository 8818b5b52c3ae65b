"""Rows by the values of their columns, and names that are not there."""

from typing import Any

import pytest

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.restructure.selection import check_named, check_values, list_names, parse_where

ROWS: list[Any] = [
    {
        "label": "vanilla_harmful",
        "split": "train",
        "ok": True,
        "n": 1,
        "tags": ["a", "b"],
        "kind": {"x": True, "y": False},
    },
    {"label": "Vanilla_Benign", "split": "test", "ok": False, "n": 2.0, "tags": []},
    {"label": None},
    "no object",
]


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", [0, 1, 2]),
        (" ; ", [0, 1, 2]),
        ("label=vanilla_harmful", [0]),
        ("label = vanilla_benign , vanilla_harmful", [0, 1]),
        ("label=vanilla_benign,vanilla_harmful;split=test", [1]),
        ("ok=true", [0]),
        ("ok=False;n=2", [1]),
        ("n=1,2", [0, 1]),
        ("tags=b", [0]),
        ("kind=x", [0]),
        ("kind=y", []),
        ("label=a=b", []),
        ("none=x", []),
    ],
)
def test_rows_that_are_taken(text: str, taken: list[int]) -> None:
    where = parse_where(text)
    assert [number for number, row in enumerate(ROWS[:3]) if where.takes(row)] == taken


@pytest.mark.parametrize("text", ["label", "label=", "=x", "label=x;label=y", "label=,", "a=b;c"])
def test_a_selection_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--data.where has .*: each part is COLUMN=VALUE,VALUE"):
        parse_where(text)


def test_a_column_that_no_row_has_is_refused_with_those_that_are_there() -> None:
    check_named(ROWS, [("--data.columns", "label"), ("--data.where", "n")], "a.jsonl")
    with pytest.raises(DataError) as caught:
        check_named(ROWS, [("--data.where", "type")], "a.jsonl")
    assert str(caught.value) == (
        "a.jsonl: --data.where names the column 'type', which no row has; the columns are 'label', 'split', 'ok', 'n', "
        "'tags', 'kind'. Name one of them."
    )


def test_a_value_that_no_row_has_is_refused_with_those_that_are_there() -> None:
    check_values(ROWS, parse_where("label=vanilla_harmful;n=2;ok=true;tags=a"), "a.jsonl")
    with pytest.raises(DataError, match=r"asks for label=harmful, .* values are 'vanilla_benign', 'vanilla_harmful'\."):
        check_values(ROWS, parse_where("label=harmful"), "a.jsonl")


def test_long_names_are_counted_and_not_shown() -> None:
    assert list_names(["a", "how to do it", "b"]) == "'a', 'b', 1 more"
    assert list_names(["how to do it"]) == "1 that are no short names"
    assert list_names([f"n{number}" for number in range(25)]).endswith("'n19', 5 more")
