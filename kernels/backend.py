"""Which of a kernel's two paths a call takes: Triton, or PyTorch with the same results."""

from typing import Literal

import torch
import triton

Backend = Literal["auto", "triton", "torch"]

# Whether Triton's interpreter is on (TRITON_INTERPRET=1): triton decides this once, when the kernels are imported.
INTERPRETED = bool(triton.knobs.runtime.interpret)
TRITON_VERSION: str = triton.__version__


def runs_triton(backend: Backend, device: torch.device) -> bool:
    """Return whether a call on tensors of `device` launches the kernel: `auto` does on CUDA only.

    Raises:
        ValueError: `backend` is not a Backend, or asks for Triton on a CPU without Triton's interpreter.
    """
    if backend not in ("auto", "triton", "torch"):
        raise ValueError(f"backend is {backend!r}: it must be auto, triton or torch.")
    if backend == "triton" and device.type == "cpu" and not INTERPRETED:
        raise ValueError("backend is 'triton' and the tensors are on cpu: set TRITON_INTERPRET=1 before the import.")
    return backend == "triton" or (backend == "auto" and device.type == "cuda")
