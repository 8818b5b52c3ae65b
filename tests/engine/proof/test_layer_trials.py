"""The kernels of a layer pass their trials, and none that was made wrong on purpose does."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from alttrain.engine.proof.kernels import try_kernel
from alttrain.engine.proof.shapes import SMALL_SHAPES
from planted_faults import EDGE, FORWARD, GRADIENT, RAISING, Fault
from skips import HAS_GPU

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
KERNELS = ("rms_norm", "rope", "swiglu", "float8", "attention")
FAULTS = (
    Fault("rms_norm", FORWARD, "tl.sum(h * h, 1, keep_dims=True) / D + eps", "tl.sum(h * h, 1, keep_dims=True) / D"),
    Fault("rms_norm", GRADIENT, "dx = (dn - n * (tl.sum(dn * n, 1, keep_dims=True) / D)) * rstd", "dx = dn * rstd"),
    Fault("rms_norm", GRADIENT, "dweight += dy * n", "dweight = dy * n"),
    Fault("rms_norm", GRADIENT, "dx += dh.to(tl.float32)", "dx += 0.0"),
    Fault(
        "rms_norm",
        EDGE,
        "mask = (rows < num_rows) & (cols < D)\n    h =",
        "mask = (rows < num_rows - 1) & (cols < D)\n    h =",
    ),
    Fault("rms_norm", RAISING, "n = h * rstd", "n = h @ rstd"),
    Fault("rope", FORWARD, "x2 * cos + x1 * sin", "x2 * cos + x1 * sin * 1.01"),
    Fault("rope", GRADIENT, "other=0.0).to(tl.float32) * sign", "other=0.0).to(tl.float32)"),
    Fault("rope", EDGE, "(rows < num_tokens * NUM_HEADS)", "(rows < num_tokens * NUM_HEADS // 4 * 4)"),
    Fault("rope", RAISING, "token, head = (rows // NUM_HEADS)", "token, head = (rows // nothing)"),
    Fault("swiglu", FORWARD, "(activated * up).to(y_ptr", "(gate * up).to(y_ptr"),
    Fault("swiglu", GRADIENT, "sigmoid + activated * (1.0 - sigmoid)", "sigmoid"),
    Fault("swiglu", GRADIENT, "(activated.to(dtype).to(tl.float32) * up).to(dtype)", "activated.to(dtype)"),
    Fault(
        "rms_norm",
        EDGE,
        "tl.store(rstd_ptr + rows, rstd, rows < num_rows)",
        "tl.store(rstd_ptr + rows, rstd, rows < num_rows - 1)",
    ),
    Fault("swiglu", EDGE, "mask = cols < width\n", "mask = cols < width - 1\n"),
    Fault("swiglu", RAISING, "sigmoid = 1.0 /", "sigmoid = nothing /"),
    Fault("float8", FORWARD, "power = (quotient.to", "power = 0.5 * (quotient.to"),
    Fault("float8", FORWARD, "_encode(tl.max(largest, 0", "_encode(tl.min(largest, 0"),
    Fault("float8", FORWARD, "half: tl.constexpr = (1 << (shift - 1)) - 1", "half: tl.constexpr = (1 << (shift - 1))"),
    Fault("float8", EDGE, "(rows < q_stride) & (cols < width)", "(rows < q_stride - 1) & (cols < width)"),
    Fault("float8", EDGE, "mask = (rows < num_rows) & (cols < width)", "mask = (rows < num_rows - 1) & (cols < width)"),
    Fault("float8", EDGE, "x * encode, cols < width, MANTISSA", "x * encode, cols < width - 1, MANTISSA"),
    Fault("float8", RAISING, "scaled = x * encode", "scaled = x @ encode"),
    Fault(
        "attention",
        FORWARD,
        "scale=scaling, enable_gqa",
        "scale=None if scaling is None else 1.02 * scaling, enable_gqa",
    ),
    Fault(
        "attention",
        GRADIENT,
        "q, k, v = (x.transpose(1, 2) for x in (q, k, v))",
        "q, k, v = (x.transpose(1, 2) for x in (q, k, 0.9 * v + 0.1 * v.detach()))",
    ),
    Fault("attention", EDGE, "is_causal=True", "is_causal=q.shape[2] > 2"),
    Fault(
        "attention", RAISING, "for x in (q, k, v))\n    return scaled", "for x in (q, k, nothing))\n    return scaled"
    ),
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_passes(kernel: str, dtype: str, device: torch.device) -> None:
    verdict = try_kernel(kernel, dataclasses.replace(SMALL_SHAPES, dtype=dtype), device)
    assert (verdict.outcome, verdict.reason) == ("passed", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason=HAS_GPU)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_caught(fault: Fault, plant_fault: Callable[[Fault], None], device: torch.device) -> None:
    plant_fault(fault)
    verdict = try_kernel(fault.kernel, SMALL_SHAPES, device)
    assert verdict.outcome == ("raised" if fault.kind == RAISING else "wrong"), verdict
    assert "\n" not in verdict.reason
    assert "PyTorch's own" not in verdict.reason
    assert "PyTorch: " not in verdict.reason


def test_every_kernel_has_faults_of_every_kind() -> None:
    planted = {(fault.kernel, fault.kind) for fault in FAULTS}
    wanted = {(kernel, kind) for kernel in KERNELS for kind in (FORWARD, GRADIENT, EDGE, RAISING)}
    assert planted == wanted - {("float8", GRADIENT)}, "this has no backward"
