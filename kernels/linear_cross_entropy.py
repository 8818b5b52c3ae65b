"""Weighted linear cross-entropy: from hidden states to the loss and both gradients, without keeping (N, V) logits.

    loss = sum_i  w_i * nll_i              nll_i = log sum_v exp(x_iv) - x_iy        x_i = W h_i,  y = y_i
    dx_i = w_i * (softmax(x_i) - onehot(y_i))          dh_i = W^T dx_i               dW = sum_i dx_i h_i^T

N rows of hidden states, R of them projected, H their width, V the vocabulary, P spans, C rows in a chunk.
Shapes   h (N, H) and W (V, H), both fp32 or both bf16;  y (N,) int64;  w (N,) fp32;  loss () fp32.

One pass. Both gradients are proportional to the upstream gradient g of the loss. So the forward computes dh and dW for
g = 1 while a chunk's logits are in memory, and the backward multiplies them by g. This takes three products of 2 R H V
operations each, where recomputing the logits in the backward takes four; and the backward does not need W, which under
ZeRO-3 would have to be gathered a second time.

torch.mm computes the products (by cuBLAS on CUDA); between them, the kernel of `weighted_cross_entropy.py` turns the
chunk's logits into losses and their gradient, in one launch.

Memory. The logits of a chunk of C rows stand in one buffer, the slab (C, V), and are overwritten by their gradient. The
slab's rows are padded to a multiple of PAD elements, so that each starts at a 16-byte boundary. Beside the two
gradients there are the slab and, in bf16, dW's fp32 accumulator. SLAB_BYTES limits C. Every chunk reads and writes dW
again, so there are as few chunks as fit, of equal size.

Numerics. Softmax, nll and (softmax - onehot) * w are fp32; the last is rounded to W's dtype only as an operand of the
two products. dW is summed over chunks in fp32: on CUDA the product adds to the accumulator itself; on CPU each chunk's
bf16 product is rounded before it is added. The fp32 sum is multiplied by g before it is rounded. Sums over rows are
fp64. Every sum has a fixed order: the same inputs give the same bits.

FLOPs    6 R H V in three products.
Traffic  the slab: 3 R V elements, as one product writes it and two read it, and 2 R V for the kernel between them. h
         and dh: a few R H. W is read twice per chunk; dW, in fp32, is written by the first chunk and read and written
         by each of the others, which is why chunks are large.

Rows outside `rows` cost nothing in any product. A row without label (-100) or with weight 0 adds exactly 0. A row with
a label and weight 0 counts in `nll_sums`, so that evaluation can measure roles that are not trained. Nothing here
waits for the device: values are checked on CPU, and by the kernel under TRITON_DEBUG=1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from alttrain.kernels.backend import Backend
from alttrain.kernels.weighted_cross_entropy import IGNORE_INDEX, cross_entropy_gradient_, row_losses

# Logits of one chunk: at V = 152,064 and bf16 4,402 rows on CUDA, 1,765 on CPU.
SLAB_BYTES = {"cuda": 1280 << 20, "cpu": 512 << 20}
# Elements that a row of the slab is padded to: 32 bytes in bf16.
PAD = 16
# The rows of a chunk are a multiple of this, the tile of the products.
ROW_TILE = 128
# Size of a partial product of dW where a separate addition adds it to the fp32 accumulator (bf16 on CPU).
PARTIAL_BYTES = 32 << 20


class LossSums(NamedTuple):
    """Sums over the projected rows that have a label; only `loss_sum` is differentiable.

    Attributes:
        loss_sum: sum of weight * nll, (), fp32.
        nll_sums: sum of nll, unweighted, of each span, (num_spans,), fp32.
        weight_sums: sum of weights of each span, (num_spans,), fp32.
        token_counts: number of rows of each span, (num_spans,), fp32.
    """

    loss_sum: Tensor
    nll_sums: Tensor
    weight_sums: Tensor
    token_counts: Tensor


def weighted_linear_cross_entropy_reference(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    loss_weights: Tensor,
    span_ids: Tensor | None = None,
    rows: Tensor | None = None,
    *,
    num_spans: int = 0,
) -> LossSums:
    """Define `weighted_linear_cross_entropy` in plain PyTorch; any floating dtype, in which everything is computed."""
    rows = torch.arange(hidden.shape[0], device=hidden.device) if rows is None else rows
    rows = rows[labels[rows] != IGNORE_INDEX]
    logits = hidden[rows] @ weight.t()
    nll = logits.logsumexp(1) - logits.gather(1, labels[rows, None])[:, 0]
    weights = loss_weights[rows].to(nll.dtype)
    spans = torch.zeros_like(rows) if span_ids is None else span_ids[rows]
    of_span = (spans == torch.arange(num_spans, device=rows.device)[:, None]).to(nll.dtype)  # (P, R)
    return LossSums((nll * weights).sum(), of_span @ nll.detach(), of_span @ weights, of_span.sum(1))


def weighted_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    loss_weights: Tensor,
    span_ids: Tensor | None = None,
    rows: Tensor | None = None,
    *,
    num_spans: int = 0,
    chunk_tokens: int | None = None,
    add_weight_gradient: Callable[[Tensor, Tensor], None] | None = None,
    backend: Backend = "auto",
) -> LossSums:
    """Return the weighted sum of token losses, differentiable in `hidden` and `weight`, and the sums of each span.

    The forward computes the gradients and the backward returns them, so it can run only once. Where no gradient is
    needed (under `torch.no_grad`, or if neither input requires one) only the losses are computed.

    Args:
        hidden: hidden states, (N, H), fp32 or bf16.
        weight: the head's weight, (V, H), of the same dtype.
        labels: target ids, (N,), int64; -100 where there is none.
        loss_weights: token weights, (N,), fp32.
        span_ids: the span of each label, (N,), integers below `num_spans`.
        rows: the rows to project, (R,), int64, ascending; all where None. The others count as if they had no label.
        num_spans: number of spans P that are summed apart.
        chunk_tokens: rows projected at a time; by default as many as fit into SLAB_BYTES.
        add_weight_gradient: called by the backward with dW for g = 1 (fp32) and g, in the place of returning g dW.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter.

    Returns:
        LossSums. With no rows at all `loss_sum` is 0 and still connected: its gradients are zeros.

    Raises:
        ValueError: shapes, dtypes or devices disagree; on CPU also where a label, span id or row is out of range or
            a weight is not finite.
        RuntimeError: the backward runs a second time.
    """
    _check_shapes(hidden, weight, labels, loss_weights, span_ids, rows, num_spans, chunk_tokens)
    if hidden.device.type == "cpu":
        _check_values(weight.shape[0], labels, loss_weights, span_ids, rows, num_spans)
    if rows is not None:
        labels, loss_weights = labels[rows], loss_weights[rows]
        span_ids = None if span_ids is None else span_ids[rows]
    has_label = labels != IGNORE_INDEX
    weights = loss_weights.where(has_label, 0.0)
    chunk_rows = chunk_tokens or _chunk_rows(labels.shape[0], weight)
    inputs = (hidden, weight, labels, weights, rows, _Chunking(chunk_rows, every_nll=num_spans > 0, backend=backend))
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        loss_sum, nll = _WeightedLinearCrossEntropy.apply(*inputs, add_weight_gradient)  # type: ignore[no-untyped-call]
    else:
        nll, _, _ = _forward(*inputs, needs_hidden=False, needs_weight=False)
        loss_sum = _weighted_sum(nll, weights)
    if num_spans == 0:
        return LossSums(loss_sum, *nll.new_zeros(3, 0))
    assert span_ids is not None
    of_span = (span_ids == torch.arange(num_spans, device=hidden.device)[:, None]) & has_label  # (P, R)
    # A masked sum has a fixed order on every device; index_add does not.
    sums = [torch.where(of_span, value, 0).sum(1, dtype=torch.float64).float() for value in (nll, weights, 1.0)]
    return LossSums(loss_sum, *sums)


class _Chunking(NamedTuple):
    """Rows per chunk, whether the nll of rows of weight 0 is computed too (if spans are summed), and the path."""

    chunk_rows: int
    every_nll: bool
    backend: Backend


class _WeightedLinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward and scales them in the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        weights: Tensor,
        rows: Tensor | None,
        chunking: _Chunking,
        add_weight_gradient: Callable[[Tensor, Tensor], None] | None,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        nll, *gradients = _forward(
            hidden, weight, labels, weights, rows, chunking, needs_hidden=needs_hidden, needs_weight=needs_weight
        )
        # Kept on ctx, not by save_for_backward: checkpointing would drop saved tensors and run the forward again.
        ctx.gradients = gradients
        ctx.weight_dtype, ctx.add_weight_gradient = weight.dtype, add_weight_gradient
        ctx.mark_non_differentiable(nll)
        return _weighted_sum(nll, weights), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "weighted_linear_cross_entropy: second backward through one loss. Its gradients are made in the "
                "forward and handed out once; compute the loss again."
            )
        dhidden, dweight = ctx.gradients
        ctx.gradients = None
        dhidden = None if dhidden is None else dhidden.mul_(upstream)
        if dweight is not None and ctx.add_weight_gradient is not None:
            ctx.add_weight_gradient(dweight, upstream)
            dweight = None
        elif dweight is not None:
            is_fp32 = ctx.weight_dtype == torch.float32
            out = dweight if is_fp32 else torch.empty_like(dweight, dtype=ctx.weight_dtype)
            dweight = torch.mul(dweight, upstream, out=out)
        return dhidden, dweight, None, None, None, None, None


def _forward(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,  # (R,), -100 where there is none
    weights: Tensor,  # (R,), 0 where there is no label
    rows: Tensor | None,
    chunking: _Chunking,
    *,
    needs_hidden: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return nll (R,) fp32 and, where needed, dh (N, H) in h's dtype and dW (V, H) in fp32, both for g = 1."""
    num_rows, vocabulary = labels.shape[0], weight.shape[0]
    run = cross_entropy_gradient_ if needs_hidden or needs_weight else row_losses
    nll = torch.empty(num_rows, dtype=torch.float32, device=hidden.device)
    dhidden = torch.zeros(hidden.shape, dtype=hidden.dtype, device=hidden.device) if needs_hidden else None
    # The first chunk's product overwrites dW, the others add to it.
    make = torch.empty if num_rows else torch.zeros
    dweight = make(weight.shape, dtype=torch.float32, device=weight.device) if needs_weight else None
    slab = weight.new_empty(min(chunking.chunk_rows, num_rows), -(-vocabulary // PAD) * PAD)[:, :vocabulary]
    for first in range(0, num_rows, chunking.chunk_rows):
        chunk = slice(first, min(first + chunking.chunk_rows, num_rows))
        of_hidden = chunk if rows is None else rows[chunk]
        inputs = hidden[of_hidden]  # (C, H)
        logits = torch.mm(inputs, weight.t(), out=slab[: len(inputs)])  # (C, V)
        nll[chunk] = run(
            logits, labels[chunk], weights[chunk], every_nll=chunking.every_nll, backend=chunking.backend
        ).nll
        if dhidden is not None:
            dhidden[of_hidden] = logits @ weight
        if dweight is not None:
            _add_product(dweight, logits, inputs, is_first=first == 0)
    return nll, dhidden, dweight


def _add_product(dweight: Tensor, dlogits: Tensor, inputs: Tensor, *, is_first: bool) -> None:
    """Add dlogits^T (V, C) times inputs (C, H) to dweight (V, H), fp32; where `is_first`, overwrite dweight instead."""
    # On CUDA the product of two bf16 matrices is summed and stored in fp32.
    options: dict[str, Any] = {"out_dtype": torch.float32} if dlogits.dtype == torch.bfloat16 else {}
    if dlogits.dtype == torch.float32 or dlogits.is_cuda:
        if is_first:
            torch.mm(dlogits.t(), inputs, out=dweight, **options)
        else:
            torch.addmm(dweight, dlogits.t(), inputs, out=dweight, **options)
        return
    step = max(1, PARTIAL_BYTES // (inputs.shape[1] * inputs.element_size()))
    for first in range(0, dweight.shape[0], step):
        part = slice(first, first + step)
        product = dlogits[:, part].t() @ inputs
        if is_first:
            dweight[part] = product
        else:
            dweight[part] += product


def _chunk_rows(num_rows: int, weight: Tensor) -> int:
    """Return the rows of a chunk, for as few chunks as SLAB_BYTES allows, all of equal size."""
    row_bytes = -(-weight.shape[0] // PAD) * PAD * weight.element_size()
    most = max(1, SLAB_BYTES["cuda" if weight.is_cuda else "cpu"] // row_bytes)
    num_chunks = max(1, -(-num_rows // most))
    equal = -(-num_rows // num_chunks)
    return max(1, min(most, -(-equal // ROW_TILE) * ROW_TILE))


def _weighted_sum(nll: Tensor, weights: Tensor) -> Tensor:
    return torch.where(weights == 0, 0, nll * weights).sum(dtype=torch.float64).float()


def _check_shapes(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    loss_weights: Tensor,
    span_ids: Tensor | None,
    rows: Tensor | None,
    num_spans: int,
    chunk_tokens: int | None,
) -> None:
    if hidden.dim() != 2:
        raise ValueError(f"hidden has shape {tuple(hidden.shape)}: it must be (N, H), one row a token.")
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[1] or weight.shape[0] == 0:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, hidden has width {hidden.shape[1]}: weight must be (V, H). Under "
            "ZeRO-3 a weight has shape (0,) until it is gathered; call this in the forward of the module that owns it."
        )
    if hidden.dtype != weight.dtype or hidden.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"hidden is {hidden.dtype}, weight is {weight.dtype}: both must be float32, or both bfloat16.")
    per_row = {"labels": (labels, torch.int64), "loss_weights": (loss_weights, torch.float32)}
    for name, (tensor, dtype) in per_row.items():
        if tensor.shape != hidden.shape[:1] or tensor.dtype != dtype:
            raise ValueError(f"{name} is {_describe(tensor)}: it must be ({hidden.shape[0]},) {dtype}, one a row.")
    if (span_ids is None) != (num_spans == 0):
        state = "not given" if span_ids is None else "given"
        raise ValueError(f"span_ids are {state} and num_spans = {num_spans}: give both or neither.")
    if span_ids is not None and (span_ids.shape != hidden.shape[:1] or span_ids.is_floating_point()):
        raise ValueError(f"span_ids is {_describe(span_ids)}: it must be ({hidden.shape[0]},) integers, one a row.")
    if rows is not None and (rows.dim() != 1 or rows.dtype != torch.int64):
        raise ValueError(f"rows is {_describe(rows)}: it must be (R,) torch.int64, ascending.")
    if chunk_tokens is not None and chunk_tokens < 1:
        raise ValueError(f"chunk_tokens = {chunk_tokens}: at least one row must be projected at a time.")
    tensors = (hidden, weight, labels, loss_weights, span_ids, rows)
    devices = {str(tensor.device) for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"inputs are on {', '.join(sorted(devices))}: they must be on one device.")


def _check_values(
    vocabulary: int,
    labels: Tensor,
    loss_weights: Tensor,
    span_ids: Tensor | None,
    rows: Tensor | None,
    num_spans: int,
) -> None:
    bad = (labels != IGNORE_INDEX) & ((labels < 0) | (labels >= vocabulary))
    _refuse("labels", labels, bad, f"a label must be {IGNORE_INDEX} or in [0, {vocabulary})")
    _refuse("loss_weights", loss_weights, ~loss_weights.isfinite(), "a weight must be finite")
    if span_ids is not None:
        bad = (span_ids < 0) | (span_ids >= num_spans)
        _refuse("span_ids", span_ids, bad, f"a span id must be in [0, {num_spans})")
    if rows is not None:
        bad = (rows < 0) | (rows >= labels.shape[0]) | (rows.diff(prepend=rows[:1] - 1) <= 0)
        _refuse("rows", rows, bad, f"rows must ascend within [0, {labels.shape[0]})")


def _refuse(name: str, tensor: Tensor, bad: Tensor, rule: str) -> None:
    if bad.any():
        index = int(bad.nonzero()[0, 0])
        raise ValueError(f"{name}[{index}] = {tensor[index].item()}: {rule}.")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"
