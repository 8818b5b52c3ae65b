"""Linear layers that read one input, as one function: the gradient of that input is summed by the products themselves.

With a function a layer, autograd keeps the input once, but gets a gradient of it from each layer and adds these up: a
pass over three tensors for each layer but the first. Here the second product adds to what the first has written.

Where the weights lie one behind another in memory, as they do in a flat tensor of all parameters, they are one matrix
and one product: forward, and backward where the gradients of the outputs lie side by side too, as those of gate and up
do. Nothing is moved for it, so that parameters, checkpoints and exports are what they were.

The input of q, k and v, and that of gate and up, is the output of a norm. It need not be kept: the norm's input is part
of the residual stream, which is kept anyway, and a pass over it gives the same bits again (`Normalised`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from alttrain.engine.model.products import PLAIN, Products
from alttrain.engine.model.weight_gradients import DirectLinear, WeightGradient, one_matrix, share_memory
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

    products: Products
    into: tuple[WeightGradient | None, ...]
    normalised: tuple[float, Backend] | None
    in_one: bool


def can_join(layers: Sequence[nn.Module]) -> bool:
    """Return whether `joint_linear` computes what these layers do: plain ones, whose weights are at hand."""
    are_plain = all(
        isinstance(layer, nn.Linear) and type(layer) in (nn.Linear, DirectLinear) and layer.weight.dim() == 2
        for layer in layers
    )
    return are_plain and all(_products(layer) is _products(layers[0]) for layer in layers)


def _products(layer: nn.Module) -> Products:
    return layer.products if isinstance(layer, DirectLinear) else PLAIN


def joint_linear(
    x: Tensor, layers: Sequence[nn.Module], source: Normalised | None = None, *, in_one: bool = True
) -> tuple[Tensor, ...]:
    """Return x @ weight.T + bias of each layer, differentiable in all.

    Args:
        x: what the layers read, (..., H).
        layers: must pass `can_join`. Under ZeRO-3 call this in the forward of a leaf module that owns them.
        source: where given, `x` is not kept for the backward, which computes it again from this.
        in_one: whether weights that lie one behind another may be one product, whose outputs lie side by side.

    Returns:
        (..., D) for each layer; neighbouring elements of a row are neighbours in memory.
    """
    into = tuple(layer.weight_gradient if isinstance(layer, DirectLinear) else None for layer in layers)
    how = _How(_products(layers[0]), into, None if source is None else (source.eps, source.backend), in_one)
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
        operand = how.products.shared(x)
        weight = one_matrix(weights) if how.in_one else None
        bias = None if weight is None or biases[0] is None else one_matrix(biases)
        if weight is None or (bias is None) != (biases[0] is None):
            pairs = zip(weights, biases, strict=True)
            return tuple(how.products.forward(operand, weight, bias) for weight, bias in pairs)
        return _apart(how.products.forward(operand, weight, bias), [len(weight) for weight in weights])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(gradients)
        saved = ctx.saved_tensors  # may be asked for once: under checkpointing this computes them again
        kept, weights = saved[:-count], saved[-count:]
        needs_weight, needs_bias = ctx.needs_input_grad[4 : 4 + count], ctx.needs_input_grad[4 + count :]
        rows = [dy.reshape(-1, dy.shape[-1]) for dy in gradients]  # (N, D) each
        dweights: list[Tensor | None] = [None] * count
        if any(needs_weight):
            x = kept[0] if ctx.how.normalised is None else _normalise(*kept, *ctx.how.normalised)
            dweights = _weight_gradients(rows, x.reshape(-1, x.shape[-1]), ctx.how.into, needs_weight)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = _input_gradient(rows, weights, ctx.how.products).view(kept[0].shape)
        dbiases = [dy.sum(0) if needed else None for dy, needed in zip(rows, needs_bias, strict=True)]
        return dx, None, None, None, *dweights, *dbiases


def _normalise(stream: Tensor, weight: Tensor, eps: float, backend: Backend) -> Tensor:
    with torch.no_grad():
        return rms_norm(stream, weight, eps, backend=backend)


def _input_gradient(rows: list[Tensor], weights: Sequence[Tensor], products: Products) -> Tensor:
    """Return the sum of dy @ weight over the layers, (N, H)."""
    all_rows, whole = _side_by_side(rows), one_matrix(weights)
    if all_rows is not None and whole is not None:
        return products.input_gradient(all_rows, whole)
    dx = products.input_gradient(rows[0], weights[0])
    for dy, weight in zip(rows[1:], weights[1:], strict=True):
        dx = products.input_gradient(dy, weight, add_to=dx)
    return dx


def _weight_gradients(
    rows: list[Tensor], x: Tensor, into: tuple[WeightGradient | None, ...], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return dy^T x of each layer, or None where it is not needed or has been added where it belongs."""
    homes = [home for home in into if home is not None]
    if len(homes) == len(rows) and all(needed):
        all_rows = _side_by_side(rows)
        if all_rows is not None and WeightGradient.add_joint_product(homes, all_rows, x):
            return [None] * len(rows)
    found: list[Tensor | None] = [None] * len(rows)
    for place, (dy, own) in enumerate(zip(rows, into, strict=True)):
        if needed[place] and own is not None:
            own.add_product(dy, x)
        elif needed[place]:
            found[place] = dy.t() @ x
    return found


def _apart(out: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    """Return the columns of `out` (..., D) in parts, as tensors that autograd does not take for views of one."""
    parts, first = [], out.storage_offset()
    for width in widths:
        part = out.new_empty(0)
        parts.append(part.set_(out.untyped_storage(), first, (*out.shape[:-1], width), out.stride()))
        first += width
    return tuple(parts)


def _side_by_side(rows: list[Tensor]) -> Tensor | None:
    """Return tensors (N, D) that are the columns of one, as that one, (N, sum of D); None where they are not."""
    count, width = len(rows[0]), sum(tensor.shape[1] for tensor in rows)
    first = rows[0].storage_offset()
    for tensor in rows:
        if tensor.stride() != (width, 1) or tensor.storage_offset() != first or not share_memory(tensor, rows[0]):
            return None
        first += tensor.shape[1]
    return rows[0].as_strided((count, width), (width, 1))
