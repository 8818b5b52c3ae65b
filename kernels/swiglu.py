"""SwiGLU, the gated activation of an MLP, alone or with the down projection after it.

    s  = silu(a) = a * sigmoid(a)            y = round(s) * b           a: gate, b: up
    da = dy * b * sigmoid(a) * (1 + a * (1 - sigmoid(a)))               db = dy * s
    z  = y W^T   (swiglu_linear)             dy = dz W                  dW = dz^T y

N tokens, I the MLP's inner width, D the model's.
Shapes   a, b, y (..., I), z (..., D), W (D, I): all fp32 or all bf16.
Numerics fp32 throughout; s is rounded to the input's dtype before it is multiplied by b, as in transformers, so that
         training and inference give the same y.
Memory   a and b are kept for the backward, y is not; torch keeps a, silu(a), b, and y for the projection. Where dW
         needs y, the pass that computes da and db computes y again, into the memory of dy, a temporary.
Traffic  in units of N * I elements: forward reads 2 and writes 1; backward reads 3 and writes 2, or 3 with y.
In place With `in_place_backward` the backward writes da and db over a and b. This is for callers who know that nothing
         else reads a and b, for example outputs of linear projections, which do not keep them. Autograd then refuses a
         second backward.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

from alttrain.kernels.backend import Backend, runs_triton

# Elements of a program's tile: 8 a thread with 4 warps, that is one 16-byte access to each tensor in bf16, two in fp32.
BLOCK = 1024
WARPS = 4
# Elements that the PyTorch path works on at a time: few enough to stay in a CPU's cache between operations, or enough
# to keep a GPU busy.
TORCH_TILE = {"cpu": 1 << 18, "cuda": 1 << 25}
# A product of a matrix with the weight.
Product = Callable[[Tensor, Tensor], Tensor]


def swiglu_reference(gate: Tensor, up: Tensor) -> Tensor:
    """Define `swiglu` in plain PyTorch; any floating dtype, in which everything is computed."""
    return gate * torch.sigmoid(gate) * up


def swiglu(gate: Tensor, up: Tensor, *, in_place_backward: bool = False, backend: Backend = "auto") -> Tensor:
    """Return silu(gate) * up, differentiable in both; only these two are kept for the backward.

    Args:
        gate: (..., I), fp32 or bf16. Rows with evenly spaced starts are read in place; others are copied first.
        up: of the same shape and dtype.
        in_place_backward: let the backward overwrite `gate` and `up` with their gradients.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter.

    Returns:
        (..., I), contiguous, of the dtype of `gate`.

    Raises:
        ValueError: shapes, dtypes or devices are not as above.
        RuntimeError: a backward runs after one in place.
    """
    _check(gate, up)
    y: Tensor = _SwiGLU.apply(gate, up, in_place_backward, runs_triton(backend, gate.device))  # type: ignore[no-untyped-call]
    return y


def swiglu_linear(
    gate: Tensor,
    up: Tensor,
    weight: Tensor,
    *,
    in_place_backward: bool = False,
    add_weight_gradient: Callable[[Tensor, Tensor], None] | None = None,
    product: Product = linear,
    input_gradient: Product = torch.mm,
    backend: Backend = "auto",
) -> Tensor:
    """Return (silu(gate) * up) @ weight.T, differentiable in all three; only these are kept for the backward.

    Args:
        gate: (..., I), fp32 or bf16; strides as in `swiglu`.
        up: of the same shape and dtype.
        weight: weight of the down projection, (D, I), of the same dtype. Under ZeRO-3 call this in the forward of the
            module that owns it.
        in_place_backward: as in `swiglu`.
        add_weight_gradient: called by the backward with dz (N, D) and y (N, I), the factors of dW = dz^T y, in the
            place of returning dW.
        product: gives y W^T of y (N, I) and W.
        input_gradient: gives dz W of dz (N, D) and W, in memory of its own.
        backend: as in `swiglu`.

    Returns:
        (..., D), contiguous, of the dtype of `gate`.

    Raises:
        ValueError: shapes, dtypes or devices are not as above.
        RuntimeError: a backward runs after one in place.
    """
    _check(gate, up, weight)
    use_triton = runs_triton(backend, gate.device)
    options = (in_place_backward, add_weight_gradient, product, input_gradient, use_triton)
    z: Tensor = _SwiGLULinear.apply(gate, up, weight, *options)  # type: ignore[no-untyped-call]
    return z


class _SwiGLU(torch.autograd.Function):
    """swiglu; keeps gate and up for the backward."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, in_place: bool, use_triton: bool) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.in_place, ctx.use_triton = in_place, use_triton
        return _forward(_rows(gate), _rows(up), use_triton).view(gate.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dgate, dup = _backward(_rows(dy), _rows(gate), _rows(up), None, ctx.in_place, ctx.use_triton)
        if ctx.in_place:
            torch.autograd.graph.increment_version((gate, up))
        return dgate.view(gate.shape), dup.view(up.shape), None, None


class _SwiGLULinear(torch.autograd.Function):
    """swiglu_linear; keeps gate, up and the weight for the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        weight: Tensor,
        in_place: bool,
        add_weight_gradient: Callable[[Tensor, Tensor], None] | None,
        product: Product,
        input_gradient: Product,
        use_triton: bool,
    ) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        ctx.in_place, ctx.add_weight_gradient, ctx.use_triton = in_place, add_weight_gradient, use_triton
        ctx.input_gradient = input_gradient
        return product(_forward(_rows(gate), _rows(up), use_triton), weight).view(*gate.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, weight = ctx.saved_tensors
        dz = dz.reshape(-1, weight.shape[0])  # (N, D)
        dy = ctx.input_gradient(dz, weight)  # (N, I), overwritten by y if dW needs it
        y = dy if ctx.needs_input_grad[2] else None
        dgate, dup = _backward(dy, _rows(gate), _rows(up), y, ctx.in_place, ctx.use_triton)
        if ctx.in_place:
            torch.autograd.graph.increment_version((gate, up))
        dweight = None
        if y is not None and ctx.add_weight_gradient is not None:
            ctx.add_weight_gradient(dz, y)
        elif y is not None:
            dweight = dz.t() @ y
        return dgate.view(gate.shape), dup.view(up.shape), dweight, None, None, None, None, None


def _forward(gate: Tensor, up: Tensor, use_triton: bool) -> Tensor:
    """Return y (N, I) of gate and up (N, I)."""
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    if use_triton:
        _launch(_forward_kernel, gate, up, y)
        return y
    for part in _parts(gate):
        torch.mul(silu(gate[part]), up[part], out=y[part])
    return y


def _backward(
    dy: Tensor, gate: Tensor, up: Tensor, y: Tensor | None, in_place: bool, use_triton: bool
) -> tuple[Tensor, Tensor]:
    """Return da and db (N, I); where y, which may be dy itself, is given, write silu(gate) * up there."""
    dgate, dup = gate, up
    if not in_place:
        dgate, dup = (torch.empty(gate.shape, dtype=gate.dtype, device=gate.device) for _ in range(2))
    if use_triton:
        _launch(_backward_kernel, dy, gate, up, dgate, dup, y)
        return dgate, dup
    for part in _parts(gate):  # every part is read before it is written, as y may be dy, and da and db may be a and b
        activated = silu(gate[part])
        product = None if y is None else activated * up[part]
        gradient = torch.ops.aten.silu_backward(dy[part] * up[part], gate[part])
        dup[part] = activated.mul_(dy[part])
        dgate[part] = gradient
        if y is not None and product is not None:
            y[part] = product
    return dgate, dup


@triton.jit(do_not_specialize=["num_blocks"])  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    gate_ptr, up_ptr, y_ptr, gate_stride, up_stride, y_stride, width, num_blocks, BLOCK: tl.constexpr
):  # fmt: skip
    row = (tl.program_id(0) // num_blocks).to(tl.int64)
    cols = (tl.program_id(0) % num_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    mask = cols < width
    gate = tl.load(gate_ptr + row * gate_stride + cols, mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + cols, mask, other=0.0).to(tl.float32)
    activated = (gate / (1.0 + tl.exp(-gate))).to(y_ptr.dtype.element_ty).to(tl.float32)
    tl.store(y_ptr + row * y_stride + cols, (activated * up).to(y_ptr.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["num_blocks"])  # type: ignore[untyped-decorator]
def _backward_kernel(  # type: ignore[no-untyped-def]
    dy_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, y_ptr,
    dy_stride, gate_stride, up_stride, dgate_stride, dup_stride, y_stride, width, num_blocks, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // num_blocks).to(tl.int64)
    cols = (tl.program_id(0) % num_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    mask = cols < width
    dy = tl.load(dy_ptr + row * dy_stride + cols, mask, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * gate_stride + cols, mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + cols, mask, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-gate))
    activated = gate * sigmoid
    dgate = dy * up * (sigmoid + activated * (1.0 - sigmoid))
    dtype = gate_ptr.dtype.element_ty
    # All loads come before the first store, as outputs may be inputs.
    tl.store(dgate_ptr + row * dgate_stride + cols, dgate.to(dtype), mask)
    tl.store(dup_ptr + row * dup_stride + cols, (dy * activated).to(dtype), mask)
    if y_ptr is not None:
        tl.store(y_ptr + row * y_stride + cols, (activated.to(dtype).to(tl.float32) * up).to(dtype), mask)


def _launch(kernel: Any, *tensors: Tensor | None) -> None:
    """Run an elementwise kernel over tensors (N, I), as one long row where all are contiguous."""
    present = [tensor for tensor in tensors if tensor is not None]
    num_rows, width = present[0].shape
    if num_rows == 0:
        return
    if all(tensor.is_contiguous() for tensor in present):
        num_rows, width = 1, num_rows * width
    num_blocks = triton.cdiv(width, BLOCK)
    strides = (0 if tensor is None else tensor.stride(0) for tensor in tensors)
    with torch.cuda.device_of(present[0]):  # type: ignore[no-untyped-call]
        kernel[(num_rows * num_blocks,)](*tensors, *strides, width, num_blocks, BLOCK=BLOCK, num_warps=WARPS)


def _rows(x: Tensor) -> Tensor:
    """Return x (..., I) as (N, I): a view if the strides allow one with neighbouring columns side by side."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _parts(x: Tensor) -> Iterator[slice]:
    step = max(1, TORCH_TILE["cuda" if x.is_cuda else "cpu"] // x.shape[1])
    return (slice(first, first + step) for first in range(0, x.shape[0], step))


def _check(gate: Tensor, up: Tensor, weight: Tensor | None = None) -> None:
    if gate.shape != up.shape or gate.dim() < 1 or gate.shape[-1] == 0:
        raise ValueError(f"gate has shape {tuple(gate.shape)}, up {tuple(up.shape)}: both must be (..., I), I > 0.")
    if weight is not None and (weight.dim() != 2 or weight.shape[1] != gate.shape[-1]):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, gate has width {gate.shape[-1]}: weight must be (D, I). Under "
            "ZeRO-3 a weight has shape (0,) until it is gathered; call this in the forward of the module that owns it."
        )
    tensors = [gate, up] if weight is None else [gate, up, weight]
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 or gate.dtype not in (torch.float32, torch.bfloat16):
        names = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"inputs are {names}: all must be float32, or all bfloat16.")
    devices = {str(tensor.device) for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(f"inputs are on {', '.join(sorted(devices))}: they must be on one device.")
