"""Pytest plugin: write a line of JSON when a test starts and when it has its outcome, so that a killed run keeps both.

OUTCOMES=FILE python -P -m pytest -p harness.record_outcomes tests/kernels
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

FILE = Path(os.environ["OUTCOMES"])


def _write(line: dict[str, Any]) -> None:
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test has started."""
    _write({"name": nodeid, "outcome": "started"})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a test's outcome: of its call, or of the set-up or tear-down that failed or skipped it."""
    if report.when == "call" or report.outcome != "passed":
        line = {"name": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 3)}
        if report.outcome != "passed":
            line["message"] = str(report.longrepr)[-1500:]
        _write(line)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Write a file that could not be collected."""
    if report.outcome == "failed":
        _write({"name": report.nodeid, "outcome": "failed", "seconds": 0.0, "message": str(report.longrepr)[-1500:]})
