"""Causal attention within the documents of a pack.

    out_t = sum_s  softmax_s(scaling * q_t . k_s) v_s          over s <= t of the same document

N tokens, S documents, Hq query heads, Hkv key and value heads (Hq a multiple of Hkv), D the head's width.
Shapes   query (N, Hq, D), key and value (N, Hkv, D), views of any strides;  cu_seqlens (S + 1,) int32;  out (N, Hq, D).

No mask is ever built: a dense (N, N) one costs the work of the whole square, and none at all mixes the documents.
CUDA     torch's varlen_attn, which takes the pack as it lies; nothing waits for the device. It is for bf16 and fp16
         and for a D that is a multiple of 8, up to 256. The rest goes as on CPU, and each call waits for the device
         to learn the documents' lengths, and so does everything where `backend` is torch. varlen_attn is
         FlashAttention 2, or on a GPU of capability 9.0 FlashAttention 3 where its package is installed.
CPU      SDPA with is_causal, exact without a mask, in one of two ways (benchmarks/bench_attention.py compares them):
         a call a document on views, which copies nothing and costs about 0.1 ms of calls a document; or one call on
         all documents of like length, right-padded, which costs a copy of q, k, v and out. Padding stands behind the
         tokens, so a causal softmax never sees it, and its gradient is zero. Where documents have more than
         COPY_BYTES on average the first way is faster.
"""

import functools
import importlib.util
import inspect
import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from alttrain.kernels.backend import Backend

# Bytes of q, k, v and out of a mean document above which a copy of them costs more than a call.
COPY_BYTES = 256 << 10
# A bucket's longest document is at most this many times its shortest: at most a quarter of the padded work is wasted.
BUCKET_RATIO = 1.25


