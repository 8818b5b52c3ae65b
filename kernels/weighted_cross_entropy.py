"""Weighted cross-entropy over rows of logits: one launch computes losses and overwrites the logits by their gradient.

    nll_i = lse_i - x_iy          lse_i = log sum_v exp(x_iv)          loss = sum_i  w_i * nll_i
    dx_iv = g * w_i * (softmax(x_i)_v - [v = y])                       y = y_i,  g = upstream gradient of the loss

N rows of logits, V the vocabulary; VECTOR elements are 16 bytes, LANES = VECTOR * threads, a tile is UNROLL * LANES.
Shapes   x (N, V), bf16, fp16 or fp32, rows may be strided;  y (N,) int64;  w (N,) fp32;  nll, lse (N,) fp32.

Numerics. Everything is fp32, whatever the logits are; a gradient is rounded once, when it is stored. The label's
term is left out of the sum. With m = max_v x_v and r = sum over v != y of exp(x_v - m),

    nll = log1p(r) where x_y = m, else m - x_y + log(r + exp(x_y - m));        dx_y = -g * w * r / (r + exp(x_y - m))

so that nothing cancels if p_y is near 1: a loss of 1e-20 and its gradient keep their digits, where lse - x_y and p - 1
would have none left, and p - 1 of a rounded p may have a relative error of 1.
A row without label (-100) or with weight 0 adds 0, gets a gradient of exact zeros and is not read, unless `every_nll`
is set. A class with a logit of -inf has probability and gradient 0, and as the label it gives a loss of inf. A row with
+inf or NaN, or with nothing but -inf, gives NaN.

Traffic. One program a row. It reads the row once for the sums (each thread has its own running maximum and sum, which
are combined at the end of the row), and again, backwards, to write the gradient: what was read last is still in L1 and
L2. A program's 32 warps fill a multiprocessor, so that no more rows are in work than the caches hold (132 rows of 297
KiB on an H200). So memory is read and written once, N * V elements each. All tiles but the last are unmasked: their
loads and stores are 16 bytes wide for any V, if row starts are 16-byte aligned and the stride is a multiple of 16
elements. The differentiable function reads N * V in its forward, and reads and writes N * V in its backward.

There are no atomics: the same inputs give the same bits; the caller sums nll by span, in a fixed order. Nothing waits
for the device. Values are checked on CPU; on a GPU a label out of range makes its row NaN, or stops the
kernel under TRITON_DEBUG=1.
"""

# Triton's functions have no types.
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from alttrain.kernels.backend import Backend, runs_triton

IGNORE_INDEX = -100
MAX_WARPS = 32
# Elements that a thread loads at a time, 2 vectors in bf16 and 4 in fp32; twice as many would spill its 64 registers.
ELEMENTS_PER_THREAD = 16
# fp32 logits that the PyTorch path works on at a time: few enough for a CPU's cache, or enough to keep a GPU busy.
TILE_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}

_LOG2_E = tl.constexpr(1.4426950408889634)
# The initial running maximum, finite so that (-inf) - (maximum) is -inf and not NaN.
_LOWEST = tl.constexpr(-3.4028234663852886e38)
_IGNORE = tl.constexpr(IGNORE_INDEX)


class RowLosses(NamedTuple):
    """Unweighted nll of the label and log-sum-exp, (N,), fp32; 0 in rows that were not read."""

    nll: Tensor
    lse: Tensor


