"""SwiGLU, forward and backward: ours beside transformers' own, compiled, and Liger.

    python benchmarks/bench_swiglu.py --out benchmarks/results/cpu

Bytes are those of the definition (kernels/swiglu.py): what any implementation has to read and write at least.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from harness import Case, Sizes, run_cases
from torch import Tensor
from torch.nn.functional import silu

from alttrain.kernels.swiglu import swiglu, swiglu_reference

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
# Inner widths of R1-Distill 1.5B, 14B, 8B, 7B and 32B.
WIDTHS = {"1.5B": 8960, "14B": 13824, "8B": 14336, "7B": 18944, "32B": 27648}
Activation = Callable[[Tensor, Tensor], Tensor]


def transformers_own(gate: Tensor, up: Tensor) -> Tensor:
    """Return the product of Qwen2MLP."""
    return silu(gate) * up


def implementations() -> dict[str, Activation]:
    """Return every implementation that runs here."""
    ways: dict[str, Activation] = {"ours": swiglu, "torch": transformers_own}
    if torch.cuda.is_available():
        ways["torch.compile"] = torch.compile(transformers_own)
        try:
            from liger_kernel.ops.swiglu import LigerSiLUMulFunction
        except ImportError:
            return ways
        # Its backward overwrites gate and up, which are leaves here and must stay: it is timed with their copies.
        ways["liger, copying"] = lambda gate, up: LigerSiLUMulFunction.apply(gate.clone(), up.clone())
    return ways


def run_once(activation: Activation, leaves: list[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Return the result and both gradients."""
    y = activation(*leaves)
    return (y.detach(), *torch.autograd.grad(y, leaves, upstream))


def make_case(model: str, num_tokens: int, dtype: str, device: str) -> Case:
    """Return the case of one model's inner width, number of tokens and dtype."""
    shape = (num_tokens, WIDTHS[model])
    generator = torch.Generator(device).manual_seed(0)
    *leaves, upstream = (torch.randn(shape, device=device, generator=generator).to(DTYPES[dtype]) for _ in range(3))
    leaves = [x.requires_grad_() for x in leaves]

    def reference() -> tuple[Tensor, ...]:
        return run_once(swiglu_reference, [x.detach().double().requires_grad_() for x in leaves], upstream.double())

    # Forward reads gate and up and writes y; backward reads gate, up and dy and writes two gradients.
    num_bytes = 8 * upstream.nbytes
    sizes: Sizes = {"model": model, "tokens": num_tokens, "width": shape[1], "dtype": dtype, "bytes": num_bytes}
    ways = {name: functools.partial(run_once, way, leaves, upstream) for name, way in implementations().items()}
    return Case("swiglu", sizes, ways, reference, MAX_ERROR[dtype])


def cases() -> Iterator[Case]:
    """Yield every case of this machine's device, smallest first."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for num_tokens in (2048, 8192, 32768) if device == "cuda" else (512,):
        for dtype in DTYPES:
            for model in WIDTHS:
                yield make_case(model, num_tokens, dtype, device)


if __name__ == "__main__":
    run_cases("swiglu", __doc__, cases())
