"""Rotary position embedding of queries and keys in one pass, and the tables of angles that all layers share.

    angle_nj = position_n * inv_freq_j            c = scaling * cos(angle)      s = scaling * sin(angle)
    x = (x1, x2), its halves:    y1 = x1 * c - x2 * s        y2 = x2 * c + x1 * s          (rotate_half of transformers)
                                dx1 = dy1 * c + dy2 * s     dx2 = dy2 * c - dy1 * s        the same with -s

B packs of N tokens (B is 1 in training), Hq query and Hkv key heads of width D.
Shapes   query (B, Hq, N, D) and key (B, Hkv, N, D), fp32 or bf16, of any strides with D side by side: transformers
         passes transposed views of (B, N, H, D);  c, s (B or 1, N, D / 2).
Numerics angles, their cosines and the rotation are fp32; the result is rounded once. transformers rounds c, s, both
         products and their sum. All layers share one table, so that sines and cosines are computed once a step.
Memory   only the tables are kept for the backward, which needs neither x nor y.
Traffic  reads and writes B * N * (Hq + Hkv) * D elements once, each way; the tables, 4 * N * D bytes, are read from
         memory once and then from the cache, by every head.
In place `rope` writes new tensors: autograd does not let a function change two views, as query and key are, and return
         both; with one call for each, it would copy the whole gradient of their bases. The new tensors cost no traffic,
         and the memory of one query and key until the projections' outputs are freed. `rope_` writes into the memory of
         query and key: afterwards only its results may be read.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from alttrain.kernels.backend import Backend, runs_triton

# Elements of one half of a program's tile: 8 a thread with 4 warps, a 16-byte access of bf16.
TILE = 1024
WARPS = 4
# Elements that the PyTorch path works on at a time: few enough to stay in a CPU's cache between operations, or enough
# to keep a GPU busy.
TORCH_TILE = {"cpu": 1 << 17, "cuda": 1 << 24}


def rope_reference(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Define `rope` in plain PyTorch; any floating dtype, in which everything is computed."""

    def rotate(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        c, s = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)  # (B or 1, 1, N, D / 2)
        return torch.cat([first * c - second * s, second * c + first * s], dim=-1)

    return rotate(query), rotate(key)


