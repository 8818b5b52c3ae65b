"""Running a benchmark's cases by the command line; its JSON is written after each case.

Case, measure      what is compared, and how (measuring.py)
environment, ...   where it ran (record.py)
run_plans          cases that are made one at a time
run_cases          a few small cases
"""

import argparse
import gc
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from harness.measuring import Case, Ceilings, Measurement, measure
from harness.record import write_json


class Plan(NamedTuple):
    """A case whose inputs are made only when it is run, because they take memory.

    `make` returns a Case to measure, or rows that it measures itself, one by one. A row with a `reason` names what
    could not be measured, and why.
    """

    label: str
    make: Callable[[], Case | Iterable[dict[str, Any]]]
    implementation: str = "ours"
    """Whose failure it is where the case cannot be made or breaks off; one of ours makes the benchmark fail."""


Plans = Callable[[str, bool], Sequence[Plan]]


def run_plans(name: str, description: str | None, plans: Plans, *, seconds: float, arguments: Any = None) -> int:
    """Run `plans(device, tiny)` in order as the command line says and write NAME.json after each case or row.

    Args:
        name: name of the JSON file, which holds environment, dry_run, rows, absent, refused, cut.
        description: the text of --help.
        plans: the cases for a device, the most important first; tiny ones for a dry run.
        seconds: default of --seconds, the time spent on timing a case.
        arguments: the command line's arguments; sys.argv where None.

    Returns:
        1 where an implementation of ours was refused or a case could not be made, else 0.
    """
    options = _options(description, seconds, arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceilings = read_ceilings(options.ceilings)
    waiting = list(plans(device, options.tiny))
    rows: list[Measurement | dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    end = perf_counter() + options.budget_seconds

    def write() -> None:
        left = [plan.label for plan in waiting]
        facts = {"dry_run": options.tiny, "absent": absent, "refused": refused, "cut": left}
        write_json(options.out, name, rows, **facts)

    write()
    while waiting and perf_counter() < end:
        plan = waiting.pop(0)
        try:
            case_or_rows = plan.make()
            if isinstance(case_or_rows, Case):
                result = measure(case_or_rows, seconds=options.seconds, ceilings=ceilings)
                rows += result.rows
                absent += [_why(plan, *item) for item in case_or_rows.absent.items()]
                refused += [_why(plan, *item) for item in result.refused.items()]
            else:
                for row in case_or_rows:
                    (absent if "reason" in row else rows).append(row)
                    write()
        except (RuntimeError, ValueError) as error:  # out of memory, or an error of ours; the other cases go on
            refused.append(_why(plan, plan.implementation, f"{type(error).__name__}: {str(error).strip()[:300]}"))
            print(f"{plan.label}: {refused[-1]['reason']}", file=sys.stderr, flush=True)
        case_or_rows = []  # frees the inputs
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        write()
    return int(any(entry["implementation"].startswith("ours") for entry in refused))


def run_cases(name: str, description: str | None, cases: Iterable[Case], *, seconds: float = 5.0) -> int:
    """Do what `run_plans` does, with cases that are small enough to be made all at once, also in a dry run.

    If a case's sizes hold `bytes`, the bytes that it has to move, its rate is computed from these.
    """

    def plans(_device: str, _tiny: bool) -> list[Plan]:
        made = [replace(case, num_bytes=case.num_bytes or float(case.sizes.get("bytes", 0))) for case in cases]
        return [Plan(str(dict(case.sizes)), lambda case=case: case) for case in made]  # type: ignore[misc]

    return run_plans(name, description, plans, seconds=seconds)


def _why(plan: Plan, implementation: str, reason: str) -> dict[str, Any]:
    return {"case": plan.label, "implementation": implementation, "reason": reason}


def _options(description: str | None, seconds: float, arguments: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=seconds, help="seconds of timing a case")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"), help="no case starts later than this")
    parser.add_argument("--ceilings", type=Path, help="ceilings.json of this machine, for the share of the limit")
    parser.add_argument("--tiny", action="store_true", help="a dry run: shows that every case runs, measures nothing")
    return parser.parse_args(arguments)


def read_ceilings(path: Path | None) -> Ceilings | None:
    """Return the rates in a ceilings.json, or None without a path."""
    if path is None:
        return None
    measured = json.loads(path.read_text(encoding="utf-8"))["ceilings"]
    return Ceilings(measured["tflops_per_second"], measured["gigabytes_per_second"])
