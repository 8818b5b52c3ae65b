"""The fused weighted loss and other implementations: time, compared with the matrix products alone, and memory.

    python benchmarks/bench_linear_cross_entropy.py --out benchmarks/results/cpu

Operations are the three products of the rows that have weight. The yardsticks are these products, for all rows at
once and in chunks as in our loss. `added_gib` is the memory that a loss takes beyond inputs and both gradients.
`forward_gib`, for our loss only, is the memory of its forward beyond inputs, the hidden states' gradient and one fp32
dW. Rows of weight 0 get the label -100 for implementations that can skip such rows. Upstream gradients are 0.1, not 1.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from alttrain.kernels.linear_cross_entropy import (
    SLAB_BYTES,
    weighted_linear_cross_entropy,
    weighted_linear_cross_entropy_reference,
)
from harness.measuring import Case, Run, Yardstick
from harness.peak_memory import GIB, peak_memory_bytes
from harness.predictions import loss_ms
from harness.rival_losses import DTYPES, NOTES, Loss, Size, cut, liger, liger_scaled, trl, unfused
from harness.rivals import compiled, probe
from harness.running import Plan, run_plans
from harness.shapes import HEADLINE_TOKENS, MODELS, TINY, TOKENS, WEIGHTLESS

MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
# Rows for measuring memory on CPU: torch's own loss takes three (N, V) tensors in fp32, 14 GiB.
CPU_MEMORY_TOKENS = 8192
REFERENCE_ROWS = 1024


def fused(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor, rows: Tensor | None = None) -> Tensor:
    """Our loss; projects only `rows`, or all rows if None."""
    return weighted_linear_cross_entropy(hidden, weight, labels, loss_weights, rows=rows).loss_sum


def losses(size: Size, rows: Tensor | None) -> tuple[dict[str, Loss], dict[str, str]]:
    """Return every loss that runs here, and why the others do not."""
    makers: dict[str, Callable[[], Loss]] = {"ours": lambda: fused}
    if rows is not None:
        makers["ours, rows given"] = lambda: functools.partial(fused, rows=rows)
    makers |= {"trl": trl, "torch": lambda: unfused, "torch.compile": lambda: compiled(unfused)}
    reductions = {"liger, by token": "none"} | ({"liger, sum": "sum"} if size.weights == "one" else {})
    for name, reduction in reductions.items():
        makers[name] = functools.partial(liger, size, reduction, same_budget=False)
        makers[f"{name}, our memory"] = functools.partial(liger, size, reduction, same_budget=True)
    if size.dtype == "bfloat16":
        makers["liger, scaled"] = functools.partial(liger_scaled, fallback=False)
    makers["liger, scaled, fallback"] = functools.partial(liger_scaled, fallback=True)
    makers["cut-cross-entropy"] = functools.partial(cut, exact=False)
    makers["cut-cross-entropy, no filter"] = functools.partial(cut, exact=True)
    return probe(makers)


def make_inputs(size: Size) -> tuple[Tensor, ...]:
    """Return hidden states and a weight that need gradients, labels, and weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(size.num_tokens, size.width, generator=generator, device=device)
    weight = torch.randn(size.vocabulary, size.width, generator=generator, device=device).div_(size.width**0.5)
    labels = torch.randint(size.vocabulary, (size.num_tokens,), generator=generator, device=device)
    loss_weights = 1 + torch.rand(size.num_tokens, generator=generator, device=device)
    loss_weights[torch.rand(size.num_tokens, generator=generator, device=device) < size.weightless] = 0
    if size.weights == "one":
        loss_weights.fill_(1)
    leaves = (tensor.to(DTYPES[size.dtype]).requires_grad_() for tensor in (hidden, weight))
    return (*leaves, labels, loss_weights)


