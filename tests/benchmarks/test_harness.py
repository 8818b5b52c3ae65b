import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.measuring import Case, Ceilings, Yardstick, measure
from harness.rivals import Absent, load, probe
from harness.running import Plan, run_cases, run_plans

X = torch.linspace(-2, 2, 1000)


def double(scale: float = 2.0) -> list[Tensor]:
    return [X * scale, X[:1] * scale]


def make_case(name: str = "doubling", **ways: Callable[[], list[Tensor]]) -> Case:
    runs = {"ours": double} | {way.replace("_", " "): run for way, run in ways.items()}
    return Case(name, {"bytes": 8000}, runs, lambda: [x.double() for x in double()], max_error=1e-6)


def broken() -> list[Tensor]:
    raise RuntimeError("its launch failed")


def run(out: Path, plans: list[Plan], *options: str) -> tuple[int, dict[str, Any]]:
    arguments = ["--out", str(out), "--seconds", "0", *options]
    code = run_plans("doubling", "", lambda device, tiny: plans, seconds=1.0, arguments=arguments)
    return code, json.loads((out / "doubling.json").read_text())


def test_an_implementation_that_is_wrong_or_fails_gets_no_figure_and_the_others_do() -> None:
    wrong = {
        "wrong": lambda: double(2.1),
        "wrong_in_one_place": lambda: [X * 2, X[:1] * 3],
        "nan": lambda: double(float("nan")),
        "short": lambda: double()[:1],
        "shaped": lambda: [X[:, None] * 2, X[:1] * 2],
        "broken": broken,
    }
    result = measure(make_case(**wrong, right=double), seconds=0.0)  # type: ignore[arg-type]
    assert [row.implementation for row in result.rows] == ["ours", "right"]
    assert result.refused.keys() == {name.replace("_", " ") for name in wrong}
    assert result.refused["broken"] == "RuntimeError: its launch failed"


def test_ours_must_be_closer_than_a_rival() -> None:
    scale = 2 * (1 + 3e-6)  # beyond max_error, within a rival's
    result = measure(make_case(ours_otherwise=lambda: double(scale), theirs=lambda: double(scale)), seconds=0.0)
    assert result.refused.keys() == {"ours otherwise"}


def test_a_wrong_zero_is_wrong() -> None:
    zeros = [torch.zeros(3)]
    case = Case("zeros", {}, {"ours": lambda: [torch.ones(3)], "right": lambda: zeros}, lambda: zeros, 0.5)
    assert measure(case, seconds=0.0).refused.keys() == {"ours"}


def test_implementations_take_turns() -> None:
    calls: list[str] = []

    def way(name: str) -> Callable[[], list[Tensor]]:
        return lambda: calls.append(name) or double()  # type: ignore[func-returns-value]

    case = Case("turns", {}, {"a": way("a"), "b": way("b")}, lambda: double(), 1e-6)
    rows = measure(case, seconds=0.0, min_samples=4).rows
    assert calls[-8:] == ["a", "b"] * 4
    assert [row.samples for row in rows] == [4, 4]


def test_shares_and_rates_follow_from_operations_bytes_and_ceilings() -> None:
    case = Case(
        "rates", {}, {"ours": double, "other": double}, double, 1e-6, flops=4e9, num_bytes=3e6,
        own_bytes={"other": 5e6}, yardsticks={"copy": Yardstick(lambda: X.clone(), num_bytes=8e3)},
    )  # fmt: skip
    rows = {row.implementation: row for row in measure(case, seconds=0.0, ceilings=Ceilings(1.0, 1.0)).rows}
    ours, other, copy = rows["ours"], rows["other"], rows["copy"]
    assert ours.share_of_limit == pytest.approx(4 / ours.median_ms)  # 4 GFLOP at 1 TFLOP/s is 4 ms, 3 MB are 3
    assert other.share_of_limit == pytest.approx(5 / other.median_ms)  # 5 MB at 1 GB/s
    assert ours.tflops_per_second == pytest.approx(4e-3 / ours.median_ms * 1e3)
    assert copy.gigabytes_per_second == pytest.approx(8e3 / copy.median_ms / 1e6)
    assert copy.tflops_per_second is None
    assert copy.max_error is None
    assert all(row.share_of_limit is None for row in measure(case, seconds=0.0).rows)


