"""Root-mean-square norm over the last dimension, of x or of x + residual.

    h  = x + residual                              (add_rms_norm, which returns h too; the others have h = x)
    r  = 1 / sqrt(mean_d(h_d^2) + eps)             n = h * r              y = round(n) * w
    dn = dy * w                                    dw = sum over rows of dy * n
    dh = r * (dn - n * mean_d(dn_d * n_d)) + g     dx = dresidual = dh    g: gradient of h from its other uses

N rows of width D: the tokens of a pack, or its tokens times heads where Qwen3 normalises each head's q and k.
Shapes   x, residual, h, y (..., D) and w (D,), all fp32 or all bf16;  r (N,) fp32.
Numerics fp32 throughout; h and n are rounded to the input's dtype where transformers rounds them (h before it is
         normalised, n before it is multiplied by w), so that training and inference give the same y.
Memory   kept for the backward: h, which the residual stream keeps anyway, and 4 bytes a row. It computes n again.
Traffic  in units of N * D elements: forward reads 1 and writes 1 (2 and 2 with the residual), backward reads 2 and
         writes 1 (3 and 1). A row is read once: it stays in registers between its sum of squares and its product.
Order    dw is summed without atomics: each of P programs sums its rows in registers and writes one row of a (P, D)
         fp32 tensor, and a second pass sums the P rows. The same inputs on the same device give the same bits.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from alttrain.kernels.backend import Backend, runs_triton

# Elements of the tile a program holds: 16 a thread with 4 warps, two 16-byte loads of bf16. Wider rows take more warps.
TILE = 2048
# Above this width the backward, with 32 warps, would have too few registers and spill.
MAX_WIDTH = 8192
# Warps of the backward on one multiprocessor: as many as fit at its 80 to 122 registers a thread, for a single wave.
RESIDENT_WARPS = 16
# Elements that the PyTorch path works on at a time: few enough to stay in a CPU's cache between operations, or enough
# to keep a GPU busy.
TORCH_TILE = {"cpu": 1 << 18, "cuda": 1 << 25}


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Define `rms_norm` in plain PyTorch; any floating dtype, in which everything is computed."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def add_rms_norm_reference(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Define `add_rms_norm`: the norm of x + residual, and x + residual."""
    h = x + residual
    return rms_norm_reference(h, weight, eps), h


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, backend: Backend = "auto") -> Tensor:
    """Return each row of `x` over its root mean square, times `weight`; differentiable in both.

    Args:
        x: rows, (..., D), fp32 or bf16. Rows with evenly spaced starts are read in place; others are copied first.
        weight: a factor for each column, (D,), of the same dtype.
        eps: added to the mean square.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter.

    Returns:
        (..., D), contiguous, of the dtype of `x`.

    Raises:
        ValueError: shapes, dtypes or devices are not as above, or D is above MAX_WIDTH.
    """
    _check(x, x, weight)
    y: Tensor = _RMSNorm.apply(x, weight, eps, runs_triton(backend, x.device))  # type: ignore[no-untyped-call]
    return y


def rms_norm_and_input(x: Tensor, weight: Tensor, eps: float, *, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Return what `rms_norm` does, and `x` itself for its other uses, whose gradient the norm's backward then adds.

    Args:
        x: rows, (..., D), as in `rms_norm`.
        weight: as in `rms_norm`.
        eps: added to the mean square.
        backend: as in `rms_norm`.

    Returns:
        y, (..., D), contiguous, and x in the same memory as before; both differentiable in `x` and `weight`.

    Raises:
        ValueError: shapes, dtypes or devices are not as in `rms_norm`.
    """
    _check(x, x, weight)
    y, h = _AddRMSNorm.apply(x, None, weight, eps, runs_triton(backend, x.device))  # type: ignore[no-untyped-call]
    return y, h


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, *, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Return the norm of `x + residual`, and `x + residual`: the residual stream from here on.

    Args:
        x: what a block adds to the stream, (..., D), fp32 or bf16; strides as in `rms_norm`.
        residual: the stream, of the same shape and dtype.
        weight: a factor for each column, (D,), of the same dtype.
        eps: added to the mean square.
        backend: as in `rms_norm`.

    Returns:
        y and h, (..., D), contiguous, of the dtype of `x`, differentiable in `x`, `residual` and `weight`.

    Raises:
        ValueError: shapes, dtypes or devices are not as above, or D is above MAX_WIDTH.
    """
    _check(x, residual, weight)
    y, h = _AddRMSNorm.apply(x, residual, weight, eps, runs_triton(backend, x.device))  # type: ignore[no-untyped-call]
    return y, h


class _RMSNorm(torch.autograd.Function):
    """rms_norm; keeps x and r for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, use_triton: bool) -> Tensor:
        run = _forward if use_triton else _forward_torch
        y, _, rstd = run(_rows(x), None, weight, eps)
        ctx.save_for_backward(x, weight, rstd)
        ctx.use_triton = use_triton
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = ctx.saved_tensors
        run = _backward if ctx.use_triton else _backward_torch
        dx, dweight = run(_rows(dy), None, _rows(x), weight, rstd, needs_weight=ctx.needs_input_grad[1])
        return dx.view(x.shape), dweight, None, None


class _AddRMSNorm(torch.autograd.Function):
    """add_rms_norm, or rms_norm_and_input without a residual; keeps h, which it returns, and r for the backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, use_triton: bool
    ) -> tuple[Tensor, Tensor]:
        run = _forward if use_triton else _forward_torch
        y, h, rstd = run(_rows(x), None if residual is None else _rows(residual), weight, eps)
        h = x if residual is None else h.view(x.shape)
        ctx.save_for_backward(h, weight, rstd)
        ctx.use_triton = use_triton
        # After a model's last norm nothing else uses h: its gradient is then None instead of a tensor of zeros.
        ctx.set_materialize_grads(False)
        return y.view(x.shape), h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dh: Tensor | None) -> tuple[Tensor | None, ...]:
        has_residual = ctx.needs_input_grad[1]
        if dy is None:
            return dh, dh if has_residual else None, None, None, None
        h, weight, rstd = ctx.saved_tensors
        run = _backward if ctx.use_triton else _backward_torch
        upstream = None if dh is None else _rows(dh)
        dx, dweight = run(_rows(dy), upstream, _rows(h), weight, rstd, needs_weight=ctx.needs_input_grad[2])
        dx = dx.view(h.shape)
        return dx, dx if has_residual else None, dweight, None, None


