"""The row kernel of the loss, torch's and Liger's: time, share of the memory bandwidth's limit, and peak memory.

    python benchmarks/bench_weighted_cross_entropy.py --out benchmarks/results/cpu

There are two kinds of rows. `gradient` is the call of the fused linear cross-entropy for a chunk: it computes losses
and overwrites the logits by their gradient, which moves 2 * N * V elements at least. `function` is a loss and its
backward, ours against torch's, which moves 3 * N * V at least. Liger has no weights by token: it runs with all weights
1, and so do the others in that case.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alttrain.kernels.weighted_cross_entropy import (
    cross_entropy_gradient_,
    weighted_cross_entropy,
    weighted_cross_entropy_reference,
)
from harness.measuring import Case, Run
from harness.peak_memory import GIB, peak_memory_bytes
from harness.rivals import Absent, compiled, load, probe
from harness.running import Plan, run_plans
from harness.shapes import MODELS, TINY, WEIGHTLESS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
GPU_TOKENS, CPU_TOKENS = 4096, 64  # of one chunk
REFERENCE_ROWS = 512
Inputs = tuple[Tensor, Tensor, Tensor]
InPlace = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Size(NamedTuple):
    """One case's sizes; weights are drawn from [1, 2), or all 1; `weightless` is the share of rows with weight 0."""

    model: str
    num_tokens: int
    vocabulary: int
    dtype: str
    weights: str = "drawn"
    weightless: float = 0.0


def make_inputs(size: Size) -> Inputs:
    """Return logits, labels and weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    logits = 2 * torch.randn(size.num_tokens, size.vocabulary, generator=generator, device=device)
    labels = torch.randint(size.vocabulary, (size.num_tokens,), generator=generator, device=device)
    weights = 1 + torch.rand(size.num_tokens, generator=generator, device=device)
    weights[torch.rand(size.num_tokens, generator=generator, device=device) < size.weightless] = 0
    return logits.to(DTYPES[size.dtype]), labels, torch.ones_like(weights) if size.weights == "one" else weights


def ours_in_place(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Our kernel, called as in the fused linear cross-entropy."""
    losses = cross_entropy_gradient_(logits, labels, weights, every_nll=False)
    return (losses.nll * weights).sum(), logits


def liger_in_place(size: Size) -> InPlace:
    """Return Liger's kernel, for weights that are all 1."""
    if size.weights != "one":
        raise Absent("has no weights by token: measured where all are 1")
    forward = load("liger_kernel.ops.cross_entropy").cross_entropy_forward
    options = (None, -100, 0.0, 0.0, "sum", None, False)

    def run(logits: Tensor, labels: Tensor, _weights: Tensor) -> tuple[Tensor, Tensor]:
        loss, *_, gradient = forward(logits.requires_grad_(), labels, *options)
        return loss, gradient.detach()

    return run


