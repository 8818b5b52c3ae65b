"""Time of labels, weights and sums of one step: the vectorised path beside one document after another.

    python benchmarks/bench_span_weights.py [--device cuda] [--out results.json]

Both are checked against the definition first. The loop does what a plain collator does, with tensors of one document.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from alttrain.kernels.span_weights import SpanWeights, span_weights, span_weights_reference

NUM_ROLES = 10


def make_inputs(num_tokens: int, mean_length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a step of documents of about `mean_length` tokens, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    cuts = torch.randperm(num_tokens - 1, generator=generator)[: num_tokens // mean_length - 1] + 1
    cu_seqlens = torch.cat([torch.tensor([0]), cuts.sort().values, torch.tensor([num_tokens])]).int()
    input_ids = torch.randint(152064, (num_tokens,), generator=generator)
    span_ids = torch.randint(NUM_ROLES, (num_tokens,), generator=generator, dtype=torch.uint8)
    table = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    return input_ids, span_ids, cu_seqlens, table


def document_loop(input_ids: Tensor, span_ids: Tensor, cu_seqlens: Tensor, table: Tensor) -> SpanWeights:
    """Return what `span_weights(..., per="example")` does, with a handful of tensor operations a document."""
    labels, roles = torch.full_like(input_ids, -100), torch.zeros_like(span_ids)
    weights = torch.zeros(len(input_ids), dtype=torch.float64, device=input_ids.device)
    counts = torch.zeros(len(table), dtype=torch.float64, device=input_ids.device)
    denominator = torch.zeros((), dtype=torch.float64, device=input_ids.device)
    for start, end in pairwise(cu_seqlens.tolist()):
        labels[start : end - 1] = input_ids[start + 1 : end]
        roles[start : end - 1] = span_ids[start + 1 : end]
        own = table.double()[span_ids[start + 1 : end].long()]
        counts += torch.bincount(span_ids[start + 1 : end].long(), minlength=len(table))
        weights[start : end - 1] = torch.where(own.sum() > 0, own / own.sum(), 0.0)
        denominator += own.sum() > 0
    sums = counts * table.double()
    return SpanWeights(labels, roles, weights.float(), denominator, sums.sum(), sums, counts)


def measure(
    implementations: dict[str, Callable[[], SpanWeights]], device: torch.device, samples: int
) -> dict[str, float]:
    """Return the median milliseconds of each, run in turns."""
    times: dict[str, list[float]] = {name: [] for name in implementations}
    for _ in range(samples):
        for name, run in implementations.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values[samples // 10 :]) for name, values in times.items()}


def main() -> None:
    """Check, measure, print the figures as JSON, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)  # as torchrun does; a second thread on a busy core would wait at every operation's barrier
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, 1 thread"
    result = {"device": name, "torch": torch.__version__, "unit": "ms, median", "cases": []}
    for num_tokens, mean_length in ((8192, 170), (65536, 170), (65536, 2048)):
        inputs = [tensor.to(device) for tensor in make_inputs(num_tokens, mean_length)]
        implementations = {
            "vectorised": lambda inputs=inputs: span_weights(*inputs, per="example"),
            "document_loop": lambda inputs=inputs: document_loop(*inputs),
        }
        for run in implementations.values():
            for ours, theirs in zip(run(), span_weights_reference(*inputs, per="example"), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)
        times = measure(implementations, device, args.samples)
        result["cases"].append({"tokens": num_tokens, "mean_length": mean_length, **times})
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
