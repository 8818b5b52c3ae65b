"""Recorded curves: what a run gave when it was known to be right, and a comparison that shows where one leaves it.

The files are under tests/assets/golden. ALTTRAIN_REMAKE_GOLDEN=1 makes them anew instead of comparing: only where a
change of numbers was meant, and with the reason in the commit.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "golden"
Curves = Mapping[str, Sequence[float]]


@pytest.fixture(scope="session")
def check_golden() -> Callable[[str, Curves, float], None]:
    """Return a function that compares curves with the recorded ones of that name, to a relative tolerance."""

    def check(name: str, curves: Curves, tolerance: float) -> None:
        file = FOLDER / f"{name}.json"
        if os.environ.get("ALTTRAIN_REMAKE_GOLDEN") == "1":
            file.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
        recorded = json.loads(file.read_text(encoding="utf-8"))
        assert not (differences := compare(recorded, curves, tolerance)), "\n".join([name, *differences])

    return check


def compare(recorded: Curves, measured: Curves, tolerance: float) -> list[str]:
    """Return the lines of both curves wherever one of them differs; none where all agree."""
    if recorded.keys() != measured.keys():
        return [f"recorded are the curves {sorted(recorded)}, measured {sorted(measured)}"]
    lines = []
    for name, wanted in recorded.items():
        found = measured[name]
        if len(wanted) == len(found) and all(map(lambda a, b: math.isclose(a, b, rel_tol=tolerance), wanted, found)):
            continue
        lines.append(f"{name}: {len(wanted)} values recorded, {len(found)} measured, tolerance {tolerance:g}")
        lines += [
            f"{step:4d}  {a:.9g}  {b:.9g}  {(b - a) / a:+.1e}"
            for step, (a, b) in enumerate(zip(wanted, found, strict=False), 1)
        ]
    return lines
