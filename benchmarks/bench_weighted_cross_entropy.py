"""The row kernel of the loss beside torch's own and Liger's: time, share of the memory's limit, and peak memory.

    python benchmarks/bench_weighted_cross_entropy.py --out benchmarks/results/cpu

Two kinds of rows. `gradient` is what the fused linear cross-entropy does to a chunk: losses and the gradient where the
logits were, which moves 2 * N * V elements at least. `function` is a loss and its backward, ours against torch's, which
moves 3 * N * V at least. Liger has no weights by token: it runs with all weights 1, and so do the others beside it.
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from harness import GIB, Case, measure, peak_memory_bytes, write_json
from torch import Tensor

from alttrain.kernels.weighted_cross_entropy import (
    cross_entropy_gradient_,
    weighted_cross_entropy,
    weighted_cross_entropy_reference,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
VOCABULARIES = {"Qwen2.5": 152_064, "Qwen3": 151_936, "Llama 3": 128_256}
Inputs = tuple[Tensor, Tensor, Tensor]


def make_inputs(num_tokens: int, vocabulary: int, dtype: str, weightless: float) -> Inputs:
    """Return logits, labels and weights, of which a share are 0; all are 1 where the share is negative."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    logits = 2 * torch.randn(num_tokens, vocabulary, generator=generator, device=device)
    labels = torch.randint(vocabulary, (num_tokens,), generator=generator, device=device)
    weights = 1 + torch.rand(num_tokens, generator=generator, device=device)
    weights[torch.rand(num_tokens, generator=generator, device=device) < weightless] = 0
    return logits.to(DTYPES[dtype]), labels, torch.ones_like(weights) if weightless < 0 else weights


def ours_in_place(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Ours, as the fused linear cross-entropy calls it."""
    losses = cross_entropy_gradient_(logits, labels, weights, every_nll=False)
    return (losses.nll * weights).sum(), logits


def liger_in_place(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Liger's, all weights 1."""
    ops = importlib.import_module("liger_kernel.ops.cross_entropy")
    options = (None, -100, 0.0, 0.0, "sum", None, False)
    loss, *_, gradient = ops.cross_entropy_forward(logits.requires_grad_(), labels, *options)
    return loss, gradient.detach()


def ours(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Ours, differentiable."""
    return weighted_cross_entropy(logits, labels, weights)


def theirs(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Torch's, in fp32 as transformers does it."""
    return (torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()


def differentiate(loss: Callable[..., Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return the loss and the gradient of the logits."""
    leaf = inputs[0].detach().requires_grad_()
    loss_sum = loss(leaf, *inputs[1:])
    return loss_sum.detach(), torch.autograd.grad(loss_sum, leaf)[0]


def reference(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return loss and gradient in fp64."""
    exact = (inputs[0].double(), *inputs[1:])
    return differentiate(lambda *tensors: weighted_cross_entropy_reference(*tensors)[0], exact)


def in_place(run: Callable[..., tuple[Tensor, Tensor]], inputs: Inputs) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a run that finds the logits fresh only once: afterwards it works on its own gradient, at the same cost."""
    slab, first = inputs[0].clone(), [True]

    def call() -> tuple[Tensor, Tensor]:
        result = run(slab.detach(), *inputs[1:])
        kept = (result[0], result[1].clone()) if first[0] else result  # the check reads it, then the timing writes
        first[0] = False
        return kept

    return call


def measure_case(kind: str, num_tokens: int, vocabulary: int, dtype: str, weightless: float, seconds: float) -> Any:
    """Time one size; rows carry the rate at which the bytes that must move were moved."""
    inputs = make_inputs(num_tokens, vocabulary, dtype, weightless)
    runs: dict[str, Callable[[], tuple[Tensor, Tensor]]]
    if kind == "gradient":
        runs = {"ours": in_place(ours_in_place, inputs)}
        if weightless < 0 and torch.cuda.is_available() and _has_liger():
            runs["liger"] = in_place(liger_in_place, inputs)
    else:
        runs = {"ours": lambda: differentiate(ours, inputs), "torch": lambda: differentiate(theirs, inputs)}
        if torch.cuda.is_available():
            compiled = torch.compile(theirs, dynamic=False)
            runs["torch.compile"] = lambda: differentiate(compiled, inputs)
    sizes: dict[str, int | float | str] = {"num_tokens": num_tokens, "vocabulary": vocabulary, "dtype": dtype}
    sizes["weightless"] = weightless
    case = Case(f"weighted_cross_entropy, {kind}", sizes, runs, lambda: reference(inputs), MAX_ERROR[dtype])
    read = int((inputs[2] != 0).sum())  # rows; every row is written
    passes = read + num_tokens if kind == "gradient" else 2 * read + num_tokens
    num_bytes = passes * vocabulary * DTYPES[dtype].itemsize
    rows = [asdict(row) for row in measure(case, seconds=seconds)]
    for row in rows:
        row |= {"bytes_moved": num_bytes, "gb_per_second": num_bytes / row["median_ms"] / 1e6}
        print(f"    {row['implementation']}: {row['gb_per_second']:.1f} GB/s")
    return rows


def _has_liger() -> bool:
    found = importlib.util.find_spec("liger_kernel") is not None
    if not found:
        print("liger_kernel is not here: its row is left out")
    return found


def prepare(name: str, num_tokens: int, vocabulary: int, dtype: str) -> Callable[[], object]:
    """Return a run of one differentiable loss; it has run at a tiny size."""
    loss = {"ours": ours, "torch": theirs}[name]
    differentiate(loss, make_inputs(8, 64, dtype, 0.0))
    inputs = make_inputs(num_tokens, vocabulary, dtype, 0.0)
    return lambda: differentiate(loss, inputs)


def main() -> None:
    """Measure memory, then time, and write weighted_cross_entropy.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--tokens", type=int, default=4096 if torch.cuda.is_available() else 64, help="N, a chunk's")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing a case")
    parser.add_argument("--models", nargs="+", choices=VOCABULARIES, default=["Qwen2.5"], help="whose vocabularies")
    options = parser.parse_args()
    rows: list[Any] = []
    for dtype in DTYPES:
        for model in options.models:
            vocabulary = VOCABULARIES[model]
            for weightless in (-1.0, 0.0, 0.3, 0.6, 0.9):
                rows += measure_case("gradient", options.tokens, vocabulary, dtype, weightless, options.seconds)
            rows += measure_case("function", options.tokens, vocabulary, dtype, 0.0, options.seconds)
            for name in ("ours", "torch"):
                sizes = {"num_tokens": options.tokens, "vocabulary": vocabulary, "dtype": dtype}
                gradient = options.tokens * vocabulary * DTYPES[dtype].itemsize
                added = (peak_memory_bytes(prepare, name, *sizes.values()) - gradient) / GIB
                print(f"memory {sizes} {name}: {added:.3f} GiB beyond logits and gradient", flush=True)
                row = {"case": "weighted_cross_entropy, memory", "sizes": sizes, "implementation": name}
                rows.append(row | {"added_gib": added})
    write_json(options.out, "weighted_cross_entropy", rows)


if __name__ == "__main__":
    main()
