"""The losses of others that take hidden states and the head's weight, with our weights, as their users would call them.

Liger and cut-cross-entropy give a loss by token, which the weights multiply; rows of weight 0 get the label -100, which
they skip or leave out. Each maker raises what `rivals.probe` understands where it cannot run.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from alttrain.kernels.linear_cross_entropy import SLAB_BYTES
from harness.rivals import Absent, load, need_cuda

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Size(NamedTuple):
    """One case's sizes; weights are drawn from [1, 2), or all 1; `weightless` is the share of rows with weight 0."""

    model: str
    num_tokens: int
    width: int
    vocabulary: int
    dtype: str
    weights: str = "drawn"
    weightless: float = 0.0


def unfused(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
    """The unfused loss: logits in fp32, as transformers computes them, then torch's cross-entropy."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    return (torch.nn.functional.cross_entropy(logits, labels, reduction="none") * loss_weights).sum()


def liger(size: Size, reduction: str, *, same_budget: bool) -> Loss:
    """Return Liger's loss with dW summed in fp32; with reduction none, its backward projects the logits again."""
    function = load("liger_kernel.ops.fused_linear_cross_entropy").LigerFusedLinearCrossEntropyFunction
    budget = liger_budget(size) if same_budget else 1

    def loss(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
        labels = labels.where(loss_weights != 0, -100)
        options = (None, None, -100, 0.0, 0.0, reduction, None, False, torch.float32, False, False, False, None, None)
        nll: Tensor = function.apply(hidden, weight, labels, *options, budget)[0]
        return (nll * loss_weights).sum() if reduction == "none" else nll

    return loss


def liger_scaled(*, fallback: bool) -> Loss:
    """Return Liger's loss by token that its reinforcement learning uses, with our weights, as (w * nll).sum().

    It projects twice and dW is added up in bfloat16. On a Hopper its one kernel keeps no logits; elsewhere, and as
    `fallback`, it works through 512 rows at a time in PyTorch.

    Raises:
        ImportError: Liger, or the package that its kernel for Hopper is written with, is not installed.
        Absent: this is no Hopper, and the fallback was not asked for.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        raise ImportError("liger_kernel is not installed")
    module = importlib.import_module("liger_kernel.ops.fused_linear_scaled_cross_entropy")
    if fallback:
        function = module._FusedLinearPPOFallbackFunction
        options: tuple[object, ...] = (1.0, -100, False)  # temperature, ignored label, no entropy
    else:
        need_cuda("its kernel runs on Hopper only")
        function = module._resolve_implementation(torch.device("cuda"))
        if function is module._FusedLinearPPOFallbackFunction:
            raise Absent("its kernel runs on Hopper only")
        options = (1.0, -100, 1, False)

    def loss(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
        labels = labels.where(loss_weights != 0, -100)
        return (function.apply(hidden, weight, labels, *options) * loss_weights).sum()  # type: ignore[no-any-return]

    return loss


def liger_budget(size: Size) -> int:
    """Return the least `chunk_mem_const` with which Liger's chunks, powers of two, are as large as our slab allows."""
    most = SLAB_BYTES["cuda"] // (size.vocabulary * DTYPES[size.dtype].itemsize)
    wanted = min(1 << (most.bit_length() - 1), size.num_tokens)
    for budget in range(1, -(-size.vocabulary // size.width) + 1):
        parts = -(-size.vocabulary // (budget * size.width))
        if 1 << (-(-size.num_tokens // parts) - 1).bit_length() >= wanted:
            return budget
    return -(-size.vocabulary // size.width)


def cut(*, exact: bool) -> Loss:
    """Return Apple's cut cross-entropy, with or without its filter of small gradients; it skips rows labelled -100."""
    function = load("cut_cross_entropy").linear_cross_entropy

    def loss(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
        labels = labels.where(loss_weights != 0, -100)
        options = {"reduction": "none", "filter_eps": None if exact else "high"}
        return (function(hidden, weight, labels, **options) * loss_weights).sum()  # type: ignore[no-any-return]

    return loss


def trl() -> Loss:
    """Return the loss of TRL 1.16's fused head as its SFT trainer calls it; on CUDA it skips rows labelled -100.

    Raises:
        ImportError: TRL is not installed.
    """
    if importlib.util.find_spec("trl") is None:
        raise ImportError("trl is not installed")
    function = importlib.import_module("trl.kernels.chunked_logprob").ChunkedLogProbFunction

    def loss(hidden: Tensor, weight: Tensor, labels: Tensor, loss_weights: Tensor) -> Tensor:
        if hidden.is_cuda:
            has_label = loss_weights != 0
            hidden, labels, loss_weights = hidden[has_label], labels[has_label], loss_weights[has_label]
        # No bias, temperature 1, chunks of 32,768 columns, no cap, no scale, no statistics beside the loss.
        log_probs: Tensor = function.apply(hidden, weight, None, labels, 1.0, 32768, None, 1.0, ())[0]
        return -(log_probs * loss_weights).sum()

    return loss


NOTES = {
    "liger, by token": "reduction none: logits projected twice; all rows are projected",
    "liger, by token, our memory": "reduction none: logits projected twice; chunks as large as our slab",
    "liger, sum": "no weights by token: measured where all are 1",
    "liger, sum, our memory": "no weights by token: measured where all are 1; chunks as large as our slab",
    "liger, scaled": "by token; one kernel a direction, no logits in memory; projects twice; dW added up in bf16",
    "liger, scaled, fallback": "by token, 512 rows at a time in PyTorch; projects twice; dW added up in bf16",
    "cut-cross-entropy": "drops gradients below 2^-12; dW added up in bf16; logits projected again in the backward",
    "cut-cross-entropy, no filter": "dW added up in bf16; logits projected again in the backward",
    "trl": "SFT's default since 1.16; logits projected again in the backward",
    "torch": "keeps (N, V) logits",
    "torch.compile": "keeps (N, V) logits",
}
