"""Checking implementations against a reference, then timing them interleaved.

An implementation is timed only after its results have been checked; one that is wrong, or fails, is refused with the
reason, and the others are timed. Samples are taken from each implementation in turn, so that a slow minute of the
machine affects all alike. On CUDA the L2 cache is emptied before each sample, and the device waits until all launches
of the sample are queued, so that only the device is timed; `host_ms` is the time that the calls take on the host.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

Sizes = Mapping[str, int | float | str]
Run = Callable[[], Sequence[Tensor]]

MAX_SAMPLES = 200
# Written between samples on CUDA, so that no implementation finds its inputs in the L2 cache.
CACHE_BYTES = 256 << 20
# Factor on the allowed error of implementations that are not ours: some sum in bf16 by design. Their row has the error.
RIVAL_SLACK = 5
# The longest time that the device waits for launches, and its highest clock.
MAX_WAIT_SECONDS, CYCLES_PER_SECOND = 0.02, 2.0e9


class Yardstick(NamedTuple):
    """Work to compare a case with, with its own operations and bytes."""

    run: Callable[[], object]
    flops: float = 0.0
    num_bytes: float = 0.0


@dataclass(frozen=True)
class Case:
    """One size of one kernel: the same work by several implementations.

    Attributes:
        name: what is compared.
        sizes: the shapes and dtypes, for the record.
        implementations: each does the whole work once (forward and backward) and returns the tensors to check. Names of
            our implementations begin with "ours"; if one of them is wrong, the benchmark fails.
        reference: the same tensors in higher precision.
        max_error: largest allowed |result - reference| / |reference|, of each tensor; RIVAL_SLACK times that for
            implementations that are not ours.
        flops: operations that the definition needs.
        num_bytes: bytes that the definition has to read and write.
        own_bytes: bytes of an implementation that moves more or fewer, by design.
        yardsticks: a part of the work, or similar work, to compare with; timed in the same way, but not checked.
        absent: implementations that cannot run here, and why.
        notes: remarks on implementations, for their rows.
        predicted: milliseconds that an implementation should take, for its row.
    """

    name: str
    sizes: Sizes
    implementations: Mapping[str, Run]
    reference: Callable[[], Sequence[Tensor]]
    max_error: float
    flops: float = 0.0
    num_bytes: float = 0.0
    own_bytes: Mapping[str, float] = field(default_factory=dict)
    yardsticks: Mapping[str, Yardstick] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    predicted: Mapping[str, float | None] = field(default_factory=dict)


class Ceilings(NamedTuple):
    """The best rates measured on this machine, of bf16 products and of device-to-device copies."""

    tflops_per_second: float
    gigabytes_per_second: float

    def least_ms(self, flops: float, num_bytes: float) -> float:
        """Return the least time for the work at these rates."""
        return max(flops / self.tflops_per_second / 1e9, num_bytes / self.gigabytes_per_second / 1e6)


@dataclass(frozen=True)
class Measurement:
    """One implementation of one case; times of forward and backward together."""

    case: str
    sizes: Sizes
    implementation: str
    max_error: float | None  # None: a yardstick
    samples: int
    median_ms: float
    low_ms: float  # 5th percentile
    high_ms: float  # 95th percentile
    host_ms: float | None  # on CUDA: time of the calls on the host, including any wait for the device
    tflops_per_second: float | None
    gigabytes_per_second: float | None
    share_of_limit: float | None  # least time at the measured ceilings over the median
    note: str | None
    predicted_ms: float | None = None


class Result(NamedTuple):
    """The rows of a case, and for each refused implementation the reason."""

    rows: list[Measurement]
    refused: dict[str, str]


def measure(case: Case, *, seconds: float, min_samples: int = 5, ceilings: Ceilings | None = None) -> Result:
    """Check every implementation of `case`, then time those that are right in turn for about `seconds`."""
    errors, refused = _check(case)
    work = {name: Yardstick(case.implementations[name], case.flops, case.num_bytes) for name in errors}
    work |= case.yardsticks
    runs = {name: entry.run for name, entry in work.items()}
    host = {name: _host_seconds(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    rounds = 0
    while runs and (rounds < min_samples or (time.perf_counter() < end and rounds < MAX_SAMPLES)):
        for name, run in runs.items():
            times[name].append(_sample_ms(run, host[name]))
        rounds += 1
    rows = []
    for name, samples in times.items():
        low, *_, high = statistics.quantiles(samples, n=20, method="inclusive")
        median = statistics.median(samples)
        flops, num_bytes = work[name].flops, case.own_bytes.get(name, work[name].num_bytes)
        row = Measurement(
            case.name,
            case.sizes,
            name,
            errors.get(name),
            len(samples),
            median,
            low,
            high,
            host[name] * 1e3 if torch.cuda.is_available() else None,
            flops / median / 1e9 if flops else None,
            num_bytes / median / 1e6 if num_bytes else None,
            ceilings.least_ms(flops, num_bytes) / median if ceilings and (flops or num_bytes) else None,
            case.notes.get(name),
            case.predicted.get(name),
        )
        rows.append(row)
        print(f"{case.name} {dict(case.sizes)} {name}: {_text(row)}", flush=True)
    for name, reason in refused.items():
        print(f"{case.name} {dict(case.sizes)} {name}: refused, {reason}", flush=True)
    return Result(rows, refused)


def _text(row: Measurement) -> str:
    share = "" if row.share_of_limit is None else f", {row.share_of_limit:.0%} of the limit"
    rate = "" if row.gigabytes_per_second is None else f", {row.gigabytes_per_second:.1f} GB/s"
    return f"{row.median_ms:.3f} ms [{row.low_ms:.3f}, {row.high_ms:.3f}]{rate}{share}"


def _check(case: Case) -> tuple[dict[str, float], dict[str, str]]:
    """Return the largest relative error of those that are right, and why the others are not; this warms up too."""
    truths = [tensor.double() for tensor in case.reference()]
    errors, refused = {}, {}
    for name, run in case.implementations.items():
        try:
            pairs = zip(run(), truths, strict=True)
            error = max(_relative_error(result, truth) for result, truth in pairs)
        except Exception as failure:  # any error, in a package or for want of memory, is recorded; the others go on
            refused[name] = f"{type(failure).__name__}: {str(failure).strip()[:300]}"
        else:
            allowed = case.max_error * (1 if name.startswith("ours") else RIVAL_SLACK)
            if error <= allowed:
                errors[name] = error
            else:
                refused[name] = f"wrong by {error:.2e}, where {allowed:.0e} is allowed"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return errors, refused


def _relative_error(result: Tensor, truth: Tensor) -> float:
    """Return |result - truth| / |truth|, in parts: the fp64 of a whole (V, H) gradient takes gigabytes."""
    assert result.shape == truth.shape, f"shape {tuple(result.shape)} instead of {tuple(truth.shape)}"
    difference = total = 0.0
    for part, exact in zip(*(torch.split(x.reshape(-1), 1 << 26) for x in (result, truth)), strict=True):
        difference += float((part.double() - exact).square().sum())
        total += float(exact.square().sum())
    if difference != difference:  # NaN
        return float("inf")
    if total == 0:
        return float("inf") if difference else 0.0
    return math.sqrt(difference / total)


def _host_seconds(run: Callable[[], object]) -> float:
    """Return the host's time for one call, after a first call that warms up allocators and clocks."""
    run()
    _wait()
    start = time.perf_counter()
    run()
    taken = time.perf_counter() - start
    _wait()
    return taken


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _sample_ms(run: Callable[[], object], host_seconds: float) -> float:
    if not torch.cuda.is_available():
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3
    torch.empty(CACHE_BYTES, dtype=torch.int8, device="cuda").zero_()
    # The device idles until everything is queued; otherwise small kernels would be timed at the speed of Python.
    torch.cuda._sleep(int(min(2 * host_seconds, MAX_WAIT_SECONDS) * CYCLES_PER_SECOND))  # type: ignore[no-untyped-call]
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last))
