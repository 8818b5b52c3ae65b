"""A process that tries kernels for another one, and dies of a bad one in its place.

    python -P -m alttrain.engine.proof.child        with a request as one line of JSON on standard input

An address out of bounds ends every later call on the device, in the process that launched the kernel and nowhere else;
some faults end the process itself. So a run tries its kernels in a process of their own, before the model is loaded:
some five seconds of start-up, once, since verdicts are kept. The process writes a line of JSON when it begins a kernel
and one when it has its verdict; where a device is lost after a kernel it exits, and its parent starts another for the
kernels that are left.
"""

import json
import os
import sys
from typing import Any, TextIO

import torch

from alttrain.engine.proof.kernels import try_kernel
from alttrain.engine.proof.shapes import KernelShapes

DEVICE_LOST = 3


def serve(request: dict[str, Any], answers: TextIO) -> int:
    """Try the kernels of `request` ({"device", "shapes", "kernels"}), write a line about each, return the exit code."""
    device = torch.device(request["device"])
    shapes = KernelShapes(**request["shapes"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    for name in request["kernels"]:
        _write(answers, {"begins": name})
        verdict = try_kernel(name, shapes, device)
        _write(answers, {"kernel": name, "verdict": vars(verdict)})
        if device.type == "cuda" and not _answers():
            return DEVICE_LOST
    return 0


def _write(answers: TextIO, line: dict[str, Any]) -> None:
    answers.write(json.dumps(line) + "\n")
    answers.flush()


def _answers() -> bool:
    """Return whether the device still takes calls of this process, and give back what the kernel's trials held."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def main() -> None:
    """Serve one request; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    code = serve(json.loads(sys.stdin.readline()), answers)
    answers.close()
    os._exit(code)  # in order, it would wait for a device that may be lost


if __name__ == "__main__":
    main()