def test_results_are_on_disk_after_each_case(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def make(name: str) -> Case:
        seen.append(json.loads((tmp_path / "doubling.json").read_text()))
        return make_case(name)

    plans = [Plan(name, lambda name=name: make(name)) for name in ("a", "b", "c")]  # type: ignore[misc]
    code, written = run(tmp_path, plans)
    assert code == 0
    assert [[row["case"] for row in state["rows"]] for state in (*seen, written)] == [
        [],
        ["a"],
        ["a", "b"],
        ["a", "b", "c"],
    ]
    assert [state["cut"] for state in (*seen, written)] == [["a", "b", "c"], ["b", "c"], ["c"], []]


def test_no_case_starts_when_the_time_is_over(tmp_path: Path) -> None:
    plans = [Plan(name, make_case) for name in ("a", "b")]
    code, written = run(tmp_path, plans, "--budget-seconds", "0")
    assert (code, written["rows"], written["cut"]) == (0, [], ["a", "b"])


def test_a_case_that_cannot_be_made_ends_nothing_and_is_no_success(tmp_path: Path) -> None:
    def too_large() -> Case:
        raise RuntimeError("out of memory")

    code, written = run(tmp_path, [Plan("large", too_large), Plan("small", make_case)])
    assert code == 1
    assert [row["implementation"] for row in written["rows"]] == ["ours"]
    assert written["refused"] == [{"case": "large", "implementation": "ours", "reason": "RuntimeError: out of memory"}]


def test_a_wrong_rival_is_no_failure_of_ours(tmp_path: Path) -> None:
    assert run(tmp_path, [Plan("a", lambda: make_case(theirs=broken))])[0] == 0
    wrong = Case("a", {}, {"ours": broken}, double, 1e-6)
    assert run(tmp_path, [Plan("a", lambda: wrong)])[0] == 1


def test_rows_that_a_plan_measured_itself_are_kept_without_what_they_lack(tmp_path: Path) -> None:
    row = {"case": "memory", "sizes": {}, "implementation": "ours", "added_gib": 0.5, "note": None}
    _, written = run(tmp_path, [Plan("memory", lambda: [row])], "--tiny")
    assert written["rows"] == [{key: value for key, value in row.items() if value is not None}]
    assert written["dry_run"] is True


def test_rows_come_one_by_one_and_those_with_a_reason_are_absent(tmp_path: Path) -> None:
    row = {"case": "step", "sizes": {}, "implementation": "theirs", "median_ms": 1.0}
    seen: list[int] = []

    def make() -> Iterator[dict[str, Any]]:
        yield row
        seen.append(len(json.loads((tmp_path / "doubling.json").read_text())["rows"]))
        yield row | {"reason": "does not fit"}
        raise RuntimeError("its process ended early")

    code, written = run(tmp_path, [Plan("theirs", make, "theirs")])
    assert seen == [1]  # what has come is on disk before the next comes
    assert code == 0  # another's failure is none of ours
    assert [entry["reason"] for entry in written["absent"]] == ["does not fit"]
    assert [entry["implementation"] for entry in written["refused"]] == ["theirs"]


def test_cases_with_bytes_among_their_sizes_get_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--out", str(tmp_path), "--seconds", "0"])
    assert run_cases("small", "", [make_case()]) == 0
    row = json.loads((tmp_path / "small.json").read_text())["rows"][0]
    assert row["gigabytes_per_second"] == pytest.approx(8000 / row["median_ms"] / 1e6)


def test_what_cannot_run_here_is_absent_with_its_reason() -> None:
    def elsewhere() -> str:
        raise Absent("runs on another device")

    made, absent = probe(
        {"here": lambda: "yes", "elsewhere": elsewhere, "missing": lambda: load("no_such_package_at_all.ops")}
    )
    assert made == {"here": "yes"}
    assert absent == {"elsewhere": "runs on another device", "missing": "no_such_package_at_all is not installed"}
