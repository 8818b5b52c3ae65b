"""SwiGLU, forward and backward: ours, transformers' own (plain and compiled), and Liger's.

    python benchmarks/bench_swiglu.py --out benchmarks/results/cpu

Bytes are counted by the definition in kernels/swiglu.py: no implementation can read and write fewer.
"""

import functools
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import silu

from alttrain.kernels.swiglu import swiglu, swiglu_reference
from harness.measuring import Case, Run
from harness.rivals import compiled, load, probe
from harness.running import Plan, run_plans
from harness.shapes import models_and_tokens

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
Activation = Callable[[Tensor, Tensor], Tensor]
# Liger's backward overwrites gate and up, which are leaves here and must stay: it is timed with their copies.
COPYING = "its backward overwrites its inputs: timed with a copy of both, 4 of 12 units of bytes"


def transformers_own(gate: Tensor, up: Tensor) -> Tensor:
    """Return the activated product inside Qwen2MLP."""
    return silu(gate) * up


def liger() -> Activation:
    """Return Liger's activation, on copies of its inputs."""
    function = load("liger_kernel.ops.swiglu").LigerSiLUMulFunction
    return lambda gate, up: function.apply(gate.clone(), up.clone())


def run_once(activation: Activation, leaves: list[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Return the result and both gradients."""
    y = activation(*leaves)
    return (y.detach(), *torch.autograd.grad(y, leaves, upstream))


def make_case(model: str, num_tokens: int, width: int, dtype: str, device: str) -> Case:
    """Return the case of one model's inner width, number of tokens and dtype."""
    shape = (num_tokens, width)
    generator = torch.Generator(device).manual_seed(0)
    *leaves, upstream = (torch.randn(shape, device=device, generator=generator).to(DTYPES[dtype]) for _ in range(3))
    leaves = [x.requires_grad_() for x in leaves]

    def reference() -> tuple[Tensor, ...]:
        return run_once(swiglu_reference, [x.detach().double().requires_grad_() for x in leaves], upstream.double())

    activations, absent = probe(
        {
            "ours": lambda: swiglu,
            "torch": lambda: transformers_own,
            "torch.compile": lambda: compiled(transformers_own),
            "liger, copying": liger,
        }
    )
    runs: dict[str, Run] = {
        name: functools.partial(run_once, function, leaves, upstream) for name, function in activations.items()
    }
    # Forward reads gate and up and writes y; backward reads gate, up and dy and writes two gradients.
    num_bytes = 8 * upstream.nbytes
    return Case(
        "swiglu",
        {"model": model, "tokens": num_tokens, "width": width, "dtype": dtype},
        runs,
        reference,
        MAX_ERROR[dtype],
        num_bytes=num_bytes,
        own_bytes={"liger, copying": num_bytes // 8 * 12},
        absent=absent,
        notes={"liger, copying": COPYING},
    )


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return every model's inner width."""
    dtypes = ["bfloat16"] if device == "cuda" else list(DTYPES)
    return [
        Plan(f"{name} N={tokens} {dtype}", functools.partial(make_case, name, tokens, shape.inner, dtype, device))
        for name, shape, tokens in models_and_tokens(device, tiny=tiny, cpu_tokens=512)
        for dtype in dtypes
    ]


if __name__ == "__main__":
    sys.exit(run_plans("swiglu", __doc__, plans, seconds=1.0))
