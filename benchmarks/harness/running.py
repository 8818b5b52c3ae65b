"""The door of every benchmark: its cases run as the command line says, and its JSON is written after each.

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
    """A case that is still to be made: its inputs take memory, so it is made when its turn comes.

    `make` returns a Case to measure, or rows that it has measured itself.
    """

    label: str
    make: Callable[[], Case | list[dict[str, Any]]]


Plans = Callable[[str, bool], Sequence[Plan]]


def run_plans(name: str, description: str | None, plans: Plans, *, seconds: float, arguments: Any = None) -> int:
    """Run `plans(device, tiny)` in order as the command line says and write NAME.json after each.

    Args:
        name: of the JSON: environment, dry_run, rows, absent, refused, cut.
        description: for --help.
        plans: the cases for a device, most telling first; tiny ones where only the running is to be shown.
        seconds: of timing a case, by default.
        arguments: of the command line; sys.argv where None.

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
            made = plan.make()
            if isinstance(made, Case):
                result = measure(made, seconds=options.seconds, ceilings=ceilings)
                rows += result.rows
                absent += [_why(plan, *item) for item in made.absent.items()]
                refused += [_why(plan, *item) for item in result.refused.items()]
            else:
                rows += made
        except (RuntimeError, ValueError) as error:  # out of memory, or a fault of ours: the others go on
            refused.append(_why(plan, "ours", f"{type(error).__name__}: {str(error).strip()[:300]}"))
            print(f"{plan.label}: {refused[-1]['reason']}", file=sys.stderr, flush=True)
        made = []  # lets go of the inputs
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        write()
    return int(any(entry["implementation"].startswith("ours") for entry in refused))


def run_cases(name: str, description: str | None, cases: Iterable[Case], *, seconds: float = 5.0) -> int:
    """Do as `run_plans` does with cases small enough to be made all at once, on any device and in a dry run.

    A case whose sizes hold `bytes`, what it has to move, gets its rate.
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
    parser.add_argument("--seconds", type=float, default=seconds, help="of timing a case")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"), help="no case starts later than this")
    parser.add_argument("--ceilings", type=Path, help="ceilings.json of this machine, for the share of the limit")
    parser.add_argument("--tiny", action="store_true", help="a dry run: shows that every case runs, measures nothing")
    return parser.parse_args(arguments)


def read_ceilings(path: Path | None) -> Ceilings | None:
    """Return what ceilings.py measured, or None where it did not."""
    if path is None:
        return None
    measured = json.loads(path.read_text(encoding="utf-8"))["ceilings"]
    return Ceilings(measured["tflops_per_second"], measured["gigabytes_per_second"])
