"""The verdicts on all kernels of a device at a model's shapes: from the cache, or tried now and kept."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

import torch

from alttrain.engine.proof.identity import identity_of
from alttrain.engine.proof.keeping import keep_verdicts, kept_verdicts
from alttrain.engine.proof.kernels import TRIALS
from alttrain.engine.proof.shapes import KernelShapes
from alttrain.engine.proof.trial import Verdict
from alttrain.engine.proof.trying import Say, try_kernels

Try = Callable[[Sequence[str], KernelShapes, str, Say], Mapping[str, Verdict]]


@dataclass(frozen=True)
class Proof:
    """What is known of every kernel on one device."""

    verdicts: Mapping[str, Verdict]
    note: str = ""
    """A sentence for the user, where the verdicts could not be kept."""


def prove(
    device: torch.device,
    shapes: KernelShapes,
    *,
    anew: bool = False,
    progress: bool = True,
    attempt: Try = try_kernels,
) -> Proof:
    """Return the verdict of every kernel on `device`; those that are not kept are tried now.

    Args:
        device: a CUDA device, or the CPU under Triton's interpreter.
        shapes: the sizes to try the kernels at.
        anew: try all of them, whatever is kept.
        progress: say on stderr, in one line, what is being tried.
        attempt: what tries them, in processes of their own.
    """
    identity = identity_of(device, shapes)
    verdicts = {} if anew else kept_verdicts(identity)
    left = [name for name in TRIALS if name not in verdicts]
    if not left:
        return Proof({name: verdicts[name] for name in TRIALS})
    line = ProgressLine(sys.stderr if progress else None, f"trying {len(left)} kernels once on {identity['gpu']}:")
    tried = attempt(left, shapes, str(device), line.add)
    line.end()
    verdicts |= tried
    return Proof({name: verdicts[name] for name in TRIALS}, keep_verdicts(identity, verdicts))


class ProgressLine:
    """One line that grows a word at a time."""

    def __init__(self, stream: TextIO | None, beginning: str) -> None:
        """Begin the line; nothing is written where there is no stream."""
        self._stream, self._start = stream, time.perf_counter()
        self._write(beginning)

    def add(self, word: str) -> None:
        """Add a word."""
        self._write(f" {word}")

    def end(self) -> None:
        """Add the seconds since the beginning, and end the line."""
        self._write(f" ({time.perf_counter() - self._start:.1f} s)\n")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
