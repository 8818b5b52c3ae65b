"""Trying kernels in processes of their own, and what is made of one that does not come back.

Most of the time goes into compilation, by one core a process, so that a few processes share the kernels.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from alttrain.engine.proof.shapes import KernelShapes
from alttrain.engine.proof.trial import REASON_LENGTH, Verdict

CHILD = (sys.executable, "-P", "-m", "alttrain.engine.proof.child")
# Importing torch and starting a device from a cold disk; one kernel with its compilations takes seconds.
START_SECONDS, KERNEL_SECONDS = 180.0, 90.0
# Processes at a time at most: each takes a context of the device, and they end almost together.
MOST_JOBS = 3

Say = Callable[[str], None]


def try_kernels(
    names: Sequence[str],
    shapes: KernelShapes,
    device: str,
    say: Say = lambda name: None,
    *,
    command: Sequence[str] = CHILD,
    seconds: tuple[float, float] = (START_SECONDS, KERNEL_SECONDS),
    jobs: int = 0,
) -> dict[str, Verdict]:
    """Return the verdict of each kernel of `names`, each tried once; nothing that a kernel does can end this process.

    Args:
        names: kernels, as in `kernels.py`.
        shapes: the sizes to try them at.
        device: the device of the process, as in cuda:0.
        say: is told each kernel when its trials begin.
        command: the process to start.
        seconds: how long it may take to begin, and for one kernel.
        jobs: processes at a time; 0: one for two cores, MOST_JOBS at most.
    """
    jobs = jobs or max(1, min(MOST_JOBS, len(os.sched_getaffinity(0)) // 2))
    shares = [share for first in range(jobs) if (share := names[first::jobs])]
    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        found = list(pool.map(lambda share: _try_share(share, shapes, device, say, command, seconds), shares))
    verdicts = {name: verdict for of in found for name, verdict in of.items()}
    return {name: verdicts[name] for name in names}


def _try_share(
    names: Sequence[str], shapes: KernelShapes, device: str, say: Say, command: Sequence[str],
    seconds: tuple[float, float],
) -> dict[str, Verdict]:  # fmt: skip
    """Return the verdicts of one process after another, each of which goes on where the last one ended."""
    verdicts: dict[str, Verdict] = {}
    while left := [name for name in names if name not in verdicts]:
        request = {"device": device, "shapes": shapes.as_dict(), "kernels": left}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
            try:
                end, begun = _ask(command, request, complaints, verdicts, say, seconds)
            except OSError as error:
                end, begun = f"no process could be started: {error.strerror}", None
            if end:
                complaints.seek(0)
                end = f"{end}{_last_line(complaints)}"[:REASON_LENGTH]
        if begun is not None:
            verdicts[begun] = Verdict("raised", end or "its process ended without a word")
        elif len(left) == sum(name not in verdicts for name in names):  # a process that got nowhere
            verdicts |= {name: Verdict("raised", f"could not be tried: {end or 'nothing came'}") for name in left}
    return verdicts


def _ask(
    command: Sequence[str], request: dict[str, Any], complaints: IO[str], verdicts: dict[str, Verdict], say: Say,
    seconds: tuple[float, float],
) -> tuple[str, str | None]:  # fmt: skip
    """Add the verdicts of one process to `verdicts`; return how it ended, empty if well, and the kernel it was at."""
    options: dict[str, Any] = {"text": True, "encoding": "utf-8", "errors": "replace"}
    begun: str | None = None
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, **options
    ) as process:
        watch = _Watch(process, seconds[0])
        try:
            for line in _lines(process, request):
                watch.again(seconds[1])
                if "begins" in line:
                    begun = str(line["begins"])
                    say(begun)
                elif line.get("kernel") == begun and isinstance(line.get("verdict"), dict):
                    verdicts[str(begun)] = Verdict(**line["verdict"])
                    begun = None
            code = process.wait()
        finally:
            watch.cancel()
            process.kill()
    if code == -signal.SIGINT:
        raise KeyboardInterrupt  # Ctrl-C reaches the whole group: what is left is not tried
    if watch.went_off:
        return f"it did not end within {watch.seconds:.0f} s", begun
    return (_named(code) if code else ""), begun


def _lines(process: subprocess.Popen[str], request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.close()
    except BrokenPipeError:
        return  # it ended before it read
    for text in process.stdout:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # half a line of a process that was killed
        if isinstance(line, dict):
            yield line


class _Watch:
    """Kills a process that says nothing for too long."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process, self.went_off = process, False
        self.seconds, self._timer = seconds, self._started(seconds)

    def again(self, seconds: float) -> None:
        self._timer.cancel()
        self.seconds, self._timer = seconds, self._started(seconds)

    def _started(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        return timer

    def cancel(self) -> None:
        self._timer.cancel()

    def _kill(self) -> None:
        self.went_off = True
        self._process.kill()


def _named(code: int) -> str:
    return f"its process ended by {signal.Signals(-code).name}" if code < 0 else f"its process ended with code {code}"


def _last_line(complaints: IO[str]) -> str:
    """Return the last line that says something, after a comma."""
    lines = [line.strip() for line in complaints if line.strip()]
    return f", {lines[-1]}" if lines else ""
