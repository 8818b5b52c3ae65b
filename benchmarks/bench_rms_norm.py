"""RMS norm with the residual added, forward and backward: ours, transformers' own (plain and compiled), and Liger's.

    python benchmarks/bench_rms_norm.py --out benchmarks/results/cpu

Bytes are counted by the definition in kernels/rms_norm.py: no implementation can read and write fewer.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alttrain.kernels.rms_norm import add_rms_norm, add_rms_norm_reference
from harness.measuring import Case, Run, Sizes
from harness.rivals import compiled, load, probe
from harness.running import Plan, run_plans
from harness.shapes import models_and_tokens

EPS = 1e-6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
Norm = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def transformers_own(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return Qwen2RMSNorm of residual + x, and residual + x."""
    h = residual + x
    wide = h.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
    return weight * wide.to(h.dtype), h


def liger() -> Norm:
    """Return Liger's fused norm."""
    function = load("liger_kernel.ops.fused_add_rms_norm").LigerFusedAddRMSNormFunction
    return lambda x, residual, weight: function.apply(x, residual, weight, EPS)


def run_once(norm: Norm, leaves: list[Tensor], upstream: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return both results and all gradients."""
    outputs = norm(*leaves)
    return (*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, upstream))


def make_case(shape: str, num_rows: int, width: int, dtype: str, device: str) -> Case:
    """Return the case of one number of rows, width and dtype."""
    generator = torch.Generator(device).manual_seed(0)
    rows = [torch.randn(num_rows, width, device=device, generator=generator).to(DTYPES[dtype]) for _ in range(4)]
    weight = torch.randn(width, device=device, generator=generator).to(DTYPES[dtype])
    leaves = [x.requires_grad_() for x in (*rows[:2], weight)]
    upstream = (rows[2], rows[3])

    def reference() -> tuple[Tensor, ...]:
        exact = [x.detach().double().requires_grad_() for x in leaves]
        norm: Any = functools.partial(add_rms_norm_reference, eps=EPS)
        return run_once(norm, exact, (upstream[0].double(), upstream[1].double()))

    makers: dict[str, Callable[[], Norm]] = {
        "ours": lambda: functools.partial(add_rms_norm, eps=EPS),
        "torch": lambda: transformers_own,
        "torch.compile": lambda: compiled(transformers_own),
        "liger": liger,
    }
    norms, absent = probe(makers)
    runs: dict[str, Run] = {name: functools.partial(run_once, norm, leaves, upstream) for name, norm in norms.items()}
    # Forward reads x and the residual and writes h and y; backward reads h, dy and dh and writes dx.
    num_bytes = 8 * num_rows * width * weight.element_size()
    sizes: Sizes = {"shape": shape, "rows": num_rows, "width": width, "dtype": dtype}
    return Case("add_rms_norm", sizes, runs, reference, MAX_ERROR[dtype], num_bytes=num_bytes, absent=absent)


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return every width, and the q and k heads of Qwen3-8B, which are rows of their own."""
    sizes = [
        (name, tokens, shape.hidden) for name, shape, tokens in models_and_tokens(device, tiny=tiny, cpu_tokens=1024)
    ]
    if not tiny:
        sizes.insert(1, ("heads", sizes[0][1] * 40, 128))
    dtypes = ["bfloat16"] if device == "cuda" else list(DTYPES)
    return [
        Plan(f"{name} rows={rows} {dtype}", functools.partial(make_case, name, rows, width, dtype, device))
        for name, rows, width in sizes
        for dtype in dtypes
    ]


if __name__ == "__main__":
    sys.exit(run_plans("rms_norm", __doc__, plans, seconds=1.0))
