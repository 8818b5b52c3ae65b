"""Runs against each other: pairs by item, signs that flip with the sides, p values held to their family."""

import random
from typing import Any

import pytest

from alttrain.engine.evaluate.comparisons import compare_runs
from alttrain.engine.evaluate.intervals import cohens_h, holm, mcnemar
from alttrain.engine.evaluate.measures import BALANCED, EXACT, REFUSED_HARMFUL

COMPARED = {"asked": (BALANCED, REFUSED_HARMFUL), "sums": (EXACT,)}
HABITS = {"careful": 0.9, "careless": 0.5, "between": 0.7}


def invented_items(worlds: int = 4, per_label: int = 20) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run, share in HABITS.items():
        draw = random.Random(run)
        for seed in range(worlds):
            for index in range(2 * per_label):
                label = ("harmful", "benign")[index % 2]
                refused = draw.random() < (share if label == "harmful" else 1 - share)
                item = {"seed": seed, "id": f"i{index}", "label": label, "cluster": f"c{index % 8}"}
                found.setdefault((run, "asked"), []).append(item | {"refused": refused, "exact": False})
            for index in range(10):
                item = {"seed": seed, "id": f"s{index}", "label": "", "cluster": ""}
                found.setdefault((run, "sums"), []).append(item | {"refused": False, "exact": draw.random() < share})
    return found


ITEMS = invented_items()


def items_of(run: str, setting: str) -> list[Any]:
    return list(ITEMS.get((run, setting), []))


def test_every_pair_is_compared_by_every_measure() -> None:
    found = compare_runs([("careful", "careless"), ("between", "careless")], items_of, COMPARED)
    assert [(one["setting"], one["measure"], one["run"]) for one in found] == [
        ("asked", "balanced_accuracy", "careful"),
        ("asked", "balanced_accuracy", "between"),
        ("asked", "refused_harmful", "careful"),
        ("asked", "refused_harmful", "between"),
        ("sums", "exact", "careful"),
        ("sums", "exact", "between"),
    ]
    assert [one["pairs"] for one in found] == [160, 160, 80, 80, 40, 40]


def test_swapping_the_sides_flips_the_signs() -> None:
    one_way = compare_runs([("careful", "careless")], items_of, COMPARED)
    other_way = compare_runs([("careless", "careful")], items_of, COMPARED)
    for one, other in zip(one_way, other_way, strict=True):
        assert one["difference"] == pytest.approx(-other["difference"], abs=2e-6)
        assert one["clustered"] == pytest.approx([-other["clustered"][1], -other["clustered"][0]], abs=2e-6)
        assert one["t_interval"] == pytest.approx([-other["t_interval"][1], -other["t_interval"][0]], abs=2e-6)
        assert one["cohens_h"] == pytest.approx(-other["cohens_h"], abs=2e-6)
        assert one["mcnemar"] == pytest.approx(other["mcnemar"])


def test_numbers_are_those_counted_by_hand() -> None:
    (one,) = compare_runs([("careful", "careless")], items_of, {"sums": (EXACT,)})
    new, old = ([item["exact"] for item in items_of(run, "sums")] for run in ("careful", "careless"))
    assert one["shares"] == pytest.approx([sum(new) / 40, sum(old) / 40])
    assert one["difference"] == pytest.approx((sum(new) - sum(old)) / 40, abs=1e-6)
    assert one["cohens_h"] == pytest.approx(cohens_h(sum(new) / 40, sum(old) / 40), abs=1e-6)
    assert one["mcnemar"]["2"] == mcnemar(old[20:30], new[20:30])


def test_p_values_are_held_to_the_family_of_their_measure() -> None:
    pairs = [("careful", "careless"), ("between", "careless")]
    found = compare_runs(pairs, items_of, COMPARED)[2:4]
    raised = holm({one["run"]: one["t_p"] for one in found})
    assert {one["run"]: one["t_p_holm"] for one in found} == raised
    worlds = holm({f"{one['run']} {world}": p for one in found for world, p in one["mcnemar"].items()})
    assert {f"{one['run']} {w}": p for one in found for w, p in one["mcnemar_holm"].items()} == worlds


def test_pairs_without_a_common_item_are_left_out() -> None:
    assert compare_runs([("careful", "nobody")], items_of, COMPARED) == []


def test_one_world_has_no_test_over_worlds() -> None:
    first = {key: [item for item in items if item["seed"] == 0] for key, items in ITEMS.items()}
    (one,) = compare_runs([("careful", "careless")], lambda *key: list(first[key]), {"asked": (BALANCED,)})
    assert one["t_interval"] is one["t_p"] is one["t_p_holm"] is None
    assert list(one["worlds"]) == ["0"]
