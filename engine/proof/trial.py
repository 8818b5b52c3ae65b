"""What a kernel is asked to do once: the same work by the kernel, by PyTorch and by the definition, and the verdict.

A trial that raises, whatever it raises, is a failed kernel with one line of reason, never a crash of the caller.
"""

import gc
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from alttrain.engine.proof.judge import TORCH_IS_OFF, Results, objection, share_of_different_bits
from alttrain.engine.proof.poison import poisoned
from alttrain.kernels.backend import INTERPRETED, Backend

# Of the bf16 numbers that a kernel has rounded by random bits, how many may differ from PyTorch's, which has the same
# bits: on sm_100 the last bit of fp32 may differ, and through it one rounding in ten thousand.
DIFFERENT_BITS = 0.01
# A reason is one line of a message that others read.
REASON_LENGTH = 160

Outcome = Literal["passed", "wrong", "raised"]


@dataclass(frozen=True)
class Verdict:
    """What became of one kernel."""

    outcome: Outcome
    """passed; wrong: it computes something else; raised: it did not come to an end."""
    reason: str = ""
    """One line; empty where it passed."""
    seconds: float = 0.0
    """How long its trials took, compilation included."""
    torch_failed: bool = False
    """Whether it was PyTorch's own path that went wrong, so that the kernel had nothing to be compared with."""

    @property
    def passed(self) -> bool:
        """Whether the kernel may be used."""
        return self.outcome == "passed"


@dataclass(frozen=True)
class Trial:
    """The same work three times. Results are tensors by name; those named in `bits` are compared bit by bit."""

    what: str
    """The case, in a few words."""
    run: Callable[[Backend], Results]
    """Does the work by the kernel ("triton") or by PyTorch ("torch")."""
    truth: Callable[[], Results]
    """Does it by the definition, in a higher precision; integers may be left out and are then PyTorch's."""
    bits: tuple[str, ...] = ()
    cancels: bool = False
    """Whether rows of the results may be small by cancellation, as those of attention's gradients are."""


def judge_kernel(trials: Callable[[], Iterable[Trial]]) -> Verdict:
    """Run the trials of one kernel and return the verdict: that of the first trial that it does not pass."""
    start = time.perf_counter()
    verdict = _judge(trials)
    gc.collect()
    return replace(verdict, seconds=round(time.perf_counter() - start, 2))


def one_line(error: BaseException) -> str:
    """Return an error as one line: its kind, and the line of its message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    told = re.sub(r"\s+", " ", told)
    return f"{type(error).__name__}: {told}"[:REASON_LENGTH].rstrip(": ")


def _judge(trials: Callable[[], Iterable[Trial]]) -> Verdict:
    largest, what, whose = 0.0, "", ""
    try:
        for trial in trials():
            what, whose = trial.what, "PyTorch: "
            own = trial.run("torch")
            truth = {name: value for name, value in own.items() if not value.is_floating_point()} | dict(trial.truth())
            whose = ""
            with poisoned():
                ours = trial.run("triton")
            if ours.keys() != truth.keys() | set(trial.bits):
                return Verdict("wrong", f"{what}: gives {', '.join(ours)}")
            for name, value in ours.items():
                if name in trial.bits:
                    share = share_of_different_bits(value, own[name])
                    said, size = (f"{name} differs in {share:.0%} of its bits" if share > DIFFERENT_BITS else ""), 0.0
                else:
                    said, size = objection(
                        name, value, own[name], truth[name], truncates=INTERPRETED, cancels=trial.cancels
                    )
                if said:
                    return Verdict("wrong", f"{what}: {said}", torch_failed=said.startswith(TORCH_IS_OFF))
                largest = max(largest, size)
            del own, ours, truth, value
            what = f"after {trial.what}"
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # an error of the last launch is this kernel's too
    except Exception as error:  # a compiler's, a launch's, a device's: it is the kernel's verdict
        return Verdict(
            "raised", f"{what}: {whose}{one_line(error)}" if what else one_line(error), torch_failed=bool(whose)
        )
    # A device that answers nothing but zeros would find everything equal.
    return Verdict("passed") if largest > 0 else Verdict("raised", "the device gives nothing but zeros")
