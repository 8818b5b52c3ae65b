"""Trials of the kernels of a step around the layers: the loss and its gradients, the tokens' weights, the optimizer.

The loss is asked at the model's own vocabulary for NUM_ROWS rows, among them rows without label, of weight 0 and of
near certain labels; through the head in several chunks, the last one short; and for no rows at all.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from alttrain.engine.proof.judge import Results
from alttrain.engine.proof.layer_trials import Draw, lengths_on
from alttrain.engine.proof.shapes import KernelShapes
from alttrain.engine.proof.trial import Trial
from alttrain.kernels.adamw import adamw_reference, adamw_step, join_master, split_master
from alttrain.kernels.backend import Backend
from alttrain.kernels.linear_cross_entropy import (
    LossSums,
    weighted_linear_cross_entropy,
    weighted_linear_cross_entropy_reference,
)
from alttrain.kernels.span_weights import Per, SpanWeights, span_weights, span_weights_reference
from alttrain.kernels.weighted_cross_entropy import (
    IGNORE_INDEX,
    cross_entropy_gradient_,
    row_losses,
    weighted_cross_entropy,
    weighted_cross_entropy_reference,
)

NUM_ROWS = {"cuda": 67, "cpu": 17}
# The gradient of the loss from above, which the kernels multiply theirs by.
UPSTREAM = 0.5
NUM_SPANS = 3
# How far the label's logit stands above the others: the loss of such a row is about 1e-5.
MARGIN = 24.0
# No multiple of a block, so that whole blocks and a masked remainder both run.
NUM_PARAMETERS = 3 * 1024 + 257
PER: tuple[Per, ...] = ("weight", "token", "example")
BITS = ("bits of param", "bits of exp_avg", "bits of exp_avg_sq")
ADAMW: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}


def loss_targets(shapes: KernelShapes, draw: Draw, num_rows: int) -> tuple[Tensor, Tensor]:
    """Return labels (R,), some of them none, and weights (R,), some of them 0; the last two rows count."""
    labels, weights = draw.integers(shapes.vocab_size, num_rows), draw.normal(num_rows, dtype=torch.float32).abs() + 0.5
    labels[1 : num_rows - 2 : 7], weights[2 : num_rows - 2 : 5] = IGNORE_INDEX, 0.0
    labels[-1:], labels[:1] = shapes.vocab_size - 1, 0
    return labels, weights


def weighted_cross_entropy_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """Losses and gradients of rows of logits: over the logits, which is how the head asks; alone; and by autograd."""
    for num_rows in (NUM_ROWS[device.type], 1, 0):
        draw = Draw(shapes, device)
        labels, weights = loss_targets(shapes, draw, num_rows)
        logits = draw.normal(num_rows, shapes.vocab_size, scale=3.0)
        confident = torch.arange(num_rows, device=device)[3::6]
        logits[confident, labels[confident].clamp(min=0)] = MARGIN
        yield _weighted_cross_entropy_trial(f"{num_rows} rows of {shapes.vocab_size}", logits, labels, weights)


def _weighted_cross_entropy_trial(what: str, logits: Tensor, labels: Tensor, weights: Tensor) -> Trial:
    weightless = (labels == IGNORE_INDEX) | (weights == 0)

    def run(backend: Backend) -> Results:
        slab, leaf = logits.clone(), logits.clone().requires_grad_()
        written = cross_entropy_gradient_(slab, labels, weights, backend=backend).nll
        alone = row_losses(logits, labels, weights, backend=backend).nll
        loss = weighted_cross_entropy(leaf, labels, weights, backend=backend)
        (gradient,) = torch.autograd.grad(loss, leaf, torch.full_like(loss, UPSTREAM))
        zeros = (torch.cat([slab, gradient], 1)[weightless] == 0).sum()
        results = {"nll": written[:, None], "nll alone": alone[:, None], "loss": loss.detach()}
        return results | {"gradient in place": slab, "gradient": gradient, "zeros of rows without weight": zeros}

    def truth() -> Results:
        leaf = logits.double().requires_grad_()
        loss, nll = weighted_cross_entropy_reference(leaf, labels, weights)
        (gradient,) = torch.autograd.grad(loss, leaf)
        results = {"nll": nll.detach()[:, None], "nll alone": nll.detach()[:, None], "loss": loss.detach()}
        return results | {"gradient in place": gradient, "gradient": UPSTREAM * gradient}

    return Trial(what, run, truth)


def linear_cross_entropy_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """The loss from hidden states on: its sums by span, and the gradients of the states and of the head.

    The truth of bf16 is fp32 here: the fp64 of a whole head and its gradient would take more memory than the trial.
    """
    num_rows = NUM_ROWS[device.type]
    draw = Draw(shapes, device)
    hidden = draw.normal(num_rows, shapes.hidden_size)
    weight = draw.normal(shapes.vocab_size, shapes.hidden_size, scale=2 * shapes.hidden_size**-0.5)
    targets = (*loss_targets(shapes, draw, num_rows), draw.integers(NUM_SPANS, num_rows))
    rows = torch.cat([torch.arange(0, num_rows - 4), torch.tensor([num_rows - 1])]).to(device)
    yield _linear_cross_entropy_trial(f"{num_rows} rows", hidden, weight, (*targets, rows))
    yield _linear_cross_entropy_trial("no rows", hidden, weight, (*targets, rows[:0]))


def _linear_cross_entropy_trial(what: str, hidden: Tensor, weight: Tensor, given: tuple[Tensor, ...]) -> Trial:
    def run(backend: Backend) -> Results:
        leaves = [x.detach().requires_grad_() for x in (hidden, weight)]
        # Three chunks, of which the last is shorter.
        chunk = len(hidden) * 2 // 5
        sums = weighted_linear_cross_entropy(*leaves, *given, num_spans=NUM_SPANS, chunk_tokens=chunk, backend=backend)
        return _named(sums, torch.autograd.grad(UPSTREAM * sums.loss_sum, leaves))

    def truth() -> Results:
        higher = torch.float32 if weight.dtype == torch.bfloat16 else torch.float64
        leaves = [x.detach().to(higher).requires_grad_() for x in (hidden, weight)]
        sums = weighted_linear_cross_entropy_reference(*leaves, *given, num_spans=NUM_SPANS)
        return _named(sums, torch.autograd.grad(UPSTREAM * sums.loss_sum, leaves))

    return Trial(what, run, truth)


def _named(sums: LossSums, gradients: tuple[Tensor, ...]) -> Results:
    loss, nll, weight_sums, counts = sums
    named = {"loss": loss.detach(), "nll by span": nll, "weight by span": weight_sums, "rows by span": counts}
    return named | dict(zip(("d_hidden", "d_weight"), gradients, strict=True))


def span_weights_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """Labels, weights and sums of a step: of documents some of which are one token, or have no weight at all."""
    table = torch.tensor([0.0, 1.0, 2.0, 0.3], device=device)
    for lengths, per in itertools.product((lengths_on(device), (1,), ()), PER):
        draw, num_tokens = Draw(shapes, device), sum(lengths)
        bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
        roles = draw.integers(len(table), num_tokens).to(torch.uint8)
        roles[: sum(lengths[:2])] = 0
        inputs = (draw.integers(shapes.vocab_size, num_tokens), roles, bounds, table)
        yield _span_weights_trial(f"{num_tokens} tokens per {per}", inputs, per)


def _span_weights_trial(what: str, inputs: tuple[Tensor, Tensor, Tensor, Tensor], per: Per) -> Trial:
    def columns(found: SpanWeights) -> Results:
        """Return the results by name: a token's weight as a row of its own, and the sums, which are fp64, in fp32."""
        named = {name: x.float() if x.is_floating_point() else x for name, x in found._asdict().items()}
        return named | {"loss_weights": named["loss_weights"][:, None]}

    return Trial(
        what,
        lambda backend: columns(span_weights(*inputs, per=per, backend=backend)),
        lambda: columns(span_weights_reference(*inputs, per=per)),
    )


