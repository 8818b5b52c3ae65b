"""Causal attention within the documents of a pack, forward and backward: ours and other implementations.

    python benchmarks/bench_attention.py --out benchmarks/results/cpu

The rule by which kernels/attention.py chooses on CPU rests on these figures. Operations are counted for the lower
triangles of the documents, two products forward and five backward; with a dense mask the whole square is computed.
"""

import functools
import itertools
import math
import random
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from alttrain.kernels import attention
from harness.measuring import Case, Run
from harness.rivals import Absent, need_cuda, probe
from harness.running import Plan, run_plans
from harness.shapes import MODELS, TINY, Model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MAX_ERROR = {"float32": 1e-5, "bfloat16": 2e-2}
# A model as small as the embedded default.
NANO = Model(64, 176, 4, 2, 512, 2, 16)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def cpu_packs() -> dict[str, list[int]]:
    """Return document lengths: AltTrain's mean of about 168, with and without its longest row, and equal short ones."""
    generator = random.Random(0)
    alttrain = [max(20, int(generator.lognormvariate(5.06, 0.35))) for _ in range(24)]
    return {"alttrain": alttrain, "alttrain and 3,000": [*alttrain, 3000], "equal 48": [48] * 85}


def gpu_packs() -> dict[str, list[int]]:
    """Return document lengths of packs of 8,192 tokens: AltTrain's, long ones; and 32,768 tokens of both."""
    generator = random.Random(0)
    short: list[int] = []
    while sum(short) < 8192:
        short.append(max(20, int(generator.lognormvariate(5.06, 0.35))))
    short[-1] -= sum(short) - 8192
    return {"alttrain": short, "4 x 2,048": [2048] * 4, "8,192": [8192], "alttrain, 32k": short * 4}


def one_padded_call(lengths: list[int]) -> Attend:
    """Return one call for all documents, right-padded to the longest."""
    if torch.cuda.is_available() or max(lengths) * len(lengths) >= 4 * sum(lengths):
        raise Absent("measured on CPU only, where padding at most quadruples the tokens")
    longest_first = sorted(range(len(lengths)), key=lambda document: -lengths[document])
    return lambda q, k, v: attention._by_bucket(q, k, v, lengths, [longest_first], None)


def dense_mask(lengths: list[int]) -> Attend:
    """Return one call over the whole pack with an (N, N) mask of the documents."""
    most = 8192 if torch.cuda.is_available() else 4999
    if sum(lengths) > most:
        raise Absent(f"not tried above {most} tokens: its work and its mask grow with their square")
    documents = torch.repeat_interleave(torch.tensor(lengths)).to("cuda" if torch.cuda.is_available() else "cpu")
    mask = (documents[:, None] == documents[None]).tril()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.is_cuda:  # only the half-precision kernel without a mask groups heads
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)

    return attend


def flex(lengths: list[int]) -> Attend:
    """Return torch's compiled flex attention with a block mask."""
    need_cuda("has no backward on CPU")
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    documents = torch.repeat_interleave(torch.tensor(lengths)).cuda()

    def is_seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents[query] == documents[key]) & (query >= key)

    mask = create_block_mask(is_seen, None, None, len(documents), len(documents), device="cuda")
    torch.compiler.reset()
    run = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        out: Tensor = run(q, k, v, block_mask=mask, enable_gqa=True)
        return out[0].transpose(0, 1)

    return attend


def ours(lengths: list[int], cu_seqlens: Tensor) -> Attend:
    """Ours, by its public function."""
    return functools.partial(attention.packed_attention, cu_seqlens=cu_seqlens, max_seqlen=max(lengths))


def implementations(lengths: list[int], cu_seqlens: Tensor) -> tuple[dict[str, Attend], dict[str, str]]:
    """Return every implementation that can take these lengths, and the reasons why the others cannot."""
    makers: dict[str, Callable[[], Attend]] = {
        "ours": lambda: ours(lengths, cu_seqlens),
        "a call a document": lambda: lambda q, k, v: attention._by_document(q, k, v, lengths, None),
        "buckets": lambda: lambda q, k, v: attention._by_bucket(q, k, v, lengths, attention._buckets(lengths), None),
        "flex": lambda: flex(lengths),
        "dense mask": lambda: dense_mask(lengths),
        "one padded call": lambda: one_padded_call(lengths),
    }
    return probe(makers)


