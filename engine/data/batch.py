"""This rank's packs of one step, as tensors on the device: flat for the whole step, sliced into micro-batches.

Positions, document bounds, the longest document and the rows that the loss needs (known from the roles alone) are
computed here, on the CPU, so that nothing in a step waits for the device.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor

from alttrain.engine.config import LossConfig
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.kernels.backend import Backend
from alttrain.kernels.span_weights import IGNORE_INDEX, Per, SpanWeights, span_weights

DUMMY = Example(id="", input_ids=[0], span_ids=[0], where="an empty pack")


@dataclass(frozen=True)
class PackedBatch:
    """One micro-batch: documents end to end, without padding. An empty pack is one dummy token without a label.

    N is the number of tokens, S the number of documents, R the number of rows that the loss needs.
    """

    input_ids: Tensor
    """(1, N), int64."""
    position_ids: Tensor
    """Position within the document, (1, N), int64."""
    cu_seqlens: Tensor
    """The first token of each document, and N at the end: (S+1,), int32."""
    max_seqlen: int
    """Tokens of the longest document."""
    labels: Tensor
    """The next token of the same document, else -100: (N,), int64."""
    label_span_ids: Tensor
    """Index in ROLES of the label token's role, 0 where there is no label: (N,), uint8."""
    loss_weights: Tensor
    """Weight of the label token in the loss: (N,), fp32."""
    rows: Tensor
    """Positions whose label has weight or a measured role, ascending: (R,), int64; others add nothing to any sum."""


@dataclass(frozen=True)
class StepBatch:
    """This rank's share of one optimizer step; the sums are over its micro-batches and stay on the device."""

    micro_batches: tuple[PackedBatch, ...]
    denominator: Tensor
    """This rank's part of the loss's denominator, which is the sum over ranks: (), fp64."""
    weight_sum: Tensor
    """Sum of label weights before any scaling per example: (), fp64."""


class Collator:
    """Turns a rank's packs into its share of a step, by the roles' weights and the roles to measure."""

    def __init__(
        self, loss: LossConfig, device: torch.device, *, backend: Backend = "auto", measured: Collection[str] = ()
    ) -> None:
        """Put the weights of the roles on `device`.

        Args:
            loss: the weight of each role, and the denominator.
            device: the device of the tensors; copies to CUDA use pinned memory and do not wait.
            backend: path of the kernel that computes the weights of the tokens.
            measured: roles whose labels stand in `rows` even if their weight is 0.
        """
        weights = loss.weights()
        table = torch.tensor([weights[role] for role in ROLES], dtype=torch.float32)
        self.per: Per = loss.per
        self.device = device
        self.backend = backend
        self.weights = _to(table, device)  # (num_roles,)
        self.is_measured = (table > 0) | torch.tensor([role in measured for role in ROLES])  # (num_roles,), on the CPU

    def collate(self, packs: Sequence[Sequence[Example]]) -> StepBatch:
        """Return the packs as tensors on the device.

        Args:
            packs: the examples of each micro-batch; an empty one becomes a dummy token, whose loss is a connected zero.
        """
        documents = [pack or [DUMMY] for pack in packs]
        lengths = [tuple(len(e.input_ids) for e in pack) for pack in documents]
        input_ids = torch.tensor(list(chain.from_iterable(e.input_ids for pack in documents for e in pack)))
        span_ids = torch.tensor(list(chain.from_iterable(e.span_ids for pack in documents for e in pack)))
        cu_seqlens = _bounds(list(chain.from_iterable(lengths)))
        is_row = _measured_rows(span_ids, cu_seqlens, self.is_measured)

        ids = _to(input_ids, self.device)
        weighted = span_weights(
            ids,
            _to(span_ids.to(torch.uint8), self.device),
            _to(cu_seqlens, self.device),
            self.weights,
            per=self.per,
            backend=self.backend,
        )
        row_weights = [example.weight for pack in documents for example in pack]
        if any(weight != 1.0 for weight in row_weights):
            factors = torch.repeat_interleave(torch.tensor(row_weights, dtype=torch.float32), cu_seqlens.diff().long())
            weighted = _scale(weighted, _to(factors, self.device), self.weights, self.per)
        positions = _to(_positions(cu_seqlens), self.device)
        return StepBatch(
            micro_batches=_slice(lengths, ids, positions, is_row, weighted),
            denominator=weighted.denominator,
            weight_sum=weighted.weight_sum,
        )


def _scale(weighted: SpanWeights, factors: Tensor, table: Tensor, per: Per) -> SpanWeights:
    """Return the weights of all labels times their rows' own weights, and the sums that belong to them.

    The denominator grows by the same weights, unless it counts tokens: a row of weight 2 is a row that stands twice.

    Args:
        weighted: the weights by role.
        factors: the weight of each token's row, (N,) fp32.
        table: the weight of each role, (P,) fp32.
        per: what the loss is divided by.
    """
    loss_weights = weighted.loss_weights * factors
    unscaled = table[weighted.label_span_ids.long()] * factors * (weighted.labels != IGNORE_INDEX)
    return weighted._replace(
        loss_weights=loss_weights,
        denominator=weighted.denominator if per == "token" else loss_weights.double().sum(),
        weight_sum=unscaled.double().sum(),
    )


def _slice(
    lengths: list[tuple[int, ...]],
    input_ids: Tensor,
    position_ids: Tensor,
    is_row: Tensor,
    weighted: SpanWeights,
) -> tuple[PackedBatch, ...]:
    """Slice the step's flat tensors into micro-batches: views, with one copy for all bounds and one for all rows."""
    device = input_ids.device
    rows = [mask.nonzero().squeeze(1) for mask in torch.split(is_row, [sum(pack) for pack in lengths])]
    bounds = [_bounds(pack) for pack in lengths]
    rows_on_device = torch.split(_to(torch.cat(rows), device), [len(pack) for pack in rows])
    bounds_on_device = torch.split(_to(torch.cat(bounds), device), [len(pack) for pack in bounds])
    micro_batches = []
    start = 0
    for index, pack in enumerate(lengths):
        here = slice(start, start + sum(pack))
        start = here.stop
        micro_batches.append(
            PackedBatch(
                input_ids=input_ids[None, here],
                position_ids=position_ids[None, here],
                cu_seqlens=bounds_on_device[index],
                max_seqlen=max(pack),
                labels=weighted.labels[here],
                label_span_ids=weighted.label_span_ids[here],
                loss_weights=weighted.loss_weights[here],
                rows=rows_on_device[index],
            )
        )
    return tuple(micro_batches)


def _bounds(lengths: Sequence[int]) -> Tensor:
    return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32)


def _positions(cu_seqlens: Tensor) -> Tensor:
    """Return the position of each token within its document, (N,) int64."""
    starts = torch.repeat_interleave(cu_seqlens[:-1].long(), cu_seqlens.diff().long())
    return torch.arange(len(starts)) - starts


def _measured_rows(span_ids: Tensor, cu_seqlens: Tensor, is_measured: Tensor) -> Tensor:
    """Return which positions have a label, the next token of the same document, whose role is measured: (N,) bool."""
    is_row = is_measured[span_ids].roll(-1)
    is_row[cu_seqlens[1:].long() - 1] = False
    return is_row


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to `device` without waiting; torch keeps the pinned memory until the copy is done."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