def adamw_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """Two steps: in fp32; and with bf16 weights, low halves and bf16 moments, rounded by PyTorch's random bits."""
    for num_parameters, is_split in itertools.product((NUM_PARAMETERS, 5), (False, True)):
        draw = Draw(shapes, device)
        master = draw.normal(num_parameters, dtype=torch.float32)
        gradients = [draw.normal(num_parameters, dtype=torch.bfloat16) for _ in range(2)]
        if is_split:
            yield _split_adamw_trial(f"{num_parameters} parameters of two halves", master, gradients)
        else:
            wide = [gradient.float() for gradient in gradients]
            yield _adamw_trial(f"{num_parameters} parameters", master, wide)


def _adamw_trial(what: str, master: Tensor, gradients: list[Tensor]) -> Trial:
    def run(backend: Backend) -> Results:
        param, exp_avg, exp_avg_sq = master.clone(), torch.zeros_like(master), torch.zeros_like(master)
        for step, gradient in enumerate(gradients, 1):
            adamw_step(param, gradient, exp_avg, exp_avg_sq, step=step, **ADAMW, backend=backend)
        return {"param": param, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}

    return Trial(what, run, lambda: _true_steps(master, gradients, 1.0))


def _split_adamw_trial(what: str, master: Tensor, gradients: list[Tensor]) -> Trial:
    clip = torch.tensor(0.7, device=master.device)

    def run(backend: Backend) -> Results:
        param, low = split_master(master)
        streams = (torch.zeros_like(param), torch.zeros_like(param), low)
        for step, gradient in enumerate(gradients, 1):
            adamw_step(param, gradient, *streams, step=step, **ADAMW, clip=clip, seed=7, offset=8, backend=backend)
        return {"param": join_master(param, low)} | dict(zip(BITS, (param, *streams[:2]), strict=True))

    return Trial(what, run, lambda: {"param": _true_steps(master, gradients, 0.7)["param"]}, BITS)


def _true_steps(master: Tensor, gradients: list[Tensor], clip: float) -> dict[str, Tensor]:
    streams = [master.double(), *torch.zeros(2, len(master), dtype=torch.float64, device=master.device)]
    for step, gradient in enumerate(gradients, 1):
        streams[:] = adamw_reference(streams[0], gradient.double(), *streams[1:], step=step, **ADAMW, clip=clip)
    return dict(zip(("param", "exp_avg", "exp_avg_sq"), streams, strict=True))