def run_once(attend: Attend, inputs: list[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Return the output and the gradients of q, k and v."""
    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, upstream))


def reference(inputs: list[Tensor], upstream: Tensor, lengths: list[int], width: int) -> tuple[Tensor, ...]:
    """Return what `run_once` returns in fp64, by document and group of heads, as (T, T) scores in fp64 are large."""
    groups = inputs[1].shape[1]
    results = [torch.zeros_like(x, dtype=torch.float64) for x in (inputs[0], *inputs)]
    for first, last in itertools.pairwise(itertools.accumulate(lengths, initial=0)):
        bounds = torch.tensor([0, last - first])
        for group in range(groups):

            def part(x: Tensor, document: slice = slice(first, last), group: int = group) -> Tensor:
                heads = x.shape[1] // groups
                return x[document, group * heads : (group + 1) * heads]

            exact = [part(x).detach().double().requires_grad_() for x in inputs]
            attend = functools.partial(
                attention.packed_attention_reference, cu_seqlens=bounds, scaling=1 / math.sqrt(width)
            )
            for whole, tensor in zip(results, run_once(attend, exact, part(upstream).double()), strict=True):
                part(whole).copy_(tensor)
    return tuple(results)


def make_case(pack: str, lengths: list[int], model: str, shape: Model, dtype: str, device: str) -> Case:
    """Return the case of one pack, one model's heads and one dtype."""
    heads, kv_heads, width = shape.heads, shape.kv_heads, shape.head_width
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(sum(lengths), count, width) for count in (heads, kv_heads, kv_heads, heads)]
    *inputs, upstream = (torch.randn(s, generator=generator, device=device).to(DTYPES[dtype]) for s in shapes)
    inputs = [x.requires_grad_() for x in inputs]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    attends, absent = implementations(lengths, cu_seqlens)
    runs: dict[str, Run] = {
        name: functools.partial(run_once, attend, inputs, upstream) for name, attend in attends.items()
    }
    return Case(
        "packed_attention",
        {"pack": pack, "tokens": sum(lengths), "documents": len(lengths), "model": model, "dtype": dtype},
        runs,
        functools.partial(reference, inputs, upstream, lengths, width),
        MAX_ERROR[dtype],
        # Seven products of the lower triangle, two forward and five backward.
        flops=7.0 * heads * width * sum(length**2 for length in lengths),
        # q, k, v read and out written; then those and dout read, and three gradients written.
        num_bytes=(5 * inputs[0].numel() + 6 * inputs[1].numel() + upstream.numel()) * upstream.element_size(),
        absent=absent,
    )


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return every pack, model and dtype of this device, the 7B's AltTrain pack first."""
    if tiny:
        sizes = [("tiny", [5, 1, 20, 9], "tiny", TINY["tiny"], "float32")]
    elif device == "cpu":
        models = {"nano": NANO, "R1-1.5B": MODELS["R1-1.5B"]}
        sizes = [
            (pack, lengths, model, shape, dtype)
            for model, shape in models.items()
            for dtype in DTYPES
            for pack, lengths in cpu_packs().items()
        ]
    else:
        models = {name: MODELS[name] for name in ("R1-7B", "R1-1.5B", "R1-8B", "R1-14B", "Qwen3-32B")}
        sizes = [
            (pack, lengths, model, shape, "bfloat16")
            for model, shape in models.items()
            for pack, lengths in gpu_packs().items()
        ]
    return [
        Plan(f"{model} {pack} {dtype}", functools.partial(make_case, pack, lengths, model, shape, dtype, device))
        for pack, lengths, model, shape, dtype in sizes
    ]


if __name__ == "__main__":
    sys.exit(run_plans("attention", __doc__, plans, seconds=2.0))
