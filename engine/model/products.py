"""The products of a linear layer with its weight, in the dtype of both or in float8 (--model.fp8).

A layer asks an object for its two products, x W^T + b in the forward and dy W, the gradient of its input, in the
backward; the gradient of the weight, dy^T x, is never one of them: it stays a product in the dtype of the weights,
summed where the optimizer reads it. So it is in torchao's recipe rowwise_with_gw_hp, the most exact of its three.
Nothing is kept from one call to the next: weights are quantised anew for each product, so that what ZeRO-3 gathers and
lets go, and what checkpointing computes again, needs no care, and no memory is held.

What follows torchao's recipes (github.com/pytorch/ao, float8): e4m3 for activations and weights; for gradients e4m3
where each row has its scale, and e5m2 where the tensor has one; partial sums of the forward at the tensor cores' own
precision, of the backward in float32. What differs: all scales are powers of two, and both products see one set of
quantised weights (kernels/float8.py).

Which layers: all linear layers of the decoder (q, k, v, o, gate, up, down). The head computes the loss in a kernel of
its own, and embedding and norms multiply no matrices: they stay as they are.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from alttrain.engine.errors import ConfigError
from alttrain.engine.model.kernel_choice import Kernels
from alttrain.kernels.backend import Backend
from alttrain.kernels.float8 import (
    CAPABILITY,
    E4M3,
    E5M2,
    MULTIPLE,
    Float8,
    Scaling,
    quantise,
    quantise_transposed,
    scaled_product,
)


class Products:
    """Products in the dtype of their operands: torch's own."""

    def shared(self, x: Tensor) -> Any:
        """Return `x`, (..., I), as `forward` takes it: to be made once where several layers read it."""
        return x

    def forward(self, x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x @ weight.T + bias, (..., D); x is (..., I) or what `shared` has made of it."""
        return linear(x, weight, bias)

    def input_gradient(self, dy: Tensor, weight: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return dy @ weight, (N, I), of dy (N, D); where `add_to` is given, it is added there, in place."""
        return dy @ weight if add_to is None else add_to.addmm_(dy, weight)


@dataclass
class SharedRows:
    """An input that several products read, quantised once."""

    rows: Float8
    """(N, I)."""
    shape: torch.Size
    """Of the input, (..., I)."""


@dataclass
class Float8Products(Products):
    """Products of float8 operands, with results in the dtype of the other operand as it came."""

    scaling: Scaling
    backend: Backend = "torch"
    """The path of the passes that quantise; the products are torch's."""
    _ones: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict, repr=False)

    def shared(self, x: Tensor) -> SharedRows:
        """Return `x` in float8."""
        return SharedRows(quantise(x.reshape(-1, x.shape[-1]), self.scaling, backend=self.backend), x.shape)

    def forward(self, x: Tensor | SharedRows, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x @ weight.T + bias of the quantised two."""
        shared = x if isinstance(x, SharedRows) else self.shared(x)
        right = quantise(weight, self.scaling, backend=self.backend)
        out = scaled_product(shared.rows, right, bias, dtype=weight.dtype, is_fast=True)
        return out.view(*shared.shape[:-1], weight.shape[0])

    def input_gradient(self, dy: Tensor, weight: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return dy @ weight of the same quantised weight as in the forward, and of dy quantised."""
        right = quantise_transposed(weight, self.scaling, backend=self.backend)
        if self.scaling == "rowwise":
            left = quantise(dy, "rowwise", E4M3, factors=right.scale, backend=self.backend)
            right = Float8(right.values, self._one(weight))
        else:
            left = quantise(dy, "tensorwise", E5M2, backend=self.backend)
        dx = scaled_product(left, right, dtype=dy.dtype)
        return dx if add_to is None else add_to.add_(dx)

    def _one(self, weight: Tensor) -> Tensor:
        key = (weight.shape[1], weight.device)
        if key not in self._ones:
            self._ones[key] = torch.ones(weight.shape[1], 1, device=weight.device)
        return self._ones[key]


PLAIN = Products()


def choose_products(fp8: str, decoder: nn.Module, kernels: Kernels, device: torch.device) -> Products:
    """Return the products that --model.fp8 = `fp8` selects for the linear layers of `decoder` on `device`.

    Raises:
        ConfigError: the GPU multiplies no float8, or not the widths of these layers.
    """
    if fp8 == "off":
        return PLAIN
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < CAPABILITY:
            name = torch.cuda.get_device_name(device)
            raise ConfigError(
                f"is {fp8}, and {name} (sm_{capability[0]}{capability[1]}) has no float8 products: they begin with "
                "sm_89 (Ada, Hopper). Leave it out, and the products are bfloat16.",
                flag="--model.fp8",
            )
        for name, layer in decoder.named_modules():
            if isinstance(layer, nn.Linear) and (layer.in_features % MULTIPLE or layer.out_features % MULTIPLE):
                raise ConfigError(
                    f"is {fp8}, and {name} is {layer.out_features} by {layer.in_features}: a GPU multiplies float8 "
                    f"matrices whose widths are multiples of {MULTIPLE}. Leave it out, and the products are bfloat16.",
                    flag="--model.fp8",
                )
    return Float8Products("rowwise" if fp8 == "rowwise" else "tensorwise", kernels.paths.float8)


def told(fp8: str) -> str:
    """Return what the user is told of float8 products."""
    scales = "a scale for each row" if fp8 == "rowwise" else "one scale a tensor"
    return f"products: float8, {scales}; weight gradients, head and embedding are not; mfu counts the bfloat16 peak"
