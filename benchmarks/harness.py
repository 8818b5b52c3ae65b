"""What every benchmark shares: check against a reference, then time interleaved; peak memory; where it ran; JSON.

A figure is only taken of an implementation whose results have just been found right. Implementations are timed in
turn, sample by sample, so that a slow minute of the machine falls on all of them alike. Memory on CPU is the system's
own mark of the highest resident size, in a fresh process of its own; on CUDA it is the allocator's.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Sizes = Mapping[str, int | float | str]

GIB = 1 << 30
MAX_SAMPLES = 200
# Written between samples on CUDA, so that no implementation finds its inputs in the L2 cache.
CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Case:
    """One size of one kernel: the same work by several implementations.

    Attributes:
        name: what is compared.
        sizes: the shapes and dtypes, for the record.
        implementations: each does the whole work once (forward and backward) and returns the tensors to check.
        reference: the same tensors in higher precision.
        max_error: largest allowed |result - reference| / |reference|, of each tensor.
        flops: operations that the definition needs, for the share of the limit.
    """

    name: str
    sizes: Sizes
    implementations: Mapping[str, Callable[[], Sequence[Tensor]]]
    reference: Callable[[], Sequence[Tensor]]
    max_error: float
    flops: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """One implementation of one case; times of forward and backward together."""

    case: str
    sizes: Sizes
    implementation: str
    max_error: float
    samples: int
    median_ms: float
    low_ms: float  # 5th percentile
    high_ms: float  # 95th percentile
    tflops_per_second: float


def measure(case: Case, *, seconds: float, min_samples: int = 5) -> list[Measurement]:
    """Check every implementation of `case`, then time them in turn for about `seconds` and print a line each.

    Raises:
        AssertionError: an implementation is further from the reference than `case.max_error`.
    """
    errors = _check(case)
    times: dict[str, list[float]] = {name: [] for name in case.implementations}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < min_samples or (time.perf_counter() < end and rounds < MAX_SAMPLES):
        for name, run in case.implementations.items():
            times[name].append(_sample_ms(run))
        rounds += 1
    rows = []
    for name, samples in times.items():
        low, *_, high = statistics.quantiles(samples, n=20, method="inclusive")
        median = statistics.median(samples)
        rate = case.flops / median / 1e9
        rows.append(Measurement(case.name, case.sizes, name, errors[name], len(samples), median, low, high, rate))
        print(f"{case.name} {dict(case.sizes)} {name}: {median:.2f} ms [{low:.2f}, {high:.2f}]", flush=True)
    return rows


def _check(case: Case) -> dict[str, float]:
    """Return each implementation's largest relative error; this is its warm-up too."""
    wanted = [tensor.double() for tensor in case.reference()]
    errors = {}
    for name, run in case.implementations.items():
        results = run()
        pairs = zip(results, wanted, strict=True)
        errors[name] = max(float((result.double() - truth).norm() / truth.norm()) for result, truth in pairs)
        assert errors[name] <= case.max_error, f"{case.name} {dict(case.sizes)}: {name} is wrong by {errors[name]:.2e}"
    return errors


def _sample_ms(run: Callable[[], object]) -> float:
    if not torch.cuda.is_available():
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3
    torch.empty(CACHE_BYTES, dtype=torch.int8, device="cuda").zero_()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last))


def peak_memory_bytes(prepare: Callable[..., Callable[[], object]], *args: Any) -> int:
    """Return how far memory rises above what `prepare(*args)` left, while the function that it returned runs once.

    What the run returns is still held at the end and is counted. `prepare` is a function of a module: on CPU it is
    called in a fresh process. It should run the work once at a tiny size, so that libraries have their own buffers.

    Raises:
        RuntimeError: the process of its own failed, or the system does not say what a process has used (not Linux).
    """
    if torch.cuda.is_available():
        run = prepare(*args)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        held = run()
        torch.cuda.synchronize()
        del held
        return torch.cuda.max_memory_allocated() - before
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report_peak, args=(sender, prepare, args))
    child.start()
    sender.close()
    try:
        return int(receiver.recv())
    except EOFError as error:
        raise RuntimeError(f"{prepare.__name__}{args}: the process that was to measure it ended early.") from error
    finally:
        child.join()


def _report_peak(sender: Any, prepare: Callable[..., Callable[[], object]], args: tuple[Any, ...]) -> None:
    run = prepare(*args)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far: proc(5)
    before = _resident_bytes("VmRSS")
    held = run()
    sender.send(_resident_bytes("VmHWM") - before)
    del held


def _resident_bytes(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"/proc/self/status has no {field}: peak memory can be measured on Linux only.")
    return int(match[1]) << 10


def available_bytes() -> int:
    """Return how much memory new processes can take without swapping."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) << 10


def environment() -> dict[str, Any]:
    """Return versions, hardware, commit and date: all that is needed to read a figure later."""
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "describe", "--always", "--dirty", "--exclude=*"),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }
    for package in ("torch", "triton", "transformers", "liger-kernel", "cut-cross-entropy"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        query = "--query-gpu=driver_version,clocks.sm,clocks.mem,power.limit"
        facts["driver_and_clocks"] = _output("nvidia-smi", query, "--format=csv,noheader")
    return facts


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write_json(folder: Path, name: str, rows: Sequence[Measurement | Mapping[str, Any]]) -> None:
    """Write `folder/name.json`: the environment and the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = [asdict(row) if isinstance(row, Measurement) else dict(row) for row in rows]
    text = json.dumps({"environment": environment(), "rows": plain}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def run_cases(name: str, description: str | None, cases: Iterable[Case], *, seconds: float = 5.0) -> None:
    """Measure `cases` as the command line says, and write NAME.json after each, so that a run cut short leaves its own.

    A case whose sizes hold `bytes`, what it has to move, gets its rate.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=seconds, help="of timing a case")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case in cases:
        for row in measure(case, seconds=options.seconds):
            moved = row.sizes.get("bytes")
            rate = {} if moved is None else {"gigabytes_per_second": float(moved) / row.median_ms / 1e6}
            rows.append(asdict(row) | rate)
        write_json(options.out, name, rows)
