"""Rotary embedding of queries and keys, forward and backward: ours, transformers' (plain, compiled), and Liger's.

    python benchmarks/bench_rope.py --out benchmarks/results/cpu

Bytes are counted by the definition in kernels/rope.py: no implementation can read and write fewer.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alttrain.kernels.rope import rope, rope_reference, rotary_tables
from harness.measuring import Case, Run
from harness.rivals import compiled, load, probe
from harness.running import Plan, run_plans
from harness.shapes import Model, models_and_tokens

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
COPYING = "works in place on q, k and their gradients, which must stay here: timed with copies, twice the bytes"
Rotation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def transformers_own(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Do what apply_rotary_pos_emb does; the tables are (1, N, D) in the dtype of `query`."""

    def rotate(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]

    return rotate(query), rotate(key)


def liger(cos: Tensor, sin: Tensor) -> Rotation:
    """Return Liger's rotation, on copies of its inputs and of the incoming gradients."""
    function: Any = load("liger_kernel.ops.rope").LigerRopeFunction

    def rotate(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        query, key = function.apply(query.clone(), key.clone(), cos, sin)
        return query.clone(), key.clone()

    return rotate


def implementations(tables: tuple[Tensor, Tensor], dtype: torch.dtype) -> tuple[dict[str, Rotation], dict[str, str]]:
    """Return every implementation that runs here, each with its own form of the tables, and why others do not."""
    cos, sin = (torch.cat([table, table], dim=-1).to(dtype) for table in tables)
    makers: dict[str, Callable[[], Rotation]] = {
        "ours": lambda: functools.partial(rope, cos=tables[0], sin=tables[1]),
        "torch": lambda: functools.partial(transformers_own, cos=cos, sin=sin),
        "torch.compile": lambda: functools.partial(compiled(transformers_own), cos=cos, sin=sin),
        "liger, copying": lambda: liger(cos, sin),
    }
    return probe(makers)


def run_once(rotation: Rotation, leaves: list[Tensor], upstream: list[Tensor]) -> tuple[Tensor, ...]:
    """Return both results and both gradients."""
    outputs = rotation(*leaves)
    return (*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, upstream))


def make_case(model: str, num_tokens: int, shape: Model, dtype: str, device: str) -> Case:
    """Return the case of one model's heads, number of tokens and dtype."""
    generator = torch.Generator(device).manual_seed(0)
    tensors = [
        torch.randn(1, num_tokens, heads, shape.head_width, device=device, generator=generator)
        .to(DTYPES[dtype])
        .transpose(1, 2)
        for heads in (shape.heads, shape.kv_heads) * 2
    ]
    leaves, upstream = [x.requires_grad_() for x in tensors[:2]], tensors[2:]
    inv_freq = 1.0 / (1e4 ** (torch.arange(0, shape.head_width, 2, device=device).float() / shape.head_width))
    tables = rotary_tables(torch.arange(num_tokens, device=device)[None], inv_freq)

    def reference() -> tuple[Tensor, ...]:
        exact = [x.detach().double().requires_grad_() for x in leaves]
        rotation = functools.partial(rope_reference, cos=tables[0], sin=tables[1])
        return run_once(rotation, exact, [x.double() for x in upstream])

    rotations, absent = implementations(tables, DTYPES[dtype])
    runs: dict[str, Run] = {
        name: functools.partial(run_once, rotation, leaves, upstream) for name, rotation in rotations.items()
    }
    # q and k are read and written forward, and their gradients backward; the tables are read twice.
    copies = 4 * sum(x.nbytes for x in leaves)
    num_bytes = copies + 2 * sum(table.nbytes for table in tables)
    return Case(
        "rope",
        {"model": model, "tokens": num_tokens, "heads": shape.heads, "kv_heads": shape.kv_heads, "dtype": dtype},
        runs,
        reference,
        MAX_ERROR[dtype],
        num_bytes=num_bytes,
        own_bytes={"liger, copying": num_bytes + copies},
        absent=absent,
        notes={"liger, copying": COPYING},
    )


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return every model's heads."""
    dtypes = ["bfloat16"] if device == "cuda" else list(DTYPES)
    return [
        Plan(f"{name} N={tokens} {dtype}", functools.partial(make_case, name, tokens, shape, dtype, device))
        for name, shape, tokens in models_and_tokens(device, tiny=tiny, cpu_tokens=1024)
        for dtype in dtypes
    ]


if __name__ == "__main__":
    sys.exit(run_plans("rope", __doc__, plans, seconds=1.0))
