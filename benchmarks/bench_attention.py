"""Ways of attending within the documents of a pack on CPU: the figures behind the rule in kernels/attention.py.

python benchmarks/bench_attention.py --out benchmarks/results/cpu
"""

import functools
import math
import random
from collections.abc import Callable, Iterator

import torch
from harness import Case, Sizes, run_cases
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from alttrain.kernels import attention

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 2e-2}
# (Hq, Hkv, D): a model as small as the embedded default, and R1-Distill 1.5B.
SHAPES = {"nano": (4, 2, 16), "1.5B": (12, 2, 128)}
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def packs() -> dict[str, list[int]]:
    """Return document lengths: AltTrain's mean of about 168, with and without its longest row, and equal short ones."""
    generator = random.Random(0)
    alttrain = [max(20, int(generator.lognormvariate(5.06, 0.35))) for _ in range(24)]
    return {"alttrain": alttrain, "alttrain and 3,000": [*alttrain, 3000], "equal 48": [48] * 85}


def one_padded_call(lengths: list[int]) -> Attend:
    """Right-pad all documents to the longest."""
    longest_first = sorted(range(len(lengths)), key=lambda document: -lengths[document])
    return lambda q, k, v: attention._by_bucket(q, k, v, lengths, [longest_first], None)


def dense_mask(lengths: list[int]) -> Attend:
    """One call over the whole pack with an (N, N) mask of the documents."""
    documents = torch.repeat_interleave(torch.tensor(lengths))
    mask = (documents[:, None] == documents[None]).tril()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)

    return attend


def implementations(lengths: list[int]) -> dict[str, Attend]:
    """Return every way that can take these lengths; the wasteful two only on small packs."""
    ways: dict[str, Attend] = {
        "ours": lambda q, k, v: attention._sdpa(q, k, v, lengths, None),
        "a call a document": lambda q, k, v: attention._by_document(q, k, v, lengths, None),
        "buckets": lambda q, k, v: attention._by_bucket(q, k, v, lengths, attention._buckets(lengths), None),
    }
    if sum(lengths) < 5000:  # seconds a call beyond that
        ways["dense mask"] = dense_mask(lengths)
    if max(lengths) * len(lengths) < 4 * sum(lengths):
        ways["one padded call"] = one_padded_call(lengths)
    return ways


def run_once(attend: Attend, inputs: list[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Return the output and the gradients of q, k and v."""
    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, upstream))


def make_case(pack: str, lengths: list[int], model: str, dtype: str) -> Case:
    """Return the case of one pack, one model's heads and one dtype."""
    heads, kv_heads, width = SHAPES[model]
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(lengths), count, width) for count in (heads, kv_heads, kv_heads, heads)]
    *inputs, upstream = (torch.randn(shape, generator=generator).to(DTYPES[dtype]) for shape in shapes)
    inputs = [x.requires_grad_() for x in inputs]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0)

    def reference() -> tuple[Tensor, ...]:
        exact = [x.detach().double().requires_grad_() for x in inputs]
        attend = functools.partial(
            attention.packed_attention_reference, cu_seqlens=cu_seqlens, scaling=1 / math.sqrt(width)
        )
        return run_once(attend, exact, upstream.double())

    sizes: Sizes = {"pack": pack, "tokens": sum(lengths), "documents": len(lengths), "model": model, "dtype": dtype}
    ways = {
        name: functools.partial(run_once, attend, inputs, upstream) for name, attend in implementations(lengths).items()
    }
    # Seven products of the lower triangle, two forward and five backward.
    flops = 7.0 * heads * width * sum(length**2 for length in lengths)
    return Case("packed_attention", sizes, ways, reference, MAX_ERROR[dtype], flops)


def cases() -> Iterator[Case]:
    """Yield every model shape, dtype and pack."""
    for model in SHAPES:
        for dtype in DTYPES:
            for pack, lengths in packs().items():
                yield make_case(pack, lengths, model, dtype)


if __name__ == "__main__":
    run_cases("attention", __doc__, cases(), seconds=10.0)