def ours(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Our differentiable loss."""
    return weighted_cross_entropy(logits, labels, weights)


def torch_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Torch's loss in fp32, as transformers calls it."""
    return (torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()


def differentiate(loss: Callable[..., Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return the loss and the gradient of the logits."""
    leaf = inputs[0].detach().requires_grad_()
    loss_sum = loss(leaf, *inputs[1:])
    return loss_sum.detach(), torch.autograd.grad(loss_sum, leaf)[0]


def reference(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return loss and gradient in fp64, some rows at a time."""
    parts = zip(*(torch.split(tensor, REFERENCE_ROWS) for tensor in inputs), strict=True)
    results = [
        differentiate(lambda *tensors: weighted_cross_entropy_reference(*tensors)[0], (logits.double(), *others))
        for logits, *others in parts
    ]
    return torch.stack([loss for loss, _ in results]).sum(), torch.cat([gradient for _, gradient in results])


def in_place(run: InPlace, inputs: Inputs) -> Run:
    """Return a run in place: only its first call gets the logits, later ones its own gradient, at the same cost."""
    slab, first = inputs[0].clone(), [True]

    def call() -> tuple[Tensor, Tensor]:
        result = run(slab.detach(), *inputs[1:])
        kept = (result[0], result[1].clone()) if first[0] else result  # the check reads it, then the timing writes
        first[0] = False
        return kept

    return call


def make_case(kind: str, size: Size) -> Case:
    """Return the case of one kind and size."""
    inputs = make_inputs(size)
    makers: dict[str, Callable[[], Run]]
    if kind == "gradient":
        makers = {
            "ours": lambda: in_place(ours_in_place, inputs),
            "liger": lambda: in_place(liger_in_place(size), inputs),
        }
    else:
        makers = {
            "ours": lambda: functools.partial(differentiate, ours, inputs),
            "torch": lambda: functools.partial(differentiate, torch_loss, inputs),
            "torch.compile": lambda: functools.partial(differentiate, compiled(torch_loss), inputs),
        }
    runs, absent = probe(makers)
    read = int((inputs[2] != 0).sum())  # rows; every row is written
    passes = read + size.num_tokens if kind == "gradient" else 2 * read + size.num_tokens
    return Case(
        f"weighted_cross_entropy, {kind}",
        size._asdict(),
        runs,
        lambda: reference(inputs),
        MAX_ERROR[size.dtype],
        num_bytes=passes * size.vocabulary * DTYPES[size.dtype].itemsize,
        absent=absent,
        notes={"liger": "all weights 1", "torch": "fp32 logits, as transformers makes them"},
    )


def prepare(name: str, size: Size) -> Callable[[], object]:
    """Return a function that runs one differentiable loss, after a first run at a tiny size."""
    loss = {"ours": ours, "torch": torch_loss}[name]
    differentiate(loss, make_inputs(size._replace(num_tokens=8, vocabulary=64)))
    return functools.partial(differentiate, loss, make_inputs(size))


def measure_memory(size: Size) -> list[dict[str, Any]]:
    """Measure the memory that each differentiable loss adds to logits and gradient."""
    rows = []
    gradient = size.num_tokens * size.vocabulary * DTYPES[size.dtype].itemsize
    for name in ("ours", "torch"):
        added = (peak_memory_bytes(prepare, name, size) - gradient) / GIB
        print(f"memory {size} {name}: {added:.3f} GiB beyond logits and gradient", flush=True)
        row = {"case": "weighted_cross_entropy, memory", "sizes": size._asdict(), "implementation": name}
        rows.append(row | {"added_gib": added})
    return rows


def sizes_of(device: str, tiny: bool) -> Iterator[tuple[str, Size]]:
    """Yield kinds and sizes, most telling first."""
    tokens = 48 if tiny else GPU_TOKENS if device == "cuda" else CPU_TOKENS
    model, vocabulary = ("tiny", TINY["tiny"].vocabulary) if tiny else ("R1-7B", MODELS["R1-7B"].vocabulary)
    for dtype in ("float32",) if tiny else ("bfloat16",) if device == "cuda" else DTYPES:
        size = Size(model, tokens, vocabulary, dtype)
        yield "gradient", size
        yield "gradient", size._replace(weights="one")
        for weightless in WEIGHTLESS[1:]:
            yield "gradient", size._replace(weightless=weightless)
        yield "function", size
        yield "memory", size
    if device == "cuda" and not tiny:
        for name in ("R1-8B", "Qwen3-8B"):
            yield "gradient", Size(name, GPU_TOKENS, MODELS[name].vocabulary, "bfloat16", "one")


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return all cases."""
    return [
        Plan(
            f"{kind} {size.model} N={size.num_tokens} {size.dtype} weights={size.weights} weightless={size.weightless}",
            functools.partial(measure_memory, size) if kind == "memory" else functools.partial(make_case, kind, size),
        )
        for kind, size in sizes_of(device, tiny)
    ]


if __name__ == "__main__":
    sys.exit(run_plans("weighted_cross_entropy", __doc__, plans, seconds=2.0))
