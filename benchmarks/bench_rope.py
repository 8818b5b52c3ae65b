"""Rotary embedding of queries and keys, forward and backward: ours beside transformers' own, compiled, and Liger.

    python benchmarks/bench_rope.py --out benchmarks/results/cpu

Bytes are those of the definition (kernels/rope.py): what any implementation has to read and write at least.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import Case, Sizes, run_cases
from torch import Tensor

from alttrain.kernels.rope import rope, rope_reference, rotary_tables

WIDTH = 128
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
# Query and key heads of R1-Distill 1.5B, 7B, 8B and 14B; Qwen3-8B has those of the 8B.
HEADS = {"1.5B": (12, 2), "7B": (28, 4), "8B": (32, 8), "14B": (40, 8)}


def transformers_own(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return what apply_rotary_pos_emb does; its tables, (1, N, D) in the dtype of `query`, are given."""

    def rotate(x: Tensor) -> Tensor:
        first, second = x[..., : WIDTH // 2], x[..., WIDTH // 2 :]
        return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]

    return rotate(query), rotate(key)


def implementations(tables: tuple[Tensor, Tensor], dtype: torch.dtype) -> dict[str, Callable[..., Any]]:
    """Return every implementation that runs here, each with tables as it takes them."""
    cos, sin = (torch.cat([table, table], dim=-1).to(dtype) for table in tables)
    ways = {
        "ours": functools.partial(rope, cos=tables[0], sin=tables[1]),
        "torch": functools.partial(transformers_own, cos=cos, sin=sin),
    }
    if torch.cuda.is_available():
        ways["torch.compile"] = functools.partial(torch.compile(transformers_own), cos=cos, sin=sin)
        try:
            from liger_kernel.ops.rope import LigerRopeFunction
        except ImportError:
            return ways
        # It works in place on q, k and both gradients, which must stay here: it is timed with their copies.
        ways["liger, copying"] = lambda query, key: tuple(
            x.clone() for x in LigerRopeFunction.apply(query.clone(), key.clone(), cos, sin)
        )
    return ways


def run_once(rotation: Callable[..., Any], leaves: list[Tensor], upstream: list[Tensor]) -> tuple[Tensor, ...]:
    """Return both results and both gradients."""
    outputs = rotation(*leaves)
    return (*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, upstream))


def make_case(model: str, num_tokens: int, dtype: str, device: str) -> Case:
    """Return the case of one model's heads, number of tokens and dtype."""
    generator = torch.Generator(device).manual_seed(0)
    tensors = [
        torch.randn(1, num_tokens, heads, WIDTH, device=device, generator=generator).to(DTYPES[dtype]).transpose(1, 2)
        for heads in HEADS[model] * 2
    ]
    leaves, upstream = [x.requires_grad_() for x in tensors[:2]], tensors[2:]
    inv_freq = 1.0 / (1e4 ** (torch.arange(0, WIDTH, 2, device=device).float() / WIDTH))
    tables = rotary_tables(torch.arange(num_tokens, device=device)[None], inv_freq)

    def reference() -> tuple[Tensor, ...]:
        exact = [x.detach().double().requires_grad_() for x in leaves]
        rotation = functools.partial(rope_reference, cos=tables[0], sin=tables[1])
        return run_once(rotation, exact, [x.double() for x in upstream])

    # q and k are read and written forward, and their gradients backward; the tables are read twice.
    num_bytes = 4 * sum(x.nbytes for x in leaves) + 2 * sum(table.nbytes for table in tables)
    sizes: Sizes = {"model": model, "tokens": num_tokens, "dtype": dtype, "bytes": num_bytes}
    ways = {
        name: functools.partial(run_once, way, leaves, upstream)
        for name, way in implementations(tables, DTYPES[dtype]).items()
    }
    return Case("rope", sizes, ways, reference, MAX_ERROR[dtype])


def cases() -> Iterator[Case]:
    """Yield every case of this machine's device, smallest first."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for num_tokens in (2048, 8192, 32768) if device == "cuda" else (1024,):
        for dtype in DTYPES:
            for model in HEADS:
                yield make_case(model, num_tokens, dtype, device)


if __name__ == "__main__":
    run_cases("rope", __doc__, cases())
