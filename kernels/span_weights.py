"""Shifted labels, token weights and the sums of a step, from span ids and the bounds of its documents.

    y_t = x_{t+1},  r_t = role of x_{t+1},  u_t = table[r_t]    where t and t+1 stand in one document; else no label
    c_{s,p} = number of tokens of document s whose label has role p
    w_t = u_t                                                   per "weight", "token"
    w_t = u_t / sum_p c_{s,p} table_p                           per "example": each document's weights sum to 1
    D   = sum c_{s,p} table_p  |  sum c_{s,p} [table_p > 0]  |  number of s with weight       (weight | token | example)

The weight is that of the label token, the one that is predicted. No label crosses the bounds of a document, so the
first token of a document is never a label and the last has none.

Every sum is computed from the integer counts c, which do not depend on the order of addition; so the sums are exact to
fp64 rounding and always have the same bits.

Shapes   x (N,) int64;  span ids (N,) uint8;  cu_seqlens (S+1,) int32;  table (P,) fp32, P at most 256;  c (S, P).
Launch   One, after P + 2 counters (P padded to a power of two) are set to 0. Each program takes a document: it counts
         c in registers, writes the document's tokens, and adds c to the step's counters; the last program to do so
         computes the fp64 sums from the counters, in a fixed order. Products c * table are exact in fp64, as c is
         below 2^29.
Traffic  Reads 10 bytes a token (span ids twice) and writes 13: 1.5 MB for a step of 65,536 tokens, less than a launch
         takes. So neighbouring lanes access neighbouring elements, but accesses are not widened: documents start at
         any address, and wide accesses need alignment. The PyTorch path moves some 40 bytes a token more, for indices.
No host synchronisation anywhere. Values are checked on CPU; on a GPU a span id out of range makes its weight NaN, or
stops the kernel under TRITON_DEBUG=1.
"""

# Triton's functions have no types.
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from alttrain.kernels.backend import Backend, runs_triton

IGNORE_INDEX = -100
MAX_ROLES = 256
# Elements of a program's tile, tokens times roles: 1,024 tokens at 16 roles, 4 tokens a thread; twice as many spill.
TILE = 16_384
WARPS = 8

_IGNORE = tl.constexpr(IGNORE_INDEX)

Per = Literal["weight", "token", "example"]


class SpanWeights(NamedTuple):
    """Labels, weights and sums of a step; all tensors are on the device of the inputs."""

    labels: Tensor
    """The next token of the same document, else -100: (N,), int64."""
    label_span_ids: Tensor
    """Role of the label token, 0 where there is no label: (N,), uint8."""
    loss_weights: Tensor
    """Weight of the label token in the loss, 0 where there is no label: (N,), fp32."""
    denominator: Tensor
    """The number by which the loss is divided, as `per` says: (), fp64."""
    weight_sum: Tensor
    """Sum of the table's weights over all labels, before any scaling per example: (), fp64."""
    span_weight_sums: Tensor
    """The part of each role in `weight_sum`: (P,), fp64."""
    span_token_counts: Tensor
    """Labels of each role, whatever their weight: (P,), fp64."""


