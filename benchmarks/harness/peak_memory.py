"""Measuring how far memory rises while a function runs: of the allocator on CUDA, of a fresh process on CPU (Linux)."""

import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

GIB = 1 << 30


def peak_memory_bytes(prepare: Callable[..., Callable[[], object]], *args: Any) -> int:
    """Return how far memory rises, after `prepare(*args)`, while the function that this returns runs once.

    The result of the run is still held at the end, and is counted. `prepare` is a function of a module: on CPU it is
    called in a fresh process. It should run the work once at a tiny size, so that libraries have their own buffers.

    Raises:
        RuntimeError: the process of its own failed, or the system does not say what a process has used (not Linux).
    """
    if torch.cuda.is_available():
        run = prepare(*args)
        torch.cuda.synchronize()
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
