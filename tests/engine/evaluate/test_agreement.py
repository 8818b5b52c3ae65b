"""Agreement of two labellings, against figures of the literature and of statsmodels."""

import random

import pytest

from alttrain.engine.evaluate.agreement import agreement, kappa, rate


def test_precision_and_recall_count_what_the_rule_and_the_reader_found() -> None:
    pairs = [(True, True)] * 6 + [(True, False)] * 2 + [(False, True)] * 4 + [(False, False)] * 8
    found = agreement(pairs)
    assert (found["precision"]["count"], found["precision"]["total"]) == (6, 8)
    assert (found["recall"]["count"], found["recall"]["total"]) == (6, 10)
    assert found["kappa"]["value"] == pytest.approx((0.7 - 0.5) / 0.5, abs=1e-4)


def test_a_rate_keeps_its_counts_and_its_interval_holds_the_share() -> None:
    found = rate([True] * 19 + [False])
    assert (found["count"], found["total"]) == (19, 20)
    assert found["low"] < 0.95 < found["high"] <= 1.0
    assert rate([]) == {"count": 0, "total": 0, "low": 0.0, "high": 1.0}


def test_kappa_of_the_textbook() -> None:
    """Two readers of 50 proposals: 20 both yes, 15 both no, 5 and 10 apart; kappa is 0.4, the interval statsmodels'."""
    pairs = [(1, 1)] * 20 + [(0, 0)] * 15 + [(1, 0)] * 5 + [(0, 1)] * 10
    assert kappa(pairs) == {"value": 0.4, "low": 0.1511, "high": 0.6489}


def test_kappa_of_several_labels_is_that_of_statsmodels() -> None:
    draw = random.Random(0)
    pairs = [(first := draw.randrange(2), first if draw.random() < 0.7 else draw.randrange(2)) for _ in range(20)]
    assert kappa(pairs) == {"value": 0.4898, "low": 0.1058, "high": 0.8738}
    pairs = [(first := draw.randrange(5), first if draw.random() < 0.7 else draw.randrange(5)) for _ in range(100)]
    assert kappa(pairs) == {"value": 0.6718, "low": 0.5643, "high": 0.7793}


def test_kappa_needs_two_labels_on_both_sides_and_names_of_any_kind() -> None:
    assert kappa([("a", "a"), ("a", "b")]) is None
    perfect = kappa([("harmful", "harmful"), ("benign", "benign")] * 5)
    assert perfect == {"value": 1.0, "low": 1.0, "high": 1.0}