def packed_attention_reference(query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scaling: float) -> Tensor:
    """Define the result, (N, Hq, D), for query (N, Hq, D), key and value (N, Hkv, D) of any floating dtype."""
    group = query.shape[1] // key.shape[1]
    outputs = []
    for first, last in itertools.pairwise(cu_seqlens.tolist()):
        q = query[first:last].transpose(0, 1)  # (Hq, T, D)
        k, v = (x[first:last].transpose(0, 1).repeat_interleave(group, dim=0) for x in (key, value))
        scores = scaling * (q @ k.transpose(1, 2))  # (Hq, T, T)
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        outputs.append((scores.masked_fill(future, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    scaling: float | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Return causal attention within each document.

    Args:
        query: queries, (N, Hq, D).
        key: keys, (N, Hkv, D).
        value: values, (N, Hkv, D).
        cu_seqlens: first token of each document, then N; (S + 1,), int32, on the device of `query`.
        max_seqlen: tokens of the longest document, or more.
        scaling: factor of the scores; 1 / sqrt(D) where None.
        backend: `torch` is SDPA on CUDA too, for a GPU on which varlen_attn fails; there is no kernel of Triton's here.

    Returns:
        Out, (N, Hq, D), differentiable in query, key and value.

    Raises:
        ValueError: `cu_seqlens` does not rise from 0 to N. On CUDA in half precision it is not read, so that nothing
            waits for the device.
    """
    if query.is_cuda and backend != "torch" and _varlen_takes(query):
        return _varlen(query, key, value, cu_seqlens, max_seqlen, scaling)
    return _sdpa(query, key, value, _lengths(cu_seqlens, query.shape[0]), scaling)


@functools.cache
def flash_attention_3(device: torch.device) -> str:
    """Let torch's attention run FlashAttention 3 on `device` from now on if it can; return a phrase for it, else "".

    It is the package that has the module flash_attn_interface, and runs on GPUs of capability 9.0 (H100, H200).
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return ""
    if importlib.util.find_spec("flash_attn_interface") is None:
        return ""
    from torch.nn.attention import activate_flash_attention_impl

    try:
        activate_flash_attention_impl("FA3")
    except Exception as error:  # whatever a package raises that was built for another torch
        return f"FlashAttention 2, as FlashAttention 3 is installed and fails ({type(error).__name__}: {error})"
    return "FlashAttention 3"


def _varlen_takes(q: Tensor) -> bool:
    return q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256


def _varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int, scaling: float | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    flash_attention_3(q.device)
    options: dict[str, Any] = {"scale": scaling, "window_size": (-1, 0)}
    if q.shape[1] != k.shape[1] and _varlen_asks_for_gqa():
        options["enable_gqa"] = True
    # Its kernel asks for neighbouring elements within a head, and takes heads and tokens as they are spaced.
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, **options)
    assert isinstance(out, Tensor)  # a pair only where the log-sum-exp is asked for
    return out


@functools.cache
def _varlen_asks_for_gqa() -> bool:
    """Return whether grouped keys and values must be announced: before torch 2.13 they are taken without a word."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def _sdpa(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scaling: float | None) -> Tensor:
    # out is as large as q.
    copied = (2 * q.numel() + k.numel() + v.numel()) * q.element_size()
    if copied > COPY_BYTES * len(lengths):
        return _by_document(q, k, v, lengths, scaling)
    return _by_bucket(q, k, v, lengths, _buckets(lengths), scaling)


def _by_document(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scaling: float | None) -> Tensor:
    documents = zip(*(torch.split(x.unsqueeze(0), lengths, dim=1) for x in (q, k, v)), strict=True)
    return torch.cat([_causal(q, k, v, scaling) for q, k, v in documents], dim=1).squeeze(0)


def _by_bucket(
    q: Tensor, k: Tensor, v: Tensor, lengths: list[int], buckets: list[list[int]], scaling: float | None
) -> Tensor:
    shapes = [(len(bucket), lengths[bucket[0]]) for bucket in buckets]  # (B, T): its first document is its longest
    sizes = [documents * longest for documents, longest in shapes]
    positions = _padded_positions(lengths, buckets, q.device)  # (N,), into all buckets laid one behind another

    def pad(x: Tensor) -> list[Tensor]:
        padded = x.new_zeros(sum(sizes), *x.shape[1:])
        padded[positions] = x
        parts = torch.split(padded, sizes)
        return [
            part.view(*shape, *x.shape[1:]) for part, shape in zip(parts, shapes, strict=True)
        ]  # (B, T, heads, D) each

    outputs = [_causal(*bucket, scaling).flatten(0, 1) for bucket in zip(pad(q), pad(k), pad(v), strict=True)]
    return torch.cat(outputs).index_select(0, positions)


def _buckets(lengths: list[int]) -> list[list[int]]:
    """Return the documents in buckets of like length, the longest first in each."""
    buckets: list[list[int]] = []
    for document in sorted(range(len(lengths)), key=lambda document: -lengths[document]):
        if buckets and lengths[buckets[-1][0]] <= BUCKET_RATIO * lengths[document]:
            buckets[-1].append(document)
        else:
            buckets.append([document])
    return buckets


def _padded_positions(lengths: list[int], buckets: list[list[int]], device: torch.device) -> Tensor:
    """Return where each token of the pack stands once every document is padded to the longest of its bucket."""
    padded_starts = [0] * len(lengths)
    size = 0
    for bucket in buckets:
        for document in bucket:
            padded_starts[document] = size
            size += lengths[bucket[0]]
    counts = torch.tensor(lengths)
    offsets = torch.tensor(padded_starts) - (counts.cumsum(0) - counts)
    return (torch.arange(sum(lengths)) + offsets.repeat_interleave(counts)).to(device)


def _causal(q: Tensor, k: Tensor, v: Tensor, scaling: float | None) -> Tensor:
    # (B, T, heads, D). On CPU grouped heads inside SDPA measure as fast as copies of k and v, and save the copies. On
    # CUDA only the half-precision kernel groups heads: fp32 would fall back to one that keeps all (T, T) scores.
    if q.is_cuda:
        k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for x in (k, v))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True).transpose(1, 2)


def _lengths(cu_seqlens: Tensor, num_tokens: int) -> list[int]:
    """Return the documents' lengths; reads values, which on CPU waits for nothing and on CUDA for the device."""
    starts: list[int] = cu_seqlens.tolist()
    lengths = [last - first for first, last in itertools.pairwise(starts)]
    if not lengths or starts[0] != 0 or starts[-1] != num_tokens or min(lengths) < 1:
        raise ValueError(
            f"cu_seqlens is {starts[:1]} ... {starts[-1:]}: it must rise from 0 to the number of tokens, {num_tokens}."
        )
    return lengths
