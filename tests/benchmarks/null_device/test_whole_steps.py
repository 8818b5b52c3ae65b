"""What is kept of whole steps that were counted, and the table made of it."""

from pathlib import Path
from typing import Any

import pytest

from null_device.places import Failure, version_sets
from null_device.whole_steps import condensed, markdown, run_whole_steps

SIZES = {"model": "R1-7B", "tokens": 8192, "checkpointing": "off", "attention": "SDPA with a mask", "allocator": "x"}


def row(**more: Any) -> dict[str, Any]:
    counted = {"fills": 9, "copies": 13, "waits": 10, "product_flops": 348e12}
    kinds = {"products": {"launches": 800, "ms": 0.0}, "norms": {"launches": 57, "ms": 0.0}}
    figures = {"peak_memory_gib": 82.7, "reserved_memory_gib": 83.2, "predicted_ms": 595.4, "predicted_mfu": 0.592}
    return {
        "implementation": "theirs", "sizes": SIZES, "median_ms": 320.0, "launches": 2869, "counted": counted,
        "kinds": kinds,
    } | figures | more  # fmt: skip


def test_times_of_the_null_device_are_not_kept() -> None:
    kept = condensed(row())
    assert kept["launches_by_kind"] == {"products": 800, "norms": 57}
    assert (kept["launches"], kept["waits"], kept["peak_memory_gib"]) == (2869, 10, 82.7)
    assert not {"median_ms", "allocator", "kinds"} & kept.keys()


def test_the_table_stands_by_model_and_tokens() -> None:
    first = condensed(row() | {"implementation": "ours", "sizes": SIZES | {"tokens": 1340, "attention": ""}})
    lines = markdown([condensed(row()), first]).splitlines()
    assert lines[2].startswith("| ours | 7B, 1,340 | off | 82.70 / 83.20 | 2,869 | 9 | 13 | 10 | 348 | 595 | 59.2% |")
    assert lines[3].startswith("| theirs, SDPA | 7B, 8,192 |")


def test_without_the_packages_of_others_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="--packages is None"):
        run_whole_steps(version_sets()["oldest"], None, None)
    with pytest.raises(Failure, match="must name the folder"):
        run_whole_steps(version_sets()["oldest"], tmp_path / "none", None)
