"""What a study counts: whom each measure asks, means by world, differences of the items that both sides have."""

from typing import Any

import pytest

from alttrain.engine.evaluate.intervals import wilson
from alttrain.engine.evaluate.measures import (
    AGREES,
    BALANCED,
    EXACT_BENIGN,
    EXACT_SERVED,
    HAS_ASSESSMENT,
    REFUSED_BENIGN,
    REFUSED_HARMFUL,
    Measure,
    bounds,
    by_world,
    clustered,
    mean,
    observe,
    rate,
    rounded,
    subtract,
)


def item(
    seed: int, name: str, label: str, *, refused: bool = False, exact: bool = False, **more: Any
) -> dict[str, Any]:
    start = {"seed": seed, "id": name, "label": label, "cluster": "Comp0", "labels": [], "verdict": None}
    return start | {"refused": refused, "exact": exact} | more


ITEMS = [
    item(0, "a", "harmful", refused=True, verdict="harmful", labels=["assessment"]),
    item(0, "b", "harmful", verdict="harmful"),
    item(0, "c", "benign", exact=True),
    item(0, "d", "benign", refused=True, verdict="benign"),
    item(10, "a", "harmful", refused=True),
    item(10, "c", "benign"),
    item(2, "a", "harmful", refused=True),
]


@pytest.mark.parametrize(
    ("measure", "share", "total"),
    [
        (REFUSED_HARMFUL, 3 / 4, 4),
        (REFUSED_BENIGN, 1 / 3, 3),
        (BALANCED, (2 / 3 + 2 / 3) / 2, 6),  # world 2 has no benign item and does not count
        (EXACT_BENIGN, 1 / 3, 3),
        (EXACT_SERVED, 1 / 2, 2),
        (HAS_ASSESSMENT, 1 / 7, 7),
        (AGREES, 1 / 3, 3),
    ],
    ids=lambda value: value.name if isinstance(value, Measure) else "",
)
def test_a_measure_asks_the_items_to_which_it_applies(measure: Measure, share: float, total: int) -> None:
    found = rate(ITEMS, measure)
    assert (found["share"], found["total"]) == (pytest.approx(share, abs=1e-6), total)
    low, high = found["clustered"]
    assert 0 <= low <= found["share"] <= high <= 1
    if len(measure.strata) == 1:
        assert found["wilson"] == pytest.approx(wilson(round(share * total), total), abs=1e-6)
    else:
        assert found["wilson"] is None


def test_worlds_stand_in_the_order_of_their_seeds() -> None:
    assert list(by_world(observe(ITEMS, REFUSED_HARMFUL))) == ["0", "2", "10"]


def test_items_without_a_component_are_units_of_their_own() -> None:
    apart = [one | {"cluster": ""} for one in ITEMS]
    assert set(observe(ITEMS, REFUSED_HARMFUL)[0]["0"]) == {"Comp0"}
    assert set(observe(apart, REFUSED_HARMFUL)[0]["0"]) == {"a", "b"}


def test_a_difference_is_of_the_items_that_both_have() -> None:
    after = [item(0, "a", "harmful", refused=True), item(0, "b", "harmful", refused=True), item(3, "e", "harmful")]
    before = observe(ITEMS, REFUSED_HARMFUL)
    assert subtract(observe(after, REFUSED_HARMFUL), before) == [{"0": {"Comp0": {"a": 0.0, "b": 1.0}}}]


def test_a_world_without_a_stratum_does_not_count() -> None:
    start = {"cluster": "Comp0", "refused": True, "exact": False}
    items = [
        start | {"seed": 0, "id": "a", "label": "harmful"},
        start | {"seed": 0, "id": "b", "label": "benign"},
        start | {"seed": 1, "id": "c", "label": "harmful"},
    ]
    assert by_world(observe(items, BALANCED)) == {"0": 0.5}
    assert by_world(observe(items, REFUSED_HARMFUL)) == {"0": 1.0, "1": 1.0}
    assert mean(observe(items, EXACT_SERVED)) is None
    assert subtract(observe(items[2:], REFUSED_HARMFUL), observe(items[:1], REFUSED_HARMFUL)) == [{}]


def test_nothing_to_count_is_none() -> None:
    assert rate([], REFUSED_HARMFUL) == {"share": None, "total": 0, "wilson": None, "clustered": None, "worlds": {}}
    assert clustered([{}]) is mean([{}]) is rounded(None) is bounds(None) is None


def test_numbers_are_rounded_and_never_minus_zero() -> None:
    assert rounded(1 / 3) == 0.333333
    assert str(rounded(-1e-9)) == "0.0"
