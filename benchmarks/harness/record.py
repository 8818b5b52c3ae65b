"""The environment of a benchmark, and writing its JSON."""

import functools
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from harness.measuring import Measurement

PACKAGES = (
    "torch", "triton", "transformers", "deepspeed", "trl", "accelerate", "datasets", "liger-kernel", "flash-attn",
    "nvidia-cutlass-dsl", "cut-cross-entropy",
)  # fmt: skip


@functools.cache
def environment() -> dict[str, Any]:
    """Return versions, hardware, commit and date, as they were at the first call: what reading a figure later needs.

    Where the project's history is not at hand, the variable COMMIT says which commit ran.
    """
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": os.environ.get("COMMIT") or _output("git", "describe", "--always", "--dirty", "--exclude=*"),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
        if is_null_device():
            facts["gpu"] += ": the null device, which computes nothing; times mean nothing"
        query = "--query-gpu=driver_version,clocks.sm,clocks.mem,power.limit"
        facts["driver_and_clocks"] = _output("nvidia-smi", query, "--format=csv,noheader")
    return facts


def is_null_device() -> bool:
    """Return whether this process runs over stand-ins for NVIDIA's libraries (null_device/)."""
    return "NULL_DEVICE_LIBRARIES" in os.environ


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write_json(folder: Path, name: str, rows: Sequence[Measurement | Mapping[str, Any]], **facts: Any) -> None:
    """Write `folder/name.json` whole: the environment, `facts`, and the rows without fields that are None."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = [asdict(row) if isinstance(row, Measurement) else dict(row) for row in rows]
    plain = [{key: value for key, value in row.items() if value is not None} for row in plain]
    text = json.dumps({"environment": environment()} | facts | {"rows": plain}, indent=1)
    part = folder / f"{name}.json.part"
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(folder / f"{name}.json")
