"""What a process on the null device has called: counts by kind and name, and where in Python the host would wait."""

import ctypes
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

from null_device.symbols import read_kinds

# Files in whose lines somebody who reads a wait is interested, by a folder of their path.
TELLING = re.compile(r".*?/((?:engine|kernels|deepspeed|transformers)/.+)")
LISTED_FRAMES = 3
# Of functions that a stand-in has no body for, these would have been work or a wait, which was not counted.
UNCOUNTED = re.compile(r"launch|gemm|gemv|matmul|memcpy|memset|malloc|synchronize|reduce|gather|driver that no", re.I)
HARMLESS = re.compile(r"Attribute$|Destroy|Create")
# Of mangled C++ names: literals, what stands for an earlier part, closures' numbers; else the length of an identifier.
MANGLED = re.compile(r"L[a-z]n?\d+E|[ST][0-9A-Z]*_|E\d*_|([1-9]\d*)")
NAMESPACES = re.compile(
    r"(?:at|native|std|c10|cuda|detail|array|operator.*)$|_GLOBAL__|_INTERNAL|__nv|OpaqueType|TensorI"
)
NAME_WORDS = 3


class Call(NamedTuple):
    """A kind of call, as core.h has it, and what was called."""

    kind: str
    name: str


class Total(NamedTuple):
    """How often something was called, and the sum of the amounts: bytes, FLOPs or blocks, as core.h has it."""

    calls: int
    amount: int


Counts = Mapping[Call, Total]


class Entry(ctypes.Structure):
    """The struct `entry` of log.c."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("amount", ctypes.c_uint64),
    )


class NullDevice:
    """The stand-in library that this process has loaded."""

    def __init__(self) -> None:
        """Load it, by the path in NULL_DEVICE_LIBRARIES."""
        path = Path(os.environ["NULL_DEVICE_LIBRARIES"]) / "libcudart.so.13"
        self.library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        self.library.null_entries.restype = ctypes.POINTER(Entry)
        self.hook_type = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
        self.kinds = read_kinds((Path(__file__).parent / "core.h").read_text(encoding="utf-8"))

    def set_capacity(self, num_bytes: int) -> None:
        """Make the device as large as that."""
        self.library.null_set_capacity(ctypes.c_size_t(num_bytes))

    def counts(self) -> dict[Call, Total]:
        """Return all calls of this process so far."""
        number = ctypes.c_uint32()
        entries = self.library.null_entries(ctypes.byref(number))
        found: dict[Call, Total] = {}
        for entry in entries[: number.value]:
            call = Call(self.kinds[entry.kind], short_name(entry.name.decode()))
            old = found.get(call, Total(0, 0))
            found[call] = Total(old.calls + entry.calls, old.amount + entry.amount)
        return found


def since(before: Counts, after: Counts) -> dict[Call, Total]:
    """Return the calls that `after` has beyond `before`."""
    nothing = Total(0, 0)
    differences = {
        call: Total(total.calls - before.get(call, nothing).calls, total.amount - before.get(call, nothing).amount)
        for call, total in after.items()
    }
    return {call: total for call, total in differences.items() if total.calls}


def short_name(name: str) -> str:
    """Return the words of a mangled C++ name that tell a kernel from others; any other name as it is.

    Of _ZN2at6native29vectorized_elementwise_kernelILi4ENS0_11FillFunctorIfEE... these are
    vectorized_elementwise_kernel and FillFunctor.
    """
    if not name.startswith("_Z"):
        return name
    telling = [word for word in identifiers(name) if not NAMESPACES.match(word)]
    return " ".join(dict.fromkeys(telling[:NAME_WORDS])) or name[:80]


def identifiers(mangled: str) -> Iterator[str]:
    """Give the identifiers of a mangled name, each of which is written as its length and its letters."""
    place = 2
    while match := MANGLED.search(mangled, place):
        place = match.end()
        if match[1]:
            yield mangled[place : place + int(match[1])]
            place += int(match[1])


def summary(counts: Counts) -> dict[str, Any]:
    """Return what a step's counts come to: launches by kind, bytes and FLOPs, and stubs that may have hidden work."""

    def total(*kinds: str) -> Total:
        chosen = [each for call, each in counts.items() if call.kind in kinds]
        return Total(sum(each.calls for each in chosen), sum(each.amount for each in chosen))

    pageable = [
        each for call, each in counts.items() if call.kind in ("to_device", "to_host") and call.name == "pageable"
    ]
    return {
        "kernels": total("kernel", "triton", "product").calls,
        "triton": total("triton").calls,
        "products": total("product").calls,
        "product_flops": total("product").amount,
        "fills": total("fill").calls,
        "fill_bytes": total("fill").amount,
        "copies": total("to_device", "to_host", "on_device").calls,
        "copies_pageable": sum(each.calls for each in pageable),
        "bytes_to_device": total("to_device").amount,
        "bytes_to_host": total("to_host").amount,
        "bytes_on_device": total("on_device").amount,
        "waits": total("wait").calls,
        "stream_waits": total("stream_wait").calls,
        "allocations": total("allocation").calls,
        "uncounted": sorted(
            call.name
            for call in counts
            if call.kind == "stub" and UNCOUNTED.search(call.name) and not HARMLESS.search(call.name)
        ),
    }


def most_called(counts: Counts, kinds: Iterable[str], listed: int) -> dict[str, int]:
    """Return the calls of the given kinds by name, the most frequent first."""
    wanted = set(kinds)
    chosen = Counter({call.name: each.calls for call, each in counts.items() if call.kind in wanted})
    return dict(sorted(chosen.most_common(listed), key=lambda item: (-item[1], item[0])))


class Waits:
    """A context that notes, for every call in which the host would wait, the lines of Python that made it."""

    def __init__(self, device: NullDevice) -> None:
        self.device = device
        self.found: Counter[str] = Counter()

    def __enter__(self) -> Self:
        def note(name: bytes) -> None:
            self.found[f"{name.decode()}: {where(sys._getframe(1))}"] += 1

        self.hook = self.device.hook_type(note)  # kept: the library holds its address
        self.device.library.null_set_wait_hook(self.hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.device.library.null_set_wait_hook(None)


def where(frame: FrameType | None) -> str:
    """Return the innermost lines of the engine, its kernels, deepspeed and transformers on a stack, innermost first."""
    lines: list[str] = []
    while frame is not None and len(lines) < LISTED_FRAMES:
        match = TELLING.fullmatch(frame.f_code.co_filename)
        if match:
            lines.append(f"{match[1]}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(lines) or "no line of the engine's"
