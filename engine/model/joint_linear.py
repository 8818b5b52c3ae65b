"""Linear layers that read one input, as one function: the gradient of that input is summed by the products themselves.

With a function a layer, autograd keeps the input once, but gets a gradient of it from each layer and adds these up: a
pass over three tensors for each layer but the first. Here the second product adds to what the first has written.

The input of q, k and v, and that of gate and up, is the output of a norm. It need not be kept: the norm's input is part
of the residual stream, which is kept anyway, and a pass over it gives the same bits again (`Normalised`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from alttrain.engine.model.weight_gradients import DirectLinear, WeightGradient
from alttrain.kernels.backend import Backend
from alttrain.kernels.rms_norm import rms_norm


class Normalised(NamedTuple):
    """What the output of a norm is computed from."""

    stream: Tensor
    """The norm's input, (..., H)."""
    weight: Tensor
    """The norm's weight, (H,)."""
    eps: float
    backend: Backend
    """The path that the norm has taken: another one may round otherwise."""


class _How(NamedTuple):
    """What the function below is told beside tensors."""

    into: tuple[WeightGradient | None, ...]
    normalised: tuple[float, Backend] | None


def can_join(layers: Sequence[nn.Module]) -> bool:
    """Return whether `joint_linear` computes what these layers do: plain ones, whose weights are at hand."""
    return all(
        isinstance(layer, nn.Linear) and type(layer) in (nn.Linear, DirectLinear) and layer.weight.dim() == 2
        for layer in layers
    )


def joint_linear(x: Tensor, layers: Sequence[nn.Module], source: Normalised | None = None) -> tuple[Tensor, ...]:
    """Return x @ weight.T + bias of each layer, differentiable in all.

    Args:
        x: what the layers read, (..., H).
        layers: must pass `can_join`. Under ZeRO-3 call this in the forward of a leaf module that owns them.
        source: where given, `x` is not kept for the backward, which computes it again from this.

    Returns:
        (..., D) for each layer, each in memory of its own.
    """
    into = tuple(layer.weight_gradient if isinstance(layer, DirectLinear) else None for layer in layers)
    how = _How(into, None if source is None else (source.eps, source.backend))
    origin = (None, None) if source is None else (source.stream.detach(), source.weight)
    weights = [layer.weight for layer in layers]
    biases = [layer.bias for layer in layers]
    made: tuple[Tensor, ...] = _JointLinear.apply(x, *origin, how, *weights, *biases)  # type: ignore[no-untyped-call]
    return made


class _JointLinear(torch.autograd.Function):
    """joint_linear; keeps x, or what x is computed from, and the weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, stream: Tensor | None, norm_weight: Tensor | None, how: _How, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        weights, biases = parameters[: len(how.into)], parameters[len(how.into) :]
        ctx.save_for_backward(*((x,) if stream is None else (stream, norm_weight)), *weights)
        ctx.how = how
        return tuple(linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(gradients)
        saved = ctx.saved_tensors  # may be asked for once: under checkpointing this computes them again
        kept, weights = saved[:-count], saved[-count:]
        needs_weight, needs_bias = ctx.needs_input_grad[4 : 4 + count], ctx.needs_input_grad[4 + count :]
        rows = [dy.reshape(-1, dy.shape[-1]) for dy in gradients]  # (N, D) each
        x = None
        if any(needs_weight):
            x = kept[0] if ctx.how.normalised is None else _normalise(*kept, *ctx.how.normalised)
            x = x.reshape(-1, x.shape[-1])
        dweights = [
            _add_product(dy, x, into) if needed and x is not None else None
            for dy, into, needed in zip(rows, ctx.how.into, needs_weight, strict=True)
        ]
        dx = None
        if ctx.needs_input_grad[0]:
            dx = rows[0] @ weights[0]
            for dy, weight in zip(rows[1:], weights[1:], strict=True):
                dx.addmm_(dy, weight)
            dx = dx.view(kept[0].shape)
        dbiases = [dy.sum(0) if needed else None for dy, needed in zip(rows, needs_bias, strict=True)]
        return dx, None, None, None, *dweights, *dbiases


def _normalise(stream: Tensor, weight: Tensor, eps: float, backend: Backend) -> Tensor:
    with torch.no_grad():
        return rms_norm(stream, weight, eps, backend=backend)


def _add_product(dy: Tensor, x: Tensor, into: WeightGradient | None) -> Tensor | None:
    """Return dy^T x, the gradient of a weight; None if it has been added where it is needed."""
    if into is None:
        return dy.t() @ x
    into.add_product(dy, x)
    return None