def span_weights_reference(
    input_ids: Tensor, span_ids: Tensor, cu_seqlens: Tensor, table: Tensor, *, per: Per = "weight"
) -> SpanWeights:
    """Define `span_weights`: the same results, computed document by document and token by token."""
    tokens, roles, bounds, weights = input_ids.tolist(), span_ids.tolist(), cu_seqlens.tolist(), table.tolist()
    labels, label_roles, loss_weights = [IGNORE_INDEX] * len(tokens), [0] * len(tokens), [0.0] * len(tokens)
    denominator = 0.0
    span_weight_sums, span_token_counts = [0.0] * len(weights), [0.0] * len(weights)
    for start, end in pairwise(bounds):
        document_weight = sum(weights[role] for role in roles[start + 1 : end])
        for t in range(start, end - 1):
            labels[t], label_roles[t] = tokens[t + 1], roles[t + 1]
            weight = weights[roles[t + 1]]
            loss_weights[t] = weight / document_weight if per == "example" and weight > 0 else weight
            span_weight_sums[roles[t + 1]] += weight
            span_token_counts[roles[t + 1]] += 1
            if per != "example":
                denominator += weight if per == "weight" else float(weight > 0)
        if per == "example":
            denominator += float(document_weight > 0)
    device, fp64 = input_ids.device, torch.float64
    return SpanWeights(
        labels=torch.tensor(labels, dtype=torch.int64, device=device),
        label_span_ids=torch.tensor(label_roles, dtype=torch.uint8, device=device),
        loss_weights=torch.tensor(loss_weights, dtype=torch.float32, device=device),
        denominator=torch.tensor(denominator, dtype=fp64, device=device),
        weight_sum=torch.tensor(sum(span_weight_sums), dtype=fp64, device=device),
        span_weight_sums=torch.tensor(span_weight_sums, dtype=fp64, device=device),
        span_token_counts=torch.tensor(span_token_counts, dtype=fp64, device=device),
    )


@triton.jit
def _label(role_ptr, t, end, P: tl.constexpr):
    # Returns whether token t has a label, and the label's role, 0 where there is no label.
    has_label = t + 1 < end
    role = tl.load(role_ptr + t + 1, mask=has_label, other=0).to(tl.int32)
    tl.device_assert(role < P, "a span id is out of range")
    return has_label, role


@triton.jit
def _roles(table_ptr, P: tl.constexpr, ROLES: tl.constexpr):
    # Returns the roles, padded to a power of two, and their weights.
    roles = tl.arange(0, ROLES)
    return roles, tl.load(table_ptr + roles, mask=roles < P, other=0.0).to(tl.float64)


@triton.jit
def _write_sums(counter_ptr, table_ptr, sums_ptr, PER: tl.constexpr, P: tl.constexpr, ROLES: tl.constexpr):
    roles, table = _roles(table_ptr, P, ROLES)
    # Loads bypass the L1 cache, which may not have the sums that other multiprocessors have added.
    counts = tl.load(counter_ptr + roles, cache_modifier=".cg").to(tl.float64)
    weights = counts * table
    weight_sum = tl.sum(weights, 0)
    if PER == "weight":
        denominator = weight_sum
    elif PER == "token":
        denominator = tl.sum(tl.where(table > 0, counts, 0.0), 0)
    else:
        denominator = tl.load(counter_ptr + ROLES, cache_modifier=".cg").to(tl.float64)
    tl.store(sums_ptr, denominator)
    tl.store(sums_ptr + 1, weight_sum)
    tl.store(sums_ptr + 2 + roles, weights, mask=roles < P)
    tl.store(sums_ptr + 2 + P + roles, counts, mask=roles < P)


