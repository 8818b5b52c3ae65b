"""Which kernels a stretch of work launches on a GPU, how many, and how long they take: counted and summed by kind.

On the null device (null_device/) they are counted and take no time.
"""

import re
from collections import defaultdict, deque
from types import TracebackType
from typing import Any, Self

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from harness.record import is_null_device
from null_device.counters import NullDevice, since
from null_device.counters import summary as counted

# Kind, and the pattern of its kernels' names; the first that fits. Triton's are named by file and function.
KINDS = (
    ("loss, rows", r"cross_entropy|^chunked_logprob\."),
    ("norms", r"rms_norm"),
    ("swiglu", r"swiglu"),
    ("rotary", r"rope"),
    ("adamw", r"^adamw\.|adam"),
    ("float8, passes", r"^float8\."),
    ("batch", r"^span_weights\."),
    ("attention", r"flash|fmha|attention"),
    ("products", r"^lt |gemm|nvjet|cutlass|xmma|cublas|splitK|gemv"),
    ("copies", r"^Memcpy|copy"),
    ("fills", r"^Memset|fill"),
    ("reductions", r"reduce|norm"),
    ("gathers", r"index|gather|scatter|embedding|select"),
    ("elementwise", r"elementwise|foreach|multi_tensor|cat"),
)
# What the null device calls a launch.
LAUNCHES = ("kernel", "triton", "product")
# How many kernels are listed by name, the longest first.
LISTED = 40


class KernelTimes:
    """A context that records the kernels launched within it; without a GPU it records nothing."""

    def __init__(self, device: torch.device) -> None:
        has_times = device.type == "cuda" and not is_null_device()
        self.profiler = profile(activities=[ProfilerActivity.CUDA]) if has_times else None
        self.counter = NullDevice() if device.type == "cuda" and is_null_device() else None
        self.counts: dict[str, Any] = {}
        self.triton_names: dict[str, deque[str]] = defaultdict(deque)
        self.kernels: list[tuple[str, float]] = []  # name, microseconds

    def __enter__(self) -> Self:
        if self.counter is not None:
            self.before = self.counter.counts()
        if self.profiler is not None:
            from triton.runtime.jit import JITFunction

            self.run = JITFunction.run
            JITFunction.run = self._named(JITFunction.run)
            torch.cuda.synchronize()
            self.profiler.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.counter is not None:
            self._count(self.counter)
        if self.profiler is None:
            return
        from triton.runtime.jit import JITFunction

        torch.cuda.synchronize()
        self.profiler.__exit__(kind, error, traceback)
        JITFunction.run = self.run
        found = [
            event
            for event in self.profiler.events()
            if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        ]
        for event in sorted(found, key=lambda event: event.time_range.start):
            waiting = self.triton_names.get(event.name)
            name = waiting.popleft() if waiting else event.name
            self.kernels.append((name, event.time_range.end - event.time_range.start))

    def _count(self, counter: NullDevice) -> None:
        calls = since(self.before, counter.counts())
        launches = [
            (call.name, 0.0) for call, each in calls.items() if call.kind in LAUNCHES for _ in range(each.calls)
        ]
        totals = counted(calls)
        others = {name: totals[name] for name in ("fills", "copies", "waits", "product_flops")}
        self.counts = {"counted": others} | summarise(launches)

    def _named(self, run: Any) -> Any:
        """Return Triton's launch that also notes the file: several files have a kernel of the same name."""
        names = self.triton_names

        def launch(function: Any, *args: Any, **options: Any) -> Any:
            short = function.fn.__name__
            names[short].append(f"{function.fn.__module__.rpartition('.')[2]}.{short}")
            return run(function, *args, **options)

        return launch

    def summary(self) -> dict[str, Any]:
        """Return launches, milliseconds and count by kind, and the kernels that take longest; empty without a GPU."""
        return summarise(self.kernels) if self.kernels else self.counts


def kind_of(name: str) -> str:
    """Return the kind of a kernel by its name."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, name, re.IGNORECASE)), "other")


def summarise(kernels: list[tuple[str, float]]) -> dict[str, Any]:
    """Return the same for (name, microseconds) of each launch."""
    kinds: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    names: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for name, microseconds in kernels:
        for table, key in ((kinds, kind_of(name)), (names, name)):
            table[key][0] += 1
            table[key][1] += microseconds / 1e3

    def longest_first(table: dict[str, list[float]]) -> dict[str, dict[str, float]]:
        ordered = sorted(table.items(), key=lambda item: -item[1][1])
        return {key: {"launches": count, "ms": round(ms, 3)} for key, (count, ms) in ordered}

    return {
        "launches": len(kernels),
        "device_ms": round(sum(microseconds for _, microseconds in kernels) / 1e3, 3),
        "kinds": longest_first(kinds),
        "kernels": dict(list(longest_first({name[:120]: value for name, value in names.items()}).items())[:LISTED]),
    }