@torch.no_grad()
def rotary_tables(position_ids: Tensor, inv_freq: Tensor, attention_scaling: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of every position's angles, fp32, (B, N, D / 2).

    Args:
        position_ids: positions within their documents, (B, N), integers.
        inv_freq: angles of position 1, (D / 2,), fp32; transformers' rotary modules have it.
        attention_scaling: a factor of both, 1 except for YaRN and similar types; the rotary modules have it too.

    Raises:
        ValueError: shapes, dtypes or devices are not as above.
    """
    if position_ids.dim() != 2 or position_ids.is_floating_point():
        raise ValueError(f"position_ids is {_describe(position_ids)}: it must be (B, N) integers.")
    # In bf16 position 8,000 would be off by up to 16.
    if inv_freq.dim() != 1 or inv_freq.dtype != torch.float32:
        raise ValueError(f"inv_freq is {_describe(inv_freq)}: it must be (D / 2,) torch.float32.")
    if inv_freq.device != position_ids.device:
        raise ValueError(f"inv_freq is on {inv_freq.device}, position_ids on {position_ids.device}: use one device.")
    angles = position_ids[..., None].float() * inv_freq  # (B, N, D / 2)
    return angles.cos().mul_(attention_scaling), angles.sin().mul_(attention_scaling)


def rope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Return `query` and `key` rotated by their positions' angles, differentiable in both.

    Args:
        query: (B, Hq, N, D), fp32 or bf16, D even.
        key: (B, Hkv, N, D), of the same dtype.
        cos: cosines, (B or 1, N, D / 2), fp32 or of the dtype of `query`, from `rotary_tables`; or as transformers
            makes them, (B or 1, N, D), whose second half, a copy of the first, is not read.
        sin: sines, of the same shape and dtype.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter.

    Returns:
        Two new tensors with the shapes, dtype and memory layout of `query` and `key`.

    Raises:
        ValueError: shapes, dtypes, devices or strides are not as above.
    """
    _check(query, key, cos, sin)
    return _apply(query, key, cos, sin, False, backend)


def rope_(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Do what `rope` does in the memory of `query` and `key`; afterwards only the results may be read.

    Autograd raises an error if the old values were saved for a backward. Linear projections and `rms_norm` do not save
    their outputs; selective checkpointing does, so it needs `rope`. The backward writes new tensors, because the
    incoming gradients may be shared.

    Args:
        query: as in `rope`; not a leaf that requires a gradient.
        key: as in `rope`, not overlapping `query`.
        cos: as in `rope`.
        sin: as in `rope`.
        backend: as in `rope`.

    Raises:
        ValueError: as in `rope`; or an input is a leaf that requires a gradient.
    """
    _check(query, key, cos, sin)
    for name, tensor in (("query", query), ("key", key)):
        if tensor.is_leaf and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{name} is a leaf that requires a gradient: it cannot be overwritten. Use rope.")
    return _apply(query, key, cos, sin, True, backend)


def _apply(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, in_place: bool, backend: Backend
) -> tuple[Tensor, Tensor]:
    half = query.shape[-1] // 2
    cos, sin = cos[..., :half], sin[..., :half]
    use_triton = runs_triton(backend, query.device)
    rotated: tuple[Tensor, Tensor] = _Rope.apply(query, key, cos, sin, in_place, use_triton)  # type: ignore[no-untyped-call]
    return rotated


class _Rope(torch.autograd.Function):
    """The rotation; keeps the tables for the backward."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, in_place: bool, use_triton: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.use_triton = use_triton
        outputs = (query.detach(), key.detach()) if in_place else (torch.empty_like(query), torch.empty_like(key))
        _rotate(query, key, *outputs, cos, sin, 1.0, use_triton)
        if in_place:
            torch.autograd.graph.increment_version((query, key))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dquery: Tensor, dkey: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        dquery, dkey = (x if x.stride(-1) == 1 else x.contiguous() for x in (dquery, dkey))
        gradients = torch.empty_like(dquery), torch.empty_like(dkey)
        _rotate(dquery, dkey, *gradients, cos, sin, -1.0, ctx.use_triton)
        return *gradients, None, None, None, None


def _rotate(
    query: Tensor,  # (B, Hq, N, D)
    key: Tensor,  # (B, Hkv, N, D)
    query_out: Tensor,
    key_out: Tensor,
    cos: Tensor,  # (B or 1, N, D / 2)
    sin: Tensor,
    sign: float,
    use_triton: bool,
) -> None:
    """Write the rotation of query and key, by the opposite angles where sign is -1; outputs may be the inputs."""
    if not use_triton:
        _rotate_torch(query, query_out, cos, sin, sign)
        _rotate_torch(key, key_out, cos, sin, sign)
        return
    batch, num_query_heads, num_tokens, width = query.shape
    num_key_heads = key.shape[1]
    block_half = triton.next_power_of_2(width // 2)
    rows = max(1, TILE // block_half)
    num_query_programs = triton.cdiv(num_tokens * num_query_heads, rows)
    num_programs = num_query_programs + triton.cdiv(num_tokens * num_key_heads, rows)
    if batch * num_programs == 0:
        return
    tensors = (query, key, query_out, key_out)
    strides = [stride for tensor in tensors for stride in tensor.stride()[:3]]
    table_strides = (0 if cos.shape[0] == 1 else cos.stride(0), cos.stride(1))
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        _rotate_kernel[(num_programs, batch)](
            *tensors, cos, sin, *strides, *table_strides, num_tokens, num_query_programs, sign,
            NUM_QUERY_HEADS=num_query_heads, NUM_KEY_HEADS=num_key_heads,
            HALF=width // 2, ROWS=rows, BLOCK_HALF=block_half, num_warps=WARPS,
        )  # fmt: skip


def _rotate_torch(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, sign: float) -> None:
    """Rotate x (B, H, N, D) into out, some tokens at a time."""
    batch, num_heads, num_tokens, width = x.shape
    step = max(1, TORCH_TILE["cuda" if x.is_cuda else "cpu"] // max(1, batch * num_heads * width))
    for first in range(0, num_tokens, step):
        part = slice(first, first + step)
        x1, x2 = x[:, :, part].float().chunk(2, dim=-1)
        c, s = cos[:, None, part].float(), sign * sin[:, None, part].float()  # (B or 1, 1, n, D / 2)
        y1 = (x1 * c).addcmul_(x2, s, value=-1)
        y2 = (x2 * c).addcmul_(x1, s)
        out[:, :, part, : width // 2] = y1
        out[:, :, part, width // 2 :] = y2


@triton.jit  # type: ignore[untyped-decorator]
def _rotate_rows(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, cos_ptr, sin_ptr, x_head_stride, x_stride, y_head_stride, y_stride, table_stride,
    program, num_tokens, sign,
    NUM_HEADS: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):  # fmt: skip
    # A row is one head of one token. There are fewer than 2^31 rows, but element offsets may be larger: int64.
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]  # (ROWS, 1)
    cols = tl.arange(0, BLOCK_HALF)[None, :]  # (1, BLOCK_HALF)
    mask = (rows < num_tokens * NUM_HEADS) & (cols < HALF)
    token, head = (rows // NUM_HEADS).to(tl.int64), (rows % NUM_HEADS).to(tl.int64)
    x = x_ptr + token * x_stride + head * x_head_stride + cols  # (ROWS, BLOCK_HALF)
    y = y_ptr + token * y_stride + head * y_head_stride + cols
    x1 = tl.load(x, mask, other=0.0).to(tl.float32)
    x2 = tl.load(x + HALF, mask, other=0.0).to(tl.float32)
    cos = tl.load(cos_ptr + token * table_stride + cols, mask, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + token * table_stride + cols, mask, other=0.0).to(tl.float32) * sign
    # Both halves are loaded before the first store, as the output may be the input.
    tl.store(y, (x1 * cos - x2 * sin).to(y_ptr.dtype.element_ty), mask)
    tl.store(y + HALF, (x2 * cos + x1 * sin).to(y_ptr.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["num_tokens", "num_query_programs"])  # type: ignore[untyped-decorator]
def _rotate_kernel(  # type: ignore[no-untyped-def]
    query_ptr, key_ptr, query_out_ptr, key_out_ptr, cos_ptr, sin_ptr,
    query_batch_stride, query_head_stride, query_stride, key_batch_stride, key_head_stride, key_stride,
    query_out_batch_stride, query_out_head_stride, query_out_stride,
    key_out_batch_stride, key_out_head_stride, key_out_stride,
    table_batch_stride, table_stride, num_tokens, num_query_programs, sign,
    NUM_QUERY_HEADS: tl.constexpr, NUM_KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr, ROWS: tl.constexpr, BLOCK_HALF: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    cos_ptr += batch * table_batch_stride
    sin_ptr += batch * table_batch_stride
    if program < num_query_programs:
        _rotate_rows(
            query_ptr + batch * query_batch_stride, query_out_ptr + batch * query_out_batch_stride, cos_ptr, sin_ptr,
            query_head_stride, query_stride, query_out_head_stride, query_out_stride, table_stride,
            program, num_tokens, sign, NUM_QUERY_HEADS, HALF, ROWS, BLOCK_HALF,
        )  # fmt: skip
    else:
        _rotate_rows(
            key_ptr + batch * key_batch_stride, key_out_ptr + batch * key_out_batch_stride, cos_ptr, sin_ptr,
            key_head_stride, key_stride, key_out_head_stride, key_out_stride, table_stride,
            program - num_query_programs, num_tokens, sign, NUM_KEY_HEADS, HALF, ROWS, BLOCK_HALF,
        )  # fmt: skip


def _check(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> None:
    for name, x in (("query", query), ("key", key)):
        if x.dim() != 4 or x.shape[3] == 0 or x.shape[3] % 2 or (x.stride(3) != 1 and x.numel()):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)} and strides {x.stride()}: it must be (B, H, N, D), D even and its "
                "elements side by side."
            )
    if query.shape[::2] != key.shape[::2] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query has shape {tuple(query.shape)}, key {tuple(key.shape)}: they may differ in their heads only."
        )
    batch, _, num_tokens, width = query.shape
    shapes = {(b, num_tokens, d) for b in (1, batch) for d in (width // 2, width)}
    if cos.shape not in shapes or sin.shape != cos.shape or cos.stride() != sin.stride() or cos.stride(2) != 1:
        raise ValueError(
            f"cos has shape {tuple(cos.shape)}, sin {tuple(sin.shape)}: both must be ({batch}, {num_tokens}, "
            f"{width // 2}), or with 1 for {batch} or {width} for {width // 2}, contiguous."
        )
    if query.dtype not in (torch.float32, torch.bfloat16) or key.dtype != query.dtype:
        raise ValueError(f"query is {query.dtype}, key is {key.dtype}: both must be float32, or both bfloat16.")
    if cos.dtype != sin.dtype or cos.dtype not in (torch.float32, query.dtype):
        rule = "float32" if query.dtype == torch.float32 else "float32, or both bfloat16 as the query is"
        raise ValueError(f"cos is {cos.dtype}, sin is {sin.dtype}: both must be {rule}.")
    devices = {str(tensor.device) for tensor in (query, key, cos, sin)}
    if len(devices) > 1:
        raise ValueError(f"inputs are on {', '.join(sorted(devices))}: they must be on one device.")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"
