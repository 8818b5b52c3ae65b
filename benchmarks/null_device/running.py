"""Running cases, each in a process of its own, and comparing their figures with those recorded in limits.json."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from null_device.cases import Case
from null_device.places import Failure, VersionSet, link_names

LIMITS = Path(__file__).with_name("limits.json")
MOST_SECONDS = 1200
# Where a case does not fit, what it would have taken is counted on a device of this many bytes.
ENOUGH_BYTES = 2 * 10**12
# Figures that may not grow: of the step, and of the whole case. Bytes may, by this share: threads take turns.
OF_STEP = ("kernels", "products", "fills", "copies", "copies_pageable", "waits", "stream_waits", "bytes_on_device")
OF_CASE = ("bytes_after_start", "bytes_between_steps", "peak_bytes")
SHARE_OF_BYTES = 0.001


def run_case(versions: VersionSet, case: Case, capacity: int | None = None) -> dict[str, Any]:
    """Return the figures of a case; `refused` is among them where the step failed.

    Raises:
        Failure: the set has not been built, or the process died without figures.
    """
    if not versions.is_ready:
        raise Failure(f"{versions.folder} is not there or not whole: python benchmarks/null_suite.py fetch makes it.")
    link_names()
    environment = versions.environment()
    if capacity is not None:
        environment["NULL_DEVICE_BYTES"] = str(capacity)
    command = [str(versions.python), "-m", "null_device.steps", json.dumps(case._asdict())]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{case.name}: no figures within {MOST_SECONDS} s.") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("FIGURES ")]
    if not lines:
        raise Failure(f"{case.name}: its process ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    figures: dict[str, Any] = json.loads(lines[-1].removeprefix("FIGURES "))
    if "refused" in figures and not is_out_of_memory(figures):
        sys.stderr.write(done.stderr[-3000:])
    return figures


def is_out_of_memory(figures: Mapping[str, Any]) -> bool:
    """Return whether a case failed for want of memory."""
    return str(figures.get("refused", "")).startswith("OutOfMemoryError")


def run_or_tell_what_it_takes(versions: VersionSet, case: Case) -> dict[str, Any]:
    """Return the figures of a case; where it does not fit, those of a device that is large enough, and the reason."""
    figures = run_case(versions, case)
    if not is_out_of_memory(figures):
        return figures | {"fits": "refused" not in figures}
    enough = run_case(versions, case, ENOUGH_BYTES)
    return enough | {"fits": False, "out_of_memory": {"step": figures.get("steps", 0) + 1, "says": figures["refused"]}}


def limits_of(figures: Mapping[str, Any]) -> dict[str, int]:
    """Return the figures of a case that may not grow."""
    return {name: figures["step"][name] for name in OF_STEP} | {name: figures[name] for name in OF_CASE}


def objections(figures: Mapping[str, Any], recorded: Mapping[str, int] | None) -> list[str]:
    """Return what speaks against a case: it was refused, work was not counted, or a figure has grown."""
    if "refused" in figures:
        return [f"refused: {figures['refused']}"]
    found = [f"called, and not counted: {name}" for name in figures["step"]["uncounted"]]
    if recorded is None:
        return [*found, "no figures are recorded for it (check --remake)"]
    for name, measured in limits_of(figures).items():
        limit = recorded[name]
        if measured > limit * (1 + SHARE_OF_BYTES if "bytes" in name else 1):
            found.append(f"{name} grew from {limit:,} to {measured:,}")
    return found


def fallen(figures: Mapping[str, Any], recorded: Mapping[str, int] | None) -> list[str]:
    """Return the figures that have fallen, so that they may be recorded anew and held."""
    if recorded is None or "refused" in figures:
        return []
    return [
        f"{name} fell from {recorded[name]:,} to {measured:,}"
        for name, measured in limits_of(figures).items()
        if measured < recorded[name] * (1 - SHARE_OF_BYTES if "bytes" in name else 1)
    ]


def read_limits() -> dict[str, dict[str, dict[str, int]]]:
    """Return the recorded figures: set -> case -> figure."""
    limits: dict[str, dict[str, dict[str, int]]] = json.loads(LIMITS.read_text(encoding="utf-8"))
    return limits
