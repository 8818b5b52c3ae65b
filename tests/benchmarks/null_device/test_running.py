"""Figures that may not grow, and what is said of those that do."""

from typing import Any

import pytest

from null_device.cases import Case, check_cases, short_cases, table_cases
from null_device.places import version_sets
from null_device.running import fallen, is_out_of_memory, limits_of, objections, read_limits

STEP = {
    "kernels": 100, "products": 10, "fills": 5, "copies": 7, "copies_pageable": 1, "waits": 6, "stream_waits": 0,
    "bytes_on_device": 1000, "uncounted": [],
}  # fmt: skip


def figures(**changes: Any) -> dict[str, Any]:
    found = {
        "step": dict(STEP),
        "waits": {"cudaFree: engine/a.py:3 f": 7},
        "bytes_after_start": 10**9,
        "bytes_between_steps": 2 * 10**9,
        "peak_bytes": 3 * 10**9,
    }
    for name, value in changes.items():
        (found["step"] if name in STEP else found)[name] = value  # type: ignore[index]
    return found


RECORDED = limits_of(figures())


def test_the_same_figures_pass_and_so_do_smaller_ones() -> None:
    assert objections(figures(), RECORDED) == fallen(figures(), RECORDED) == []
    smaller = figures(kernels=99, peak_bytes=2 * 10**9)
    assert objections(smaller, RECORDED) == []
    assert fallen(smaller, RECORDED) == [
        "kernels fell from 100 to 99",
        "peak_bytes fell from 3,000,000,000 to 2,000,000,000",
    ]


@pytest.mark.parametrize("name", RECORDED)
def test_every_figure_is_held(name: str) -> None:
    grown = RECORDED[name] * 101 // 100 + 1
    assert objections(figures(**{name: grown}), RECORDED)[0] == f"{name} grew from {RECORDED[name]:,} to {grown:,}"


def test_bytes_may_differ_by_a_thousandth_and_counts_by_nothing() -> None:
    assert objections(figures(peak_bytes=3 * 10**9 + 10**6), RECORDED) == []
    assert objections(figures(kernels=101), RECORDED) == ["kernels grew from 100 to 101"]


def test_a_wait_that_is_new_is_shown_among_all() -> None:
    assert objections(figures(waits=7), RECORDED) == [
        "waits grew from 6 to 7",
        "it waits 7 x cudaFree: engine/a.py:3 f",
    ]


def test_a_case_that_was_refused_or_not_counted_or_not_recorded_does_not_pass() -> None:
    assert objections(figures(refused="RuntimeError: its launch"), RECORDED) == ["refused: RuntimeError: its launch"]
    assert objections(figures(uncounted=["cublasHgemm"]), RECORDED) == ["called, and not counted: cublasHgemm"]
    assert "--remake" in objections(figures(), None)[0]
    assert is_out_of_memory({"refused": "OutOfMemoryError: CUDA out of memory."})
    assert not is_out_of_memory(figures())


@pytest.mark.parametrize("name", version_sets())
def test_every_case_that_is_checked_has_recorded_figures(name: str) -> None:
    assert read_limits()[name].keys() == {case.name for case in check_cases()}


def test_cases_have_names_of_their_own() -> None:
    for cases in (list(check_cases()), list(table_cases())):
        assert len({case.name for case in cases}) == len(cases)
    assert {case.stage for case in short_cases()} == {1, 2, 3}
    assert Case("8B", packs=2, layers=2, world=8).name == (
        "8B, 2 layers, 8 GPUs, ZeRO 1, triton, 2 x 8192 tokens, checkpointing off"
    )