@triton.jit
def _span_weights_kernel(
    x_ptr, role_ptr, bounds_ptr, table_ptr, label_ptr, label_role_ptr, w_ptr, sums_ptr, counter_ptr,
    PER: tl.constexpr, P: tl.constexpr, ROLES: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    # counter_ptr, zeros at first: labels by role (ROLES,), documents with weight, programs that have added their c.
    start = tl.load(bounds_ptr + tl.program_id(0))
    end = tl.load(bounds_ptr + tl.program_id(0) + 1)
    tl.device_assert((start >= 0) & (start < end), "cu_seqlens does not rise from 0")
    roles, table = _roles(table_ptr, P, ROLES)
    tl.device_assert((table >= 0) & (table < float("inf")), "a weight is not a finite number, 0 or more")
    counts = tl.zeros((ROLES,), tl.int32)
    for first in range(start, end, TOKENS):
        has_label, role = _label(role_ptr, first + tl.arange(0, TOKENS), end, P)
        counts += tl.sum((has_label[:, None] & (role[:, None] == roles[None, :])).to(tl.int32), 0)  # (TOKENS, ROLES)
    document_weight = tl.sum(counts.to(tl.float64) * table, 0)
    scale = tl.where(document_weight > 0, document_weight, 1.0)
    tl.atomic_add(counter_ptr + roles, counts, mask=counts > 0, sem="relaxed")
    tl.atomic_add(counter_ptr + ROLES, (document_weight > 0).to(tl.int32), sem="relaxed")

    for first in range(start, end, TOKENS):
        t = first + tl.arange(0, TOKENS)
        has_label, role = _label(role_ptr, t, end, P)
        label = tl.load(x_ptr + t + 1, mask=has_label, other=_IGNORE)
        w = tl.load(table_ptr + role, mask=role < P, other=float("nan"))
        if PER == "example":
            w = (w.to(tl.float64) / scale).to(tl.float32)
        tl.store(label_ptr + t, label, mask=t < end)
        tl.store(label_role_ptr + t, role.to(tl.uint8), mask=t < end)
        tl.store(w_ptr + t, tl.where(has_label, w, 0.0), mask=t < end)

    tl.debug_barrier()  # all threads have added their counts: one thread's release below covers them all
    if tl.atomic_add(counter_ptr + ROLES + 1, 1, sem="acq_rel") == tl.num_programs(0) - 1:
        _write_sums(counter_ptr, table_ptr, sums_ptr, PER, P, ROLES)


def span_weights(
    input_ids: Tensor,
    span_ids: Tensor,
    cu_seqlens: Tensor,
    table: Tensor,
    *,
    per: Per = "weight",
    backend: Backend = "auto",
) -> SpanWeights:
    """Return labels, weights, sums and denominator of one step's documents, laid end to end.

    Args:
        input_ids: tokens of all documents, (N,), int64.
        span_ids: role of each token, an index into `table`, (N,), uint8.
        cu_seqlens: the first token of each document, and N; every document has at least one token, (S+1,), int32.
        table: weight of each role, 0 or more, (P,), fp32.
        per: the denominator. weight: sum of weights; token: number of labels with weight; example: number of
            documents with weight, where each document's weights are scaled to sum to 1.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter.

    Raises:
        ValueError: shapes, dtypes, devices, `per` or `backend` are not as above; on CPU also values (on a GPU
            checking these would synchronise).
    """
    _check(input_ids, span_ids, cu_seqlens, table, per)
    # Without documents there is nothing to launch, and the PyTorch path returns empty tensors.
    use_triton = runs_triton(backend, input_ids.device) and cu_seqlens.numel() > 1
    return (_span_weights if use_triton else _span_weights_torch)(input_ids, span_ids, cu_seqlens, table, per)


def _span_weights(input_ids: Tensor, span_ids: Tensor, cu_seqlens: Tensor, table: Tensor, per: Per) -> SpanWeights:
    """Allocate the outputs and launch the kernel; S is at least 1."""
    num_roles, device = table.numel(), input_ids.device
    labels = torch.empty(input_ids.shape, dtype=torch.int64, device=device)
    label_span_ids = torch.empty(input_ids.shape, dtype=torch.uint8, device=device)
    loss_weights = torch.empty(input_ids.shape, dtype=torch.float32, device=device)
    sums = torch.empty(2 + 2 * num_roles, dtype=torch.float64, device=device)
    block = max(16, triton.next_power_of_2(num_roles))
    counters = torch.zeros(block + 2, dtype=torch.int32, device=device)
    inputs = (tensor.contiguous() for tensor in (input_ids, span_ids, cu_seqlens, table))
    with torch.cuda.device_of(input_ids):
        _span_weights_kernel[(cu_seqlens.numel() - 1,)](
            *inputs, labels, label_span_ids, loss_weights, sums, counters,
            PER=per, P=num_roles, ROLES=block, TOKENS=TILE // block, num_warps=WARPS,
        )  # fmt: skip
    return SpanWeights(labels, label_span_ids, loss_weights, sums[0], sums[1], *sums[2:].view(2, num_roles))


def _span_weights_torch(
    input_ids: Tensor, span_ids: Tensor, cu_seqlens: Tensor, table: Tensor, per: Per
) -> SpanWeights:
    """Return what `_span_weights` returns, in PyTorch, vectorised over all tokens."""
    num_tokens, num_documents, num_roles = input_ids.numel(), cu_seqlens.numel() - 1, table.numel()
    device = input_ids.device
    has_label = torch.ones(num_tokens, dtype=torch.bool, device=device)
    has_label.index_fill_(0, cu_seqlens[1:].long() - 1, False)
    labels = torch.where(has_label, input_ids.roll(-1), IGNORE_INDEX)
    label_span_ids = torch.where(has_label, span_ids.roll(-1), 0)

    positions = torch.arange(num_tokens, dtype=torch.int32, device=device)
    ends = cu_seqlens[1:].contiguous()
    documents = torch.searchsorted(ends, positions, right=True)  # (N,) int64, which document each token is in
    keys = documents * num_roles + label_span_ids
    counts = torch.zeros(num_documents * num_roles, dtype=torch.int64, device=device)
    counts = counts.index_add_(0, keys, has_label.long()).view(num_documents, num_roles).double()  # (S, P)

    table64 = table.double()
    document_weights = counts @ table64  # (S,)
    span_token_counts = counts.sum(0)
    span_weight_sums = span_token_counts * table64
    weight_sum = span_weight_sums.sum()
    if per == "example":
        has_weight = document_weights > 0
        scales = torch.where(has_weight, document_weights, 1.0)
        weights = (table64 / scales[:, None]).float().view(-1)[keys]  # (S, P), then (N,)
        denominator = has_weight.sum(dtype=torch.float64)
    else:
        weights = table[label_span_ids.long()]
        denominator = weight_sum if per == "weight" else (span_token_counts * (table > 0)).sum()
    loss_weights = torch.where(has_label, weights, 0.0)
    return SpanWeights(
        labels, label_span_ids, loss_weights, denominator, weight_sum, span_weight_sums, span_token_counts
    )


def _check(input_ids: Tensor, span_ids: Tensor, cu_seqlens: Tensor, table: Tensor, per: str) -> None:
    if per not in ("weight", "token", "example"):
        raise ValueError(f"per is {per!r}: it must be 'weight', 'token' or 'example'.")
    for name, tensor, dtype in (
        ("input_ids", input_ids, torch.int64),
        ("span_ids", span_ids, torch.uint8),
        ("cu_seqlens", cu_seqlens, torch.int32),
        ("table", table, torch.float32),
    ):
        if tensor.dtype != dtype or tensor.dim() != 1:
            raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}: it must be {dtype}, 1-D.")
        if tensor.device != input_ids.device:
            raise ValueError(f"{name} is on {tensor.device}, input_ids on {input_ids.device}: use one device.")
    if span_ids.shape != input_ids.shape:
        raise ValueError(f"span_ids has {span_ids.numel()} values, input_ids {input_ids.numel()}: give one per token.")
    if cu_seqlens.numel() == 0 or table.numel() == 0:
        raise ValueError("cu_seqlens and table must not be empty: no documents is cu_seqlens = [0].")
    if table.numel() > MAX_ROLES:
        raise ValueError(f"table has {table.numel()} weights: span ids are bytes, so give {MAX_ROLES} at most.")
    if input_ids.device.type == "cpu":
        _check_values(input_ids.numel(), span_ids, cu_seqlens, table)


def _check_values(num_tokens: int, span_ids: Tensor, cu_seqlens: Tensor, table: Tensor) -> None:
    if cu_seqlens[0] != 0 or cu_seqlens[-1] != num_tokens or bool((cu_seqlens.diff() < 1).any()):
        raise ValueError(
            f"cu_seqlens runs from {int(cu_seqlens[0])} to {int(cu_seqlens[-1])}: it must rise from 0 to the number of "
            f"tokens, {num_tokens}, by 1 or more at each document."
        )
    if num_tokens and int(span_ids.max()) >= table.numel():
        raise ValueError(
            f"span_ids holds {int(span_ids.max())}: an id must be below {table.numel()}, the table's size."
        )
    if not bool((table.isfinite() & (table >= 0)).all()):
        raise ValueError(f"table is {table.tolist()}: every weight must be a finite number, 0 or more.")
