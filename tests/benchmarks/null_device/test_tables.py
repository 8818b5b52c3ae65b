"""Figures as text."""

from typing import Any

from null_device.cases import Case
from null_device.tables import HEAD, line, markdown

GIB = 2**30
CASE = Case("7B", stage=2, world=8)
FIGURES: dict[str, Any] = {
    "case": CASE._asdict(), "fits": True, "peak_bytes": 3 * GIB, "reserved_bytes": 4 * GIB, "bytes_after_start": GIB,
    "bytes_between_steps": 2 * GIB, "collectives": {"all_reduce calls": 3, "all_reduce bytes": 5 * 10**9},
    "step": {"kernels": 1234, "fills": 5, "copies": 6, "waits": 7}, "host_cpu_ms": {"step": 40.2},
    "yardstick_cpu_ms": 30.0,
}  # fmt: skip
REFUSED = {"case": CASE._asdict(), "fits": False, "refused": "RuntimeError: its launch failed"}


def test_a_table_has_a_line_for_every_case_that_took_a_step() -> None:
    big = FIGURES | {"fits": False, "out_of_memory": {"step": 2, "says": ""}, "case": CASE._replace(world=1)._asdict()}
    head, rule, first, second = markdown([FIGURES, REFUSED, big]).splitlines()
    assert head == f"| {' | '.join(HEAD)} |"
    assert rule.count("---") == len(HEAD)
    assert first == (f"| {CASE.name} | yes | 1.00 / 2.00 | 3.00 / 4.00 | 1,234 | 5 | 6 | 7 | 5.0 | 40 (30) |")
    assert "| no (step 2) |" in second
    assert second.endswith("|  | 40 (30) |")


def test_a_line_says_what_does_not_fit_and_what_was_refused() -> None:
    assert line(CASE, FIGURES).startswith(
        f"{CASE.name}: peak 3.00 GiB (4.00 reserved), held 1.00 to 2.00; 1234 kernels"
    )
    assert "DOES NOT FIT" in line(CASE, FIGURES | {"fits": False})
    assert line(CASE, REFUSED) == f"{CASE.name}: RuntimeError: its launch failed"
