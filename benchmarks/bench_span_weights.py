"""Labels, weights and sums of one step: our kernel and a loop over documents, as in a plain collator.

    python benchmarks/bench_span_weights.py --out benchmarks/results/cpu

All are checked against the definition first. `torch` is our PyTorch path on CUDA; on CPU `ours` takes that path itself.
"""

import functools
import sys
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from alttrain.kernels.span_weights import SpanWeights, span_weights, span_weights_reference
from harness.measuring import Case, Run, Sizes
from harness.running import run_cases

NUM_ROLES = 10
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def make_inputs(num_tokens: int, mean_length: int, device: str) -> Inputs:
    """Return a step of documents of about `mean_length` tokens, with the AltTrain recipes' table."""
    generator = torch.Generator().manual_seed(0)
    cuts = torch.randperm(num_tokens - 1, generator=generator)[: num_tokens // mean_length - 1] + 1
    cu_seqlens = torch.cat([torch.tensor([0]), cuts.sort().values, torch.tensor([num_tokens])]).int()
    input_ids = torch.randint(152064, (num_tokens,), generator=generator)
    span_ids = torch.randint(NUM_ROLES, (num_tokens,), generator=generator, dtype=torch.uint8)
    table = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    return input_ids.to(device), span_ids.to(device), cu_seqlens.to(device), table.to(device)


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


def make_case(num_tokens: int, mean_length: int, device: str) -> Case:
    """Return the case of one number of tokens and mean length of a document, weighted per example."""
    inputs = make_inputs(num_tokens, mean_length, device)
    runs: dict[str, Run] = {
        "ours": functools.partial(span_weights, *inputs, per="example"),
        "document loop": functools.partial(document_loop, *inputs),
    }
    if device == "cuda":
        runs["torch"] = functools.partial(span_weights, *inputs, per="example", backend="torch")
    # Any implementation reads 9 bytes a token and writes 13.
    sizes: Sizes = {"tokens": num_tokens, "documents": inputs[2].numel() - 1, "bytes": 22 * num_tokens}
    reference = functools.partial(span_weights_reference, *inputs, per="example")
    notes = {"document loop": "reads the bounds of the documents on the host, for which it waits"}
    return Case("span_weights", sizes, runs, reference, max_error=1e-7, notes=notes)


def cases() -> Iterator[Case]:
    """Yield every case of this machine's device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for num_tokens, mean_length in ((8192, 170), (65536, 170), (65536, 2048)):
        yield make_case(num_tokens, mean_length, device)


if __name__ == "__main__":
    torch.set_num_threads(1)  # as torchrun does; a second thread on a busy core would wait at every operation's barrier
    sys.exit(run_cases("span_weights", __doc__, cases(), seconds=1.0))