def run_once(loss: Loss, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the loss and the gradients of hidden states and weight."""
    loss_sum = loss(*inputs)
    return (loss_sum.detach(), *torch.autograd.grad(loss_sum * 0.1, inputs[:2]))


def reference(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return what `run_once` returns in fp64, some rows at a time, as all fp64 logits at N = 8,192 would be 10 GB."""
    hidden, weight = (tensor.detach().double() for tensor in inputs[:2])
    weight.requires_grad_()
    loss_sum, dhidden, dweight = hidden.new_zeros(()), torch.zeros_like(hidden), torch.zeros_like(weight)
    for rows in torch.split(inputs[3].nonzero()[:, 0], REFERENCE_ROWS):
        part = (hidden[rows].requires_grad_(), weight, *(tensor[rows] for tensor in inputs[2:]))
        results = run_once(lambda *tensors: weighted_linear_cross_entropy_reference(*tensors).loss_sum, part)
        loss_sum += results[0]
        dhidden[rows] = results[1]
        dweight += results[2]
    return loss_sum, dhidden, dweight


def products(inputs: Sequence[Tensor], chunk_rows: int) -> Callable[[], object]:
    """Return a function that computes the three products, `chunk_rows` at a time; several chunks sum dW in fp32."""
    hidden, weight = (tensor.detach() for tensor in inputs[:2])
    slab = weight.new_empty(chunk_rows, weight.shape[0])
    dhidden = torch.empty_like(hidden)
    is_one = chunk_rows == hidden.shape[0]
    dweight = torch.zeros_like(weight, dtype=weight.dtype if is_one or not weight.is_cuda else torch.float32)
    options: dict[str, Any] = {} if dweight.dtype == weight.dtype else {"out_dtype": torch.float32}

    def run() -> None:
        for first in range(0, hidden.shape[0], chunk_rows):
            chunk = slice(first, first + chunk_rows)
            logits = torch.mm(hidden[chunk], weight.t(), out=slab[: len(hidden[chunk])])
            torch.mm(logits, weight, out=dhidden[chunk])
            if is_one:
                torch.mm(logits.t(), hidden, out=dweight)
            else:
                torch.addmm(dweight, logits.t(), hidden[chunk], out=dweight, **options)

    return run


def chunk_rows(size: Size) -> int:
    """Return the rows of a chunk that our memory allows: as few chunks as fit, of equal size."""
    slab = SLAB_BYTES["cuda" if torch.cuda.is_available() else "cpu"]
    most = max(1, slab // (size.vocabulary * DTYPES[size.dtype].itemsize))
    return -(-size.num_tokens // -(-size.num_tokens // most))


def make_case(size: Size) -> Case:
    """Return the case of one size, with the products as yardsticks where every row has weight."""
    inputs = make_inputs(size)
    rows = inputs[3].nonzero()[:, 0] if size.weightless > 0 else None
    implementations, absent = losses(size, rows)
    runs: dict[str, Run] = {name: functools.partial(run_once, loss, inputs) for name, loss in implementations.items()}
    num_rows = size.num_tokens if rows is None else len(rows)
    flops = 6.0 * num_rows * size.width * size.vocabulary
    yardsticks = {}
    if size.weightless == 0:
        yardsticks = {
            "products": Yardstick(products(inputs, size.num_tokens), flops),
            "products, chunked": Yardstick(products(inputs, chunk_rows(size)), flops),
        }
    sizes = size._asdict() | {"rows": num_rows}
    truth = functools.partial(reference, inputs)
    return Case(
        "linear_cross_entropy", sizes, runs, truth, MAX_ERROR[size.dtype], flops,
        yardsticks=yardsticks, absent=absent, notes=NOTES, predicted=predicted(size, num_rows),
    )  # fmt: skip


def predicted(size: Size, rows: int) -> dict[str, float | None]:
    """Return the milliseconds of the losses that the engine's model of time knows, where the GPU is one it knows."""
    if size.model not in MODELS:
        return {}
    model, tokens = MODELS[size.model], size.num_tokens
    by_token = loss_ms(model, tokens, "liger", projects_again=True)
    return {
        "ours": loss_ms(model, tokens, ""),
        "ours, rows given": loss_ms(model, rows, ""),
        "trl": loss_ms(model, rows, "trl"),
        "torch": loss_ms(model, tokens, "logits"),
        "liger, sum": loss_ms(model, tokens, "liger"),
        "liger, by token": by_token,
    }


def prepare(name: str, size: Size, forward_only: bool) -> Callable[[], object]:
    """Return a function that runs one implementation, after a first run at a tiny size."""
    loss = losses(size, None)[0][name]
    if not name.startswith("torch.compile"):
        run_once(loss, make_inputs(size._replace(num_tokens=64, vocabulary=512)))
    inputs = make_inputs(size)
    return functools.partial(loss, *inputs) if forward_only else functools.partial(run_once, loss, inputs)


def measure_memory(size: Size) -> list[dict[str, Any]]:
    """Measure the memory that each loss adds to inputs and gradients."""
    rows: list[dict[str, Any]] = []
    is_cuda = torch.cuda.is_available()
    for name in losses(size, None)[0]:
        dhidden, dweight = (n * size.width * DTYPES[size.dtype].itemsize for n in (size.num_tokens, size.vocabulary))
        added = (peak_memory_bytes(prepare, name, size, False) - dhidden - dweight) / GIB
        row = {"case": "linear_cross_entropy, memory", "sizes": size._asdict(), "implementation": name}
        rows.append(row | {"added_gib": added, "note": NOTES.get(name)})
        print(f"memory {size} {name}: {added:.3f} GiB beyond inputs and gradients", flush=True)
        if name == "ours" and is_cuda:
            peak = peak_memory_bytes(prepare, name, size, True)
            rows[-1]["forward_gib"] = (peak - dhidden - 4 * size.width * size.vocabulary) / GIB
            print(f"    {rows[-1]['forward_gib']:.3f} GiB in the forward beyond its gradients, dW in fp32", flush=True)
    return rows


def sizes_of(device: str, tiny: bool) -> Iterator[Size]:
    """Yield the sizes to time, most telling first."""
    if tiny:
        shape = TINY["tiny"]
        first = Size("tiny", 48, shape.hidden, shape.vocabulary, "float32")
        yield from (first, first._replace(weightless=0.6), first._replace(weights="one"))
        return
    if device == "cpu":
        for dtype in DTYPES:
            first = Size("R1-7B, narrow", 128, 64, MODELS["R1-7B"].vocabulary, dtype)
            yield from (first._replace(weightless=weightless) for weightless in WEIGHTLESS)
        return
    shape = MODELS["R1-7B"]
    first = Size("R1-7B", HEADLINE_TOKENS, shape.hidden, shape.vocabulary, "bfloat16")
    yield first
    yield first._replace(weights="one")
    for weightless in WEIGHTLESS[1:]:
        yield first._replace(weightless=weightless)
    for tokens in TOKENS:
        yield first._replace(num_tokens=tokens)
    for name, shape in list(MODELS.items())[1:]:
        yield Size(name, HEADLINE_TOKENS, shape.hidden, shape.vocabulary, "bfloat16")


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return all cases; memory follows the first size of each dtype."""
    cases: list[Plan] = []
    seen = set()
    for size in sizes_of(device, tiny):
        label = f"{size.model} N={size.num_tokens} {size.dtype} weights={size.weights} weightless={size.weightless}"
        cases.append(Plan(label, functools.partial(make_case, size)))
        if size.dtype not in seen:
            seen.add(size.dtype)
            large = size if tiny or device == "cuda" else size._replace(num_tokens=CPU_MEMORY_TOKENS)
            cases.append(Plan(f"memory N={large.num_tokens} {size.dtype}", functools.partial(measure_memory, large)))
    return cases


if __name__ == "__main__":
    sys.exit(run_plans("linear_cross_entropy", __doc__, plans, seconds=5.0 if torch.cuda.is_available() else 1.0))
