"""The kernels around the layers pass their trials, and none that was made wrong on purpose does."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from alttrain.engine.proof.kernels import try_kernel
from alttrain.engine.proof.shapes import SMALL_SHAPES
from planted_faults import EDGE, FORWARD, GRADIENT, RAISING, Fault
from skips import HAS_GPU

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
KERNELS = ("weighted_cross_entropy", "linear_cross_entropy", "span_weights", "adamw")
FAULTS = (
    Fault(
        "weighted_cross_entropy",
        FORWARD,
        "lse = log_total + m\n        if GRADIENT",
        "nll += 1e-4\n        if GRADIENT",
    ),
    Fault("weighted_cross_entropy", GRADIENT, "-others / total * w, V, True", "-others * w, V, True"),
    Fault("weighted_cross_entropy", GRADIENT, "scale = w * tl.load(g_ptr) / tl.load(", "scale = w / tl.load("),
    Fault(
        "weighted_cross_entropy",
        EDGE,
        "    else:\n        _write_row(x_row, dx_row, 0.0",
        "    elif w > 9.0:\n        _write_row(x_row, dx_row, 0.0",
    ),
    Fault("weighted_cross_entropy", EDGE, "    elif weighs == 0:", "    elif weighs == 2:"),
    Fault("weighted_cross_entropy", EDGE, "inside = last + columns < V", "inside = last + columns < V - 1"),
    # The logits of near certain labels: 1 - p has no digit left in fp32.
    Fault("weighted_cross_entropy", EDGE, "tl.where(x_label == m, _log1p(others), tl.log(total))", "tl.log(total)"),
    Fault("weighted_cross_entropy", RAISING, "m = tl.maximum(tl.max(top, 0), x_label)", "m = tl.maximum(top)"),
    Fault(
        "linear_cross_entropy",
        FORWARD,
        "torch.where(weights == 0, 0, nll * weights)",
        "torch.where(weights == 0, 0, nll)",
    ),
    Fault(
        "linear_cross_entropy",
        GRADIENT,
        "dhidden[of_hidden] = logits @ weight",
        "dhidden[of_hidden] = 1.01 * (logits @ weight)",
    ),
    Fault("linear_cross_entropy", GRADIENT, "is_first=first == 0", "is_first=True"),
    Fault(
        "linear_cross_entropy",
        EDGE,
        "range(0, num_rows, chunking.chunk_rows)",
        "range(0, num_rows - 2, chunking.chunk_rows)",
    ),
    Fault("linear_cross_entropy", RAISING, "nll[chunk] = run(", "nll[chunk] = nothing("),
    Fault("span_weights", FORWARD, "w = (w.to(tl.float64) / scale)", "w = (w.to(tl.float64) / (scale + 1e-3))"),
    Fault("span_weights", FORWARD, "tl.where(table > 0, counts, 0.0)", "counts"),
    Fault("span_weights", EDGE, "has_label = t + 1 < end", "has_label = t < end"),
    Fault("span_weights", EDGE, "(document_weight > 0).to(tl.int32)", "(document_weight >= 0).to(tl.int32)"),
    Fault("span_weights", RAISING, "scale = tl.where(document_weight > 0", "scale = tl.where(nothing > 0"),
    Fault("adamw", FORWARD, "m = m + (g - m) * one_minus_beta1", "m = m + g * one_minus_beta1"),
    Fault(
        "adamw", FORWARD, "_store(exp_avg_sq_ptr, i, v, mask, v_random)", "_store(exp_avg_sq_ptr, i, v, mask, m_random)"
    ),
    Fault(
        "adamw",
        FORWARD,
        "high = (bits + 0x8000) >> 16\n        tl.store(param_ptr",
        "high = bits >> 16\n        tl.store(param_ptr",
    ),
    Fault("adamw", FORWARD, "        g = g * tl.load(clip_ptr)", "        pass"),
    Fault("adamw", EDGE, "mask = i < num_elements if MASKED", "mask = i < num_elements - 1 if MASKED"),
    Fault("adamw", RAISING, "update = tl.div_rn(", "update = tl.div_nothing("),
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
    assert planted == wanted - {("span_weights", GRADIENT), ("adamw", GRADIENT)}, "these two have no backward"
