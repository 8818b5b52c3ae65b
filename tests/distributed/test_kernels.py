"""Two ranks run the same kernels, whatever each of them would have found alone."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.model.kernel_choice import NAMES

WORKER = Path(__file__).with_name("kernels_worker.py")
Run = Callable[..., subprocess.CompletedProcess[str]]
TRITON = {name: "auto" if name == "attention" else "triton" for name in NAMES}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, run_ranks: Run) -> list[dict[str, Any]]:
    """Return what each of two ranks was told in each case of the worker."""
    folder = tmp_path_factory.mktemp("kernels")
    run_ranks(2, WORKER, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", ["one kind", "two kinds", "all well"])
def test_both_take_the_same_paths_and_say_the_same(ranks: list[dict[str, Any]], case: str) -> None:
    first, second = (rank[case] for rank in ranks)
    for told in ("paths", "fuses_layers", "reason", "note"):
        assert first[told] == second[told]


def test_one_of_a_kind_tries_for_the_others(ranks: list[dict[str, Any]]) -> None:
    assert [rank["one kind"]["tried"] for rank in ranks] == [[True], []]
    assert ranks[1]["one kind"]["paths"] == TRITON | {"rope": "torch"}
    assert ranks[1]["one kind"]["reason"].endswith("which failed on Card 9 (rope: off)")
    assert ranks[1]["one kind"]["note"] == "rank 0 keeps nothing."


def test_each_kind_tries_and_what_failed_on_one_is_left_by_all(ranks: list[dict[str, Any]]) -> None:
    assert [rank["two kinds"]["tried"] for rank in ranks] == [[True], [False]], "one of them shows its progress"
    assert ranks[0]["two kinds"]["paths"] == TRITON | {"rope": "torch", "adamw": "torch"}
    assert "which failed on Card 9, Card 8 (rope: on rank 0 on " in ranks[0]["two kinds"]["reason"]
    assert ranks[0]["all well"]["paths"] == TRITON
    assert ranks[0]["all well"]["reason"] == "Triton, each compared with PyTorch on Card 9, Card 8"


def test_a_rank_that_cannot_say_what_it_is_ends_all(ranks: list[dict[str, Any]]) -> None:
    assert "no driver" in ranks[0]["lost"]
    assert ranks[1]["lost"] == "no driver"