def weighted_cross_entropy_reference(logits: Tensor, labels: Tensor, loss_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Define the loss sum () and nll (N,) in plain PyTorch, in the dtype of `logits`; any device."""
    has_label = labels != IGNORE_INDEX
    x_y = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    nll = torch.where(has_label, logits.logsumexp(1) - x_y, 0)
    return torch.where(_weighs(labels, loss_weights), nll * loss_weights.to(nll.dtype), 0).sum(), nll


@triton.jit
def _exp(x):
    return tl.exp2(x * _LOG2_E)  # faster than tl.exp, which treats denormal results separately


@triton.jit
def _log1p(x):
    # The error of 1 + x cancels in the quotient (Kahan).
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def _target(y_ptr, w_ptr, row, V):
    # Returns the label (-1 if none or out of range), whether it has weight, whether the row has a label, and w.
    y = tl.load(y_ptr + row)
    w = tl.load(w_ptr + row)
    is_inside = (y >= 0) & (y < V)
    has_label = y != _IGNORE
    tl.device_assert(is_inside | (y == _IGNORE), "a label is out of range")
    return tl.where(is_inside, y, -1).to(tl.int32), has_label & (w != 0.0), has_label, w


@triton.jit
def _columns(UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr):
    vectors = tl.arange(0, UNROLL)[:, None, None] * LANES + tl.arange(0, LANES // VECTOR)[None, :, None] * VECTOR
    return vectors + tl.arange(0, VECTOR)[None, None, :]  # (UNROLL, LANES // VECTOR, VECTOR); a thread has (:, i, :)


@triton.jit
def _add_tile(top, total, x, columns, label, start, TILE: tl.constexpr):
    if (label >= start) & (label < start + TILE):
        x = tl.where(columns == label, float("-inf"), x)
    new_top = tl.maximum(top, tl.max(tl.max(x, 2), 0))  # (LANES // VECTOR,)
    tile_total = tl.sum(tl.sum(_exp(x - new_top[None, :, None]), 2), 0)
    return new_top, total * _exp(top - new_top) + tile_total


@triton.jit
def _sum_row(x_row, label, V, UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr):
    # Returns m, exp(x_label - m), sum of exp(x - m) over the others, and x_label.
    TILE: tl.constexpr = UNROLL * LANES
    columns = _columns(UNROLL, LANES, VECTOR)
    x_label = tl.load(x_row + label, mask=label >= 0, other=float("nan")).to(tl.float32)
    top = tl.full((LANES // VECTOR,), _LOWEST, tl.float32)
    total = tl.zeros((LANES // VECTOR,), tl.float32)
    last = V // TILE * TILE
    for start in range(0, last, TILE):
        x = tl.load(x_row + start + columns, eviction_policy="evict_last").to(tl.float32)
        top, total = _add_tile(top, total, x, start + columns, label, start, TILE)
    if last < V:
        inside = last + columns < V
        x = tl.load(x_row + last + columns, mask=inside, other=float("-inf")).to(tl.float32)
        top, total = _add_tile(top, total, x, last + columns, label, last, TILE)
    m = tl.maximum(tl.max(top, 0), x_label)
    return m, _exp(x_label - m), tl.sum(total * _exp(top - m), 0), x_label


@triton.jit
def _write_tile(x, dx, inside, shift, scale, READS: tl.constexpr):
    gradient = tl.zeros(dx.shape, tl.float32)
    if READS:
        gradient = _exp(tl.load(x, mask=inside).to(tl.float32) - shift) * scale
    tl.store(dx, gradient.to(dx.dtype.element_ty), mask=inside, eviction_policy="evict_first")


@triton.jit
def _write_row(
    x_row, dx_row, shift, scale, label, dx_label, V,
    READS: tl.constexpr, UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    # Writes exp(x - shift) * scale, and dx_label at the label; if not READS, writes zeros without reading the logits.
    TILE: tl.constexpr = UNROLL * LANES
    columns = _columns(UNROLL, LANES, VECTOR)
    tiles = V // TILE
    if tiles * TILE < V:
        last = tiles * TILE + columns
        _write_tile(x_row + last, dx_row + last, last < V, shift, scale, READS)
    for tile in range(tiles):
        part = (tiles - 1 - tile) * TILE + columns
        _write_tile(x_row + part, dx_row + part, None, shift, scale, READS)
    if READS:
        tl.debug_barrier()  # another thread has just written the label's place
        tl.store(dx_row + label, dx_label.to(dx_row.dtype.element_ty), mask=label >= 0)


@triton.jit
def _forward_kernel(
    x_ptr, y_ptr, w_ptr, nll_ptr, lse_ptr, saved_ptr, x_stride, V, GRADIENT: tl.constexpr, EVERY_NLL: tl.constexpr,
    UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    # Writes nll and lse; if GRADIENT, the gradient over the logits, else three numbers a row for the backward, (3, N).
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_stride
    label, weighs, has_label, w = _target(y_ptr, w_ptr, row, V)
    nll, lse, m, total, others = 0.0, 0.0, 0.0, 0.0, 0.0
    if weighs | (EVERY_NLL & has_label):
        m, e_label, others, x_label = _sum_row(x_row, label, V, UNROLL, LANES, VECTOR)
        total = e_label + others
        log_total = tl.where(x_label == m, _log1p(others), tl.log(total))
        nll = log_total + (m - x_label)
        lse = log_total + m
        if GRADIENT & weighs:
            tl.debug_barrier()  # every thread has read the label's logit
            _write_row(x_row, x_row, m, w / total, label, -others / total * w, V, True, UNROLL, LANES, VECTOR)
    tl.store(nll_ptr + row, nll)
    tl.store(lse_ptr + row, lse)
    if not GRADIENT:
        tl.store(saved_ptr + row, m)
        tl.store(saved_ptr + tl.num_programs(0) + row, total)
        tl.store(saved_ptr + 2 * tl.num_programs(0) + row, others)
    elif weighs == 0:
        tl.debug_barrier()  # all threads have finished reading the row, which EVERY_NLL may ask for
        _write_row(x_row, x_row, 0.0, 0.0, label, 0.0, V, False, UNROLL, LANES, VECTOR)


@triton.jit
def _backward_kernel(
    x_ptr, y_ptr, w_ptr, saved_ptr, g_ptr, dx_ptr, x_stride, dx_stride, V,
    UNROLL: tl.constexpr, LANES: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_stride
    dx_row = dx_ptr + row * dx_stride
    label, weighs, _, w = _target(y_ptr, w_ptr, row, V)
    if weighs:
        # Not exp(x - lse): lse is rounded relative to m, and if m is large that error is large in x - lse.
        scale = w * tl.load(g_ptr) / tl.load(saved_ptr + tl.num_programs(0) + row)
        dx_label = -tl.load(saved_ptr + 2 * tl.num_programs(0) + row) * scale
        _write_row(x_row, dx_row, tl.load(saved_ptr + row), scale, label, dx_label, V, True, UNROLL, LANES, VECTOR)
    else:
        _write_row(x_row, dx_row, 0.0, 0.0, label, 0.0, V, False, UNROLL, LANES, VECTOR)


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, loss_weights: Tensor, *, in_place_backward: bool = False, backend: Backend = "auto"
) -> Tensor:
    """Return the weighted sum of the rows' losses, differentiable in `logits`.

    Args:
        logits: scores before softmax, (N, V), bf16, fp16 or fp32; rows may be strided, columns must be adjacent.
        labels: target ids, (N,), int64; -100 where there is none.
        loss_weights: token weights, (N,), fp32.
        in_place_backward: overwrite `logits` by their gradient; nothing else may need them afterwards.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter.

    Returns:
        (), fp32; 0 and still connected where no row has weight. The order of the sum is fixed.

    Raises:
        ValueError: shapes, dtypes, strides or devices disagree; on CPU also where a label is out of range or a weight
            is not finite.
        RuntimeError: a backward runs after one in place, or after the logits have been written to.
    """
    _check(logits, labels, loss_weights, backend)
    loss: Tensor = _WeightedCrossEntropy.apply(logits, labels, loss_weights, in_place_backward, backend)
    return loss


def row_losses(
    logits: Tensor, labels: Tensor, loss_weights: Tensor, *, every_nll: bool = True, backend: Backend = "auto"
) -> RowLosses:
    """Return nll and log-sum-exp of each row, not differentiable; 0 for rows of weight 0 unless `every_nll`.

    Arguments and errors are those of `weighted_cross_entropy`.
    """
    _check(logits, labels, loss_weights, backend)
    nll, lse, _ = _forward(logits.detach(), labels, loss_weights, backend, gradient=False, every_nll=every_nll)
    return RowLosses(nll, lse)


def cross_entropy_gradient_(
    logits: Tensor, labels: Tensor, loss_weights: Tensor, *, every_nll: bool = True, backend: Backend = "auto"
) -> RowLosses:
    """Overwrite `logits` by w * (softmax - onehot), and return what `row_losses` returns for them.

    Rows without label or weight become exact zeros. Arguments and errors are those of `weighted_cross_entropy`.
    """
    _check(logits, labels, loss_weights, backend)
    nll, lse, _ = _forward(logits.detach(), labels, loss_weights, backend, gradient=True, every_nll=every_nll)
    torch.autograd.graph.increment_version(logits)
    return RowLosses(nll, lse)


class _WeightedCrossEntropy(torch.autograd.Function):
    """weighted_cross_entropy; keeps the logits and three numbers a row for the backward."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor, in_place_backward: bool, backend: Backend
    ) -> Tensor:
        nll, _, saved = _forward(logits, labels, weights, backend, gradient=False, every_nll=False)
        ctx.save_for_backward(logits, labels, weights, saved)
        ctx.in_place, ctx.backend = in_place_backward, backend
        return torch.where(_weighs(labels, weights), nll * weights, 0).sum(dtype=torch.float64).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, weights, saved = ctx.saved_tensors
        dx = logits if ctx.in_place else torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        _backward(upstream, saved, logits, labels, weights, dx, ctx.backend)
        if ctx.in_place:
            torch.autograd.graph.increment_version(logits)
        return dx.detach(), None, None, None, None


