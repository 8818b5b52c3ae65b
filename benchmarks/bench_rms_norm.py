"""RMS norm with the residual added, forward and backward: ours beside transformers' own, compiled, and Liger.

    python benchmarks/bench_rms_norm.py --out benchmarks/results/cpu

Bytes are those of the definition (kernels/rms_norm.py): what any implementation has to read and write at least.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import Case, Sizes, run_cases
from torch import Tensor

from alttrain.kernels.rms_norm import add_rms_norm, add_rms_norm_reference

EPS = 1e-6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
# Width and rows a token: heads of Qwen3-8B (q and k), and the widths of R1-Distill 1.5B, 7B, 8B and 14B.
SHAPES = {"heads": (128, 40), "1.5B": (1536, 1), "7B": (3584, 1), "8B": (4096, 1), "14B": (5120, 1)}
Norm = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def transformers_own(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return what Qwen2RMSNorm makes of residual + x, and that sum."""
    h = residual + x
    wide = h.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
    return weight * wide.to(h.dtype), h


def implementations() -> dict[str, Norm]:
    """Return every implementation that runs here."""
    ways: dict[str, Norm] = {"ours": functools.partial(add_rms_norm, eps=EPS), "torch": transformers_own}
    if torch.cuda.is_available():
        ways["torch.compile"] = torch.compile(transformers_own)
        try:
            from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction as Liger
        except ImportError:
            return ways
        ways["liger"] = lambda x, residual, weight: Liger.apply(x, residual, weight, EPS)
    return ways


def run_once(norm: Norm, leaves: list[Tensor], upstream: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return both results and all gradients."""
    outputs = norm(*leaves)
    return (*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, upstream))


def make_case(shape: str, num_tokens: int, dtype: str, device: str) -> Case:
    """Return the case of one width, number of tokens and dtype."""
    width, rows_a_token = SHAPES[shape]
    num_rows = num_tokens * rows_a_token
    generator = torch.Generator(device).manual_seed(0)
    rows = [torch.randn(num_rows, width, device=device, generator=generator).to(DTYPES[dtype]) for _ in range(4)]
    weight = torch.randn(width, device=device, generator=generator).to(DTYPES[dtype])
    leaves = [x.requires_grad_() for x in (*rows[:2], weight)]
    upstream = (rows[2], rows[3])

    def reference() -> tuple[Tensor, ...]:
        exact = [x.detach().double().requires_grad_() for x in leaves]
        norm: Any = functools.partial(add_rms_norm_reference, eps=EPS)
        return run_once(norm, exact, (upstream[0].double(), upstream[1].double()))

    # Forward reads x and the residual and writes h and y; backward reads h, dy and dh and writes dx.
    num_bytes = 8 * num_rows * width * weight.element_size()
    sizes: Sizes = {"shape": shape, "rows": num_rows, "width": width, "dtype": dtype, "bytes": num_bytes}
    ways = {name: functools.partial(run_once, way, leaves, upstream) for name, way in implementations().items()}
    return Case("add_rms_norm", sizes, ways, reference, MAX_ERROR[dtype])


def cases() -> Iterator[Case]:
    """Yield every case of this machine's device, smallest first."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for num_tokens in (2048, 8192, 32768) if device == "cuda" else (1024,):
        for dtype in DTYPES:
            for shape in SHAPES:
                yield make_case(shape, num_tokens, dtype, device)


if __name__ == "__main__":
    run_cases("rms_norm", __doc__, cases())
