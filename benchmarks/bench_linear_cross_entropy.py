"""The fused weighted loss beside torch's own over kept logits: time, and peak memory at the real vocabulary.

    python benchmarks/bench_linear_cross_entropy.py --out benchmarks/results/cpu

`added_gib` is what the loss takes beyond hidden states, weight and both gradients; the gradients are not counted.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import GIB, Case, Measurement, available_bytes, measure, peak_memory_bytes, write_json
from torch import Tensor

from alttrain.kernels.linear_cross_entropy import weighted_linear_cross_entropy, weighted_linear_cross_entropy_reference

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}
# Torch's own loss takes three (N, V) tensors in fp32, 14 GiB at N = 8,192, and others may use the machine.
UNFUSED_BYTES = 18 * GIB
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fused(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
    """Ours, all rows projected."""
    return weighted_linear_cross_entropy(hidden, weight, labels, loss_weights).loss_sum


def fused_rows(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
    """Ours, told which rows have weight."""
    rows = loss_weights.nonzero()[:, 0]
    return weighted_linear_cross_entropy(hidden, weight, labels, loss_weights, rows=rows).loss_sum


def unfused(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
    """The usual way: logits, in fp32 as transformers makes them, then torch's loss."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    return (torch.nn.functional.cross_entropy(logits, labels, reduction="none") * loss_weights).sum()


LOSSES: dict[str, Loss] = {"ours": fused, "ours, rows given": fused_rows, "torch": unfused}


def make_inputs(num_tokens: int, width: int, vocabulary: int, dtype: str, weightless: float) -> tuple[Tensor, ...]:
    """Return hidden states and a weight that need gradients, labels, and weights of which a share are 0."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(num_tokens, width, generator=generator, device=device)
    weight = torch.randn(vocabulary, width, generator=generator, device=device) / width**0.5
    labels = torch.randint(vocabulary, (num_tokens,), generator=generator, device=device)
    loss_weights = 1 + torch.rand(num_tokens, generator=generator, device=device)
    loss_weights[torch.rand(num_tokens, generator=generator, device=device) < weightless] = 0
    leaves = (tensor.to(DTYPES[dtype]).requires_grad_() for tensor in (hidden, weight))
    return (*leaves, labels, loss_weights)


def run_once(loss: Loss, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the loss and the gradients of hidden states and weight."""
    hidden, weight, labels, loss_weights = inputs
    loss_sum = loss(hidden, weight, labels, loss_weights)
    return (loss_sum.detach(), *torch.autograd.grad(loss_sum * 0.1, (hidden, weight)))


def prepare(name: str, num_tokens: int, width: int, vocabulary: int, dtype: str) -> Callable[[], object]:
    """Return a run of one implementation; it has run at a tiny size."""
    run_once(LOSSES[name], make_inputs(64, width, 512, dtype, 0.0))
    inputs = make_inputs(num_tokens, width, vocabulary, dtype, 0.0)
    return lambda: run_once(LOSSES[name], inputs)


def measure_memory(num_tokens: int, width: int, vocabulary: int, dtype: str) -> list[dict[str, Any]]:
    """Measure what each loss adds; torch's at fewer tokens, and the row says so, where memory is short."""
    rows = []
    gradient_bytes = DTYPES[dtype].itemsize * width * vocabulary
    for name in ("ours", "torch"):
        tokens = num_tokens
        if name == "torch" and not torch.cuda.is_available() and available_bytes() < UNFUSED_BYTES:
            tokens = min(num_tokens, 2048)
        peak = peak_memory_bytes(prepare, name, tokens, width, vocabulary, dtype)
        added = (peak - gradient_bytes - DTYPES[dtype].itemsize * width * tokens) / GIB
        sizes = {"num_tokens": tokens, "width": width, "vocabulary": vocabulary, "dtype": dtype}
        rows.append({"case": "linear_cross_entropy_memory", "sizes": sizes, "implementation": name, "added_gib": added})
        print(f"memory {sizes} {name}: {added:.3f} GiB beyond inputs and gradients", flush=True)
    return rows


def measure_time(num_tokens: int, width: int, vocabulary: int, dtype: str, seconds: float) -> list[Measurement]:
    """Time all losses at each share of rows without weight."""
    rows: list[Measurement] = []
    sizes: dict[str, int | float | str] = {
        "num_tokens": num_tokens,
        "width": width,
        "vocabulary": vocabulary,
        "dtype": dtype,
    }
    for weightless in (0.0, 0.3, 0.6, 0.9):
        inputs = make_inputs(num_tokens, width, vocabulary, dtype, weightless)

        def reference(inputs: tuple[Tensor, ...] = inputs) -> tuple[Tensor, ...]:
            exact = [tensor.detach().double() for tensor in inputs[:2]]
            leaves = tuple(tensor.requires_grad_() for tensor in exact)
            return run_once(
                lambda *args: weighted_linear_cross_entropy_reference(*args).loss_sum, (*leaves, *inputs[2:])
            )

        case = Case(
            "linear_cross_entropy",
            sizes | {"weightless": weightless},
            {name: lambda loss=loss, inputs=inputs: run_once(loss, inputs) for name, loss in LOSSES.items()},  # type: ignore[misc]
            reference,
            MAX_ERROR[dtype],
            flops=6.0 * num_tokens * width * vocabulary,
        )
        rows += measure(case, seconds=seconds)
    return rows


def main() -> None:
    """Measure memory, then time, and write linear_cross_entropy.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--tokens", type=int, default=8192, help="N of the memory measurement")
    parser.add_argument("--time-tokens", type=int, default=512, help="N of the timing")
    parser.add_argument("--width", type=int, default=64, help="H")
    parser.add_argument("--vocabulary", type=int, default=152_064, help="V")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing a case")
    options = parser.parse_args()
    rows: list[Any] = []
    for dtype in DTYPES:
        rows += measure_memory(options.tokens, options.width, options.vocabulary, dtype)
        rows += measure_time(options.time_tokens, options.width, options.vocabulary, dtype, options.seconds)
    write_json(options.out, "linear_cross_entropy", rows)


if __name__ == "__main__":
    main()