def _forward(
    logits: Tensor, labels: Tensor, weights: Tensor, backend: Backend, *, gradient: bool, every_nll: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return nll (N,), lse (N,) and numbers for `_backward`, (3, N): m, sum of exp(x - m), that sum less the label's.

    If `gradient`, the logits are overwritten by their gradient and the (3, N) tensor is not filled.
    """
    num_rows, vocabulary = logits.shape
    nll, lse = torch.empty(2, num_rows, dtype=torch.float32, device=logits.device)
    saved = torch.empty(3, num_rows, dtype=torch.float32, device=logits.device)
    if not runs_triton(backend, logits.device):
        _forward_torch(logits, labels, weights, (nll, lse, *saved), gradient, every_nll)
    elif num_rows:
        with torch.cuda.device_of(logits):
            _forward_kernel[(num_rows,)](
                logits, labels.contiguous(), weights.contiguous(), nll, lse, saved, logits.stride(0), vocabulary,
                GRADIENT=gradient, EVERY_NLL=every_nll, **_tile(vocabulary, logits.element_size()),
            )  # fmt: skip
    return nll, lse, saved


def _backward(
    g: Tensor, saved: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, dx: Tensor, backend: Backend
) -> None:
    """Write the gradient to dx (N, V), which may be the logits; g is () fp32 on their device."""
    num_rows, vocabulary = logits.shape
    if not runs_triton(backend, logits.device):
        for part, tile in _parts(logits):
            m, total, others = saved[:, part, None]
            y, scale = labels[part, None].clamp(min=0), weights[part, None] * g / total
            tile.sub_(m).exp_().mul_(scale).scatter_(1, y, -others * scale)
            dx[part] = _zero_weightless_rows(tile, _weighs(labels[part], weights[part]))
    elif num_rows:
        with torch.cuda.device_of(logits):
            _backward_kernel[(num_rows,)](
                logits, labels.contiguous(), weights.contiguous(), saved, g, dx, logits.stride(0), dx.stride(0),
                vocabulary, **_tile(vocabulary, logits.element_size()),
            )  # fmt: skip


def _tile(vocabulary: int, element_size: int) -> dict[str, int]:
    """Return the tile's constants and the options of a launch: as many warps as the row has vectors for, at most 32."""
    vector = 16 // element_size
    warp = 32 * vector
    lanes = min(max(triton.next_power_of_2(vocabulary), warp), MAX_WARPS * warp)
    unroll = ELEMENTS_PER_THREAD // vector if vocabulary > lanes else 1
    # Up to Triton 3.9 fused multiply-add is the default; from 3.10 on it has to be enabled.
    return {"UNROLL": unroll, "LANES": lanes, "VECTOR": vector, "num_warps": lanes // warp, "enable_fp_fusion": True}


def _forward_torch(
    logits: Tensor, labels: Tensor, weights: Tensor, outputs: tuple[Tensor, ...], gradient: bool, every_nll: bool
) -> None:
    """Do what _forward_kernel does, a few rows at a time in fp32; rows without label or weight are read too."""
    for part, tile in _parts(logits, in_place=gradient):
        weighs = _weighs(labels[part], weights[part])
        counts = labels[part] != IGNORE_INDEX if every_nll else weighs
        y, w = labels[part, None].clamp(min=0), weights[part]
        x_y = tile.gather(1, y)[:, 0]
        m = torch.maximum(tile.scatter_(1, y, -torch.inf).amax(1), x_y)
        others = tile.sub_(m[:, None]).exp_().sum(1)
        total = others + (x_y - m).exp()
        log_total = torch.where(x_y == m, others.log1p(), total.log())
        values = (log_total + (m - x_y), log_total + m, m, total, others)
        for output, value in zip(outputs, values, strict=True):
            output[part] = torch.where(counts, value, 0)
        if gradient:
            tile.mul_((w / total)[:, None]).scatter_(1, y, (-others / total * w)[:, None])
            tile = _zero_weightless_rows(tile, weighs)
            if tile.dtype != logits.dtype:
                logits[part] = tile


def _zero_weightless_rows(tile: Tensor, weighs: Tensor) -> Tensor:
    # The pass is seldom needed, but to know that on a GPU the host would have to wait.
    return tile if not tile.is_cuda and bool(weighs.all()) else tile.masked_fill_(~weighs[:, None], 0)


def _parts(logits: Tensor, *, in_place: bool = False) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the rows and their logits in fp32, (C, V): a copy in reused memory, or the logits themselves."""
    num_rows, vocabulary = logits.shape
    step = max(1, TILE_BYTES["cuda" if logits.is_cuda else "cpu"] // (4 * vocabulary))
    scratch = torch.empty(min(step, num_rows), vocabulary, dtype=torch.float32, device=logits.device)
    for first in range(0, num_rows, step):
        rows = logits[first : first + step]
        is_itself = in_place and rows.dtype == torch.float32
        yield slice(first, first + step), rows if is_itself else scratch[: len(rows)].copy_(rows)


def _weighs(labels: Tensor, weights: Tensor) -> Tensor:
    return (labels != IGNORE_INDEX) & (weights != 0)


def _check(logits: Tensor, labels: Tensor, loss_weights: Tensor, backend: Backend) -> None:
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits have shape {tuple(logits.shape)}: they must be (N, V), one row a token, V >= 1.")
    if logits.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise ValueError(f"logits are {logits.dtype}: they must be bfloat16, float16 or float32.")
    row_stride, column_stride = logits.stride()
    num_rows, vocabulary = logits.shape
    if (vocabulary > 1 and column_stride != 1) or (num_rows > 1 and row_stride < vocabulary):
        raise ValueError(f"logits have strides {logits.stride()}: columns must be adjacent and rows must not overlap.")
    for name, tensor, dtype in (("labels", labels, torch.int64), ("loss_weights", loss_weights, torch.float32)):
        if tensor.shape != logits.shape[:1] or tensor.dtype != dtype:
            raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}: it must be ({num_rows},) {dtype}.")
        if tensor.device != logits.device:
            raise ValueError(f"{name} is on {tensor.device}, logits are on {logits.device}: use one device.")
    runs_triton(backend, logits.device)
    if logits.device.type == "cpu":
        _check_values(vocabulary, labels, loss_weights)


def _check_values(vocabulary: int, labels: Tensor, loss_weights: Tensor) -> None:
    wrong = (labels != IGNORE_INDEX) & ((labels < 0) | (labels >= vocabulary))
    if wrong.any():
        index = int(wrong.nonzero()[0, 0])
        raise ValueError(f"labels[{index}] = {int(labels[index])}: a label must be -100 or in [0, {vocabulary}).")
    if not bool(loss_weights.isfinite().all()):
        index = int((~loss_weights.isfinite()).nonzero()[0, 0])
        raise ValueError(f"loss_weights[{index}] = {float(loss_weights[index])}: a weight must be finite.")
