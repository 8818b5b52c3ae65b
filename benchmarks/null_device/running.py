"""Running cases, each in a process of its own, and comparing their figures with those recorded in limits.json."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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


class Runner:
    """A context in which cases are run on one set of versions, by a process that has imported everything."""

    def __init__(self, versions: VersionSet) -> None:
        """Note the set.

        Raises:
            Failure: it has not been fetched and built.
        """
        if not versions.is_ready:
            raise Failure(
                f"{versions.folder} is not there or not whole: python benchmarks/null_suite.py fetch makes it."
            )
        self.versions = versions

    def __enter__(self) -> Self:
        link_names()
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [str(self.versions.python), "-m", "null_device.steps"],
            env=self.versions.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def run(self, case: Case, capacity: int | None = None) -> dict[str, Any]:
        """Return the figures of a case; `refused` is among them where the step failed.

        Args:
            case: what to run.
            capacity: bytes of the device, where it is not to be an H200's.

        Raises:
            Failure: its process died without figures, or took too long.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.errors.seek(0)
        self.errors.truncate()
        timer = threading.Timer(MOST_SECONDS, self.process.kill)
        timer.start()
        figures: dict[str, Any] | None = None
        try:
            self.process.stdin.write(json.dumps({"case": case._asdict(), "capacity": capacity}) + "\n")
            self.process.stdin.flush()
            while (text := self.process.stdout.readline()) and not text.startswith("END "):
                if text.startswith("FIGURES "):
                    figures = json.loads(text.removeprefix("FIGURES "))
        except BrokenPipeError:
            text = ""
        finally:
            timer.cancel()
        if figures is None:
            raise Failure(f"{case.name}: no figures ({text.strip() or 'the process ended'}). {self._said()[-1500:]}")
        if "refused" in figures and not is_out_of_memory(figures):
            sys.stderr.write(self._said()[-3000:])
        return figures

    def run_or_tell_what_it_takes(self, case: Case) -> dict[str, Any]:
        """Return the figures of a case; where it does not fit, those on a device that is large enough, and why."""
        figures = self.run(case)
        if not is_out_of_memory(figures):
            return figures | {"fits": "refused" not in figures}
        reason = {"step": figures.get("steps", 0) + 1, "says": figures["refused"]}
        return self.run(case, ENOUGH_BYTES) | {"fits": False, "out_of_memory": reason}

    def _said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()


def is_out_of_memory(figures: Mapping[str, Any]) -> bool:
    """Return whether a case failed for want of memory."""
    return str(figures.get("refused", "")).startswith("OutOfMemoryError")


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
            if name == "waits":
                found += [f"it waits {times} x {place}" for place, times in figures["waits"].items()]
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