def _forward(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, h (both (N, D)) and r (N,) of rows (N, D); h is x where there is no residual."""
    num_rows, width = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    h = None if residual is None else torch.empty_like(y)
    rstd = torch.empty(num_rows, dtype=torch.float32, device=x.device)
    if num_rows:
        rows, block, warps = _tile(width)
        strides = (x.stride(0), 0 if residual is None else residual.stride(0))
        pointers = (x, residual, weight.contiguous(), y, h, rstd)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            _forward_kernel[(triton.cdiv(num_rows, rows),)](
                *pointers, *strides, num_rows, eps, D=width, ROWS=rows, BLOCK_D=block, num_warps=warps
            )
    return y, x if h is None else h, rstd


def _backward(
    dy: Tensor, dh: Tensor | None, h: Tensor, weight: Tensor, rstd: Tensor, *, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """Return dx (N, D) and, where needed, dw (D,); dh (N, D) is the gradient of h from its other uses."""
    num_rows, width = h.shape
    dx = torch.empty(h.shape, dtype=h.dtype, device=h.device)
    if num_rows == 0:
        return dx, torch.zeros_like(weight) if needs_weight else None
    rows, block, warps = _tile(width)
    num_programs = min(triton.cdiv(num_rows, rows), _resident_programs(h.device, warps))
    partial = torch.empty(num_programs, width, dtype=torch.float32, device=h.device) if needs_weight else None
    strides = (dy.stride(0), 0 if dh is None else dh.stride(0), h.stride(0))
    pointers = (dy, dh, h, weight.contiguous(), rstd, dx, partial)
    with torch.cuda.device_of(h):  # type: ignore[no-untyped-call]
        _backward_kernel[(num_programs,)](
            *pointers, *strides, num_rows, D=width, ROWS=rows, BLOCK_D=block, num_warps=warps
        )
    return dx, None if partial is None else partial.sum(0).to(weight.dtype)


def _forward_torch(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `_forward` returns, computed some rows at a time in PyTorch."""
    num_rows = x.shape[0]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    h = x if residual is None else torch.empty_like(y)
    rstd = torch.empty(num_rows, dtype=torch.float32, device=x.device)
    for part in _parts(x):
        rows = x[part] if residual is None else torch.add(x[part], residual[part], out=h[part])
        rows = rows.float()
        torch.add(rows.square().mean(-1), eps, out=rstd[part]).rsqrt_()
        torch.mul((rows * rstd[part, None]).to(x.dtype), weight, out=y[part])
    return y, h, rstd


def _backward_torch(
    dy: Tensor, dh: Tensor | None, h: Tensor, weight: Tensor, rstd: Tensor, *, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """Return what `_backward` returns, computed some rows at a time in PyTorch."""
    dx = torch.empty(h.shape, dtype=h.dtype, device=h.device)
    dweight = torch.zeros(weight.shape, dtype=torch.float32, device=h.device) if needs_weight else None
    for part in _parts(h):
        n = h[part].float() * rstd[part, None]
        upstream = dy[part].float()
        if dweight is not None:
            dweight += (upstream * n).sum(0)
        dn = upstream * weight.float()
        projection = (dn * n).mean(-1, keepdim=True)
        dn.addcmul_(n, projection, value=-1).mul_(rstd[part, None])
        dx[part] = dn if dh is None else dn.add_(dh[part])
    return dx, None if dweight is None else dweight.to(weight.dtype)


@triton.jit(do_not_specialize=["num_rows"])  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    x_ptr, residual_ptr, weight_ptr, y_ptr, h_ptr, rstd_ptr, x_stride, residual_stride, num_rows, eps,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]  # (ROWS, 1)
    cols = tl.arange(0, BLOCK_D)[None, :]  # (1, BLOCK_D)
    mask = (rows < num_rows) & (cols < D)
    h = tl.load(x_ptr + rows * x_stride + cols, mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        h += tl.load(residual_ptr + rows * residual_stride + cols, mask, other=0.0).to(tl.float32)
        rounded = h.to(h_ptr.dtype.element_ty)
        tl.store(h_ptr + rows * D + cols, rounded, mask)
        h = rounded.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(h * h, 1, keep_dims=True) / D + eps)  # (ROWS, 1)
    tl.store(rstd_ptr + rows, rstd, rows < num_rows)
    n = (h * rstd).to(y_ptr.dtype.element_ty).to(tl.float32)
    weight = tl.load(weight_ptr + cols, cols < D, other=0.0).to(tl.float32)
    tl.store(y_ptr + rows * D + cols, (n * weight).to(y_ptr.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["num_rows"])  # type: ignore[untyped-decorator]
def _backward_kernel(  # type: ignore[no-untyped-def]
    dy_ptr, dh_ptr, h_ptr, weight_ptr, rstd_ptr, dx_ptr, partial_ptr, dy_stride, dh_stride, h_stride, num_rows,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    cols = tl.arange(0, BLOCK_D)[None, :]  # (1, BLOCK_D)
    weight = tl.load(weight_ptr + cols, cols < D, other=0.0).to(tl.float32)
    dweight = tl.zeros((ROWS, BLOCK_D), tl.float32)
    program = tl.program_id(0).to(tl.int64)
    for tile in range(program, tl.cdiv(num_rows, ROWS), tl.num_programs(0)):
        rows = tile * ROWS + tl.arange(0, ROWS)[:, None]  # (ROWS, 1), int64
        mask = (rows < num_rows) & (cols < D)
        dy = tl.load(dy_ptr + rows * dy_stride + cols, mask, other=0.0).to(tl.float32)
        h = tl.load(h_ptr + rows * h_stride + cols, mask, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_ptr + rows, rows < num_rows, other=0.0)  # (ROWS, 1)
        if dh_ptr is not None:
            dh = tl.load(dh_ptr + rows * dh_stride + cols, mask, other=0.0)
        n = h * rstd
        dn = dy * weight
        dx = (dn - n * (tl.sum(dn * n, 1, keep_dims=True) / D)) * rstd
        if dh_ptr is not None:
            dx += dh.to(tl.float32)
        tl.store(dx_ptr + rows * D + cols, dx.to(dx_ptr.dtype.element_ty), mask)
        dweight += dy * n
    if partial_ptr is not None:
        tl.store(partial_ptr + program * D + cols, tl.sum(dweight, 0, keep_dims=True), cols < D)


def _tile(width: int) -> tuple[int, int, int]:
    """Return rows and columns of a program's tile, both powers of two, and its warps."""
    block = triton.next_power_of_2(width)
    rows = max(1, TILE // block)
    return rows, block, max(4, rows * block // 512)


def _resident_programs(device: torch.device, warps: int) -> int:
    if device.type != "cuda":
        return 3  # interpreted: few enough that programs have several tiles, and enough for several partial sums
    return int(torch.cuda.get_device_properties(device).multi_processor_count) * max(1, RESIDENT_WARPS // warps)


def _rows(x: Tensor) -> Tensor:
    """Return x (..., D) as (N, D): a view if the strides allow one with neighbouring columns side by side."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _parts(x: Tensor) -> Iterator[slice]:
    step = max(1, TORCH_TILE["cuda" if x.is_cuda else "cpu"] // x.shape[1])
    return (slice(first, first + step) for first in range(0, x.shape[0], step))


def _check(x: Tensor, residual: Tensor, weight: Tensor) -> None:
    if weight.dim() != 1 or x.dim() < 1 or x.shape[-1] != weight.shape[0] or not 1 <= weight.shape[0] <= MAX_WIDTH:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, weight {tuple(weight.shape)}: they must be (..., D) and (D,), D at most "
            f"{MAX_WIDTH}. Under ZeRO-3 call this in the forward of the module that owns the weight."
        )
    if residual.shape != x.shape:
        raise ValueError(f"residual has shape {tuple(residual.shape)}, x {tuple(x.shape)}: they must be equal.")
    dtypes = {x.dtype, residual.dtype, weight.dtype}
    if len(dtypes) > 1 or x.dtype not in (torch.float32, torch.bfloat16):
        names = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"x, residual and weight are {names}: all must be float32, or all bfloat16.")
    devices = {str(tensor.device) for tensor in (x, residual, weight)}
    if len(devices) > 1:
        raise ValueError(f"inputs are on {', '.join(sorted(devices))}: they must be on one device.")
