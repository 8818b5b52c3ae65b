"""The best rates of this machine: a product of random matrices and a copy, as rows of a table.

Inputs are random, because products of zeros take less power and run faster than real ones. The copy's rate counts bytes
read and bytes written. Each is done until SECONDS are over, and the median is told.
"""

import statistics
import time
from collections.abc import Callable

from alttrain.engine.doctor.machine import Rows

# By kind of device: side of the product, and bytes of the copy.
SIZES = {"cuda": (8192, 1 << 30), "cpu": (1024, 64 << 20)}
SECONDS, MIN_SAMPLES = 0.5, 5


def ceiling_rows(device: str) -> Rows:
    """Return what a product and a copy reach on `device`; a row says so where one cannot be measured."""
    import torch

    kind = torch.device(device).type
    side, num_bytes = SIZES[kind]
    dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    rows: Rows = []

    def product() -> tuple[Callable[[], object], float]:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        return lambda: torch.mm(left, right, out=out), 2.0 * side**3

    def copy() -> tuple[Callable[[], object], float]:
        source = torch.randn(num_bytes // 4, device=device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source), 2.0 * num_bytes

    name = str(dtype).removeprefix("torch.")
    for what, make, unit in (
        (f"{name} product, {side} cubed", product, "TFLOP/s" if kind == "cuda" else "GFLOP/s"),
        (f"copy of {num_bytes >> 20} MiB", copy, "GB/s"),
    ):
        try:
            run, work = make()
            seconds = _median_seconds(run, kind)
            scale = 1e12 if unit == "TFLOP/s" else 1e9
            told = f"{_rate(work / seconds / scale)} {unit}" if seconds > 0 else "not measured: it took no time at all"
        except RuntimeError as error:  # out of memory, or a device that is lost
            told = f"not measured: {str(error).splitlines()[0][:120]}"
        rows.append((what, told))
    return rows


def _rate(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.2g}"


def _median_seconds(run: Callable[[], object], kind: str) -> float:
    run()
    samples: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(samples) < MIN_SAMPLES or time.perf_counter() < end:
        samples.append(_seconds(run, kind))
    return statistics.median(samples)


def _seconds(run: Callable[[], object], kind: str) -> float:
    import torch

    if kind == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3
