"""Weight gradients that products add where they are needed: into a view of one flat gradient.

In the usual way a product writes a weight's gradient into a tensor of its own, and autograd then adds that to `.grad`:
two more passes over every gradient, and a copy of it for a while. Here the product of the backward writes or adds by
itself. That needs a gradient that stays in one place, so it is for one process, where nothing is reduced.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from alttrain.engine.model.products import PLAIN, Products


def one_matrix(parts: Sequence[Tensor]) -> Tensor | None:
    """Return tensors (D, ...) that lie one behind another in memory as one, (sum of D, ...); None where they do not."""
    first = parts[0].storage_offset()
    for part in parts:
        if not part.is_contiguous() or part.storage_offset() != first or not share_memory(part, parts[0]):
            return None
        first += part.numel()
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    return parts[0].as_strided(shape, parts[0].stride())


def share_memory(tensor: Tensor, other: Tensor) -> bool:
    """Return whether both are views of one piece of memory."""
    return tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


class WeightGradient:
    """The gradient of one weight, of the weight's shape; the first product of a step overwrites what it holds."""

    def __init__(self, view: Tensor) -> None:
        """Take over `view`, float32 or the dtype of the products, contiguous."""
        self.view = view
        self.is_stale = True

    @classmethod
    def add_joint_product(cls, parts: Sequence["WeightGradient"], dy: Tensor, x: Tensor) -> bool:
        """Add dy^T x to gradients that lie one behind another, in one product; return False where they do not."""
        view = one_matrix([part.view for part in parts])
        if view is None or len({part.is_stale for part in parts}) > 1:
            return False
        whole = cls(view)
        whole.is_stale = parts[0].is_stale
        whole.add_product(dy, x)
        for part in parts:
            part.is_stale = False
        return True

    def add_product(self, dy: Tensor, x: Tensor) -> None:
        """Add dy^T x, the gradient of a weight (D, I) from dy (N, D) and x (N, I); sums over N are float32 on CUDA."""
        into, is_first = self._claim()
        if into.is_cuda or (is_first and into.dtype == dy.dtype):
            options: dict[str, Any] = {} if into.dtype == dy.dtype else {"out_dtype": into.dtype}
            if is_first:
                torch.mm(dy.t(), x, out=into, **options)
            else:
                torch.addmm(into, dy.t(), x, out=into, **options)
        elif is_first:  # a product on CPU has no other dtype than its operands
            into.copy_(dy.t() @ x)
        else:
            into += dy.t() @ x

    def add_scaled(self, gradient: Tensor, scale: Tensor) -> None:
        """Add gradient * scale, where `gradient` is of the weight's shape and float32, and is overwritten."""
        into, is_first = self._claim()
        if is_first:
            torch.mul(gradient, scale, out=into)
        else:
            into += gradient.mul_(scale)

    def finish(self) -> None:
        """Set the gradient to 0 if no product has come since the last step."""
        if self.is_stale:
            self.view.zero_()

    def _claim(self) -> tuple[Tensor, bool]:
        is_first, self.is_stale = self.is_stale, False
        return self.view, is_first


class DirectLinear(nn.Linear):
    """A linear layer by `products`; its backward adds the weight's gradient to `weight_gradient` where there is one."""

    weight_gradient: WeightGradient | None = None
    products: Products = PLAIN

    def forward(self, input: Tensor) -> Tensor:
        """Return input @ weight.T + bias."""
        options = (self.weight_gradient, self.products)
        out: Tensor = _DirectLinear.apply(input, self.weight, self.bias, *options)  # type: ignore[no-untyped-call]
        return out


class _DirectLinear(torch.autograd.Function):
    """torch's linear; the weight's gradient is returned only where it has no home."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, into: WeightGradient | None, products: Products
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.into, ctx.products = into, products
        return products.forward(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = dy.reshape(-1, weight.shape[0])  # (N, D)
        dweight = None
        if ctx.needs_input_grad[1] and ctx.into is not None:
            ctx.into.add_product(rows, x.reshape(-1, weight.shape[1]))
        elif ctx.needs_input_grad[1]:
            dweight = rows.t() @ x.reshape(-1, weight.shape[1])
        dx = ctx.products.input_gradient(rows, weight).view(x.shape) if ctx.needs_input_grad[0] else None
        return dx, dweight, rows.sum(0) if ctx.needs_input_grad[2] else None, None, None
