"""Matrix products of float8 operands, and the pass that makes such operands of a matrix.

    s   = 2^floor(log2(F / max |x|))      over a row, or over the whole matrix; F: the largest number of the format
    q   = round(x * s)                    in float8, to nearest, ties to even;  x ~ q / s
    y   = (qx qw^T) / sx / sw + b         summed in float32, rounded once to bf16 (scaled_product)

    e4m3   3 bits of mantissa, 2^-9 to 448: activations and weights, and gradients whose rows have scales
    e5m2   2 bits of mantissa, 2^-16 to 57,344: gradients that share one scale

Scales are powers of two, as in torchao's rowwise recipe: multiplying by one is exact, so the only error is the rounding
to float8. A row's largest number lands in (F/2, F]. So for each element, with e4m3,

    |q / s - x|  <=  2^-4 |x| + 2^-9 / 448 * max |x|

The second part is that of numbers below the normal ones, 2^-6 in q: they have no relative precision.
NaN stays NaN; the row of an infinite number becomes NaN where it is infinite, and its scale infinite: no product of
such a row is finite. A row of zeros has scale 1.

One set of numbers for both products of a weight W (D, I). The forward takes its rows, x W^T, with a scale a row. The
input's gradient, dy W, sums over the rows, so that their scales belong to dy: dy * (1 / sw) is quantised instead of dy
(`factors`), exactly what each element weighs in the sum, and W^T is stored with the same q. No second set of
scales, and forward and backward see the same weight.

Shapes   x (N, K), any N; q of the same shape, 1 byte; 1 / s, fp32, (N, 1) for rows and () for the whole. What a GPU
         multiplies must be a multiple of 16 wide.
Traffic  in units of N * K elements, rows: reads 1 of 2 bytes, writes 1 of 1; a row is read again from the cache. The
         whole: reads 1 for the maximum, then as rows. Transposed: reads 2, the scales first.
Numerics fp32 throughout. A GPU rounds to float8 itself; where it cannot, or Triton's interpreter runs, which rounds
         half up and loses NaN, integer arithmetic makes the same bits.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import ScalingType, scaled_mm

from alttrain.kernels.backend import INTERPRETED, Backend, runs_triton

Scaling = Literal["rowwise", "tensorwise"]
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
# Elements of a row that a program takes at a time: 16 a thread, two 16-byte loads of bf16.
BLOCK, ROW_WARPS = 4096, 8
# A tile of the cast, rows by columns: 128 bytes of a column of bytes, 128 of a row of bf16.
TILE_ROWS, TILE_COLUMNS, TILE_WARPS = 128, 64, 8
# Below this the largest number counts as this: its quotient must be finite in fp32.
TINY = 2.0**-100
# What a GPU's products need the widths to be multiples of.
MULTIPLE = 16
# The first compute capability that multiplies float8, and that of Triton's casts to e4m3.
CAPABILITY = (8, 9)
# Elements that the PyTorch path works on at a time.
TORCH_TILE = {"cpu": 1 << 18, "cuda": 1 << 25}


class _Format(NamedTuple):
    """A float8 format."""

    largest: float
    mantissa: int
    """Bits of mantissa that are stored."""
    bias: int
    largest_code: int


FORMATS = {E4M3: _Format(448.0, 3, 7, 0x7E), E5M2: _Format(57344.0, 2, 15, 0x7B)}


class Float8(NamedTuple):
    """A matrix in float8: values * scale."""

    values: Tensor
    """(N, K), float8, contiguous."""
    scale: Tensor
    """What the values are to be multiplied by, fp32: (N, 1), or () for the whole matrix."""


def quantise_reference(x: Tensor, scaling: Scaling, dtype: torch.dtype = E4M3) -> tuple[Tensor, Tensor]:
    """Define `quantise`: return what values * scale is, (N, K), and scale, computed in fp64 without float8 numbers."""
    form, x = FORMATS[dtype], x.double()
    largest = x.abs().amax(1, keepdim=True)
    if scaling == "tensorwise":
        largest = largest.max() if len(x) else x.new_zeros(())
    scale = torch.where(largest > 0, torch.exp2(torch.floor(torch.log2(form.largest / largest.clamp(min=TINY)))), 1.0)
    scaled = x * scale
    exponent = torch.floor(torch.log2(scaled.abs().clamp(min=2.0**-1000))).clamp(min=1 - form.bias)
    step = torch.exp2(exponent - form.mantissa)
    return torch.round(scaled / step) * step / scale, 1 / scale  # torch rounds halves to even


def quantise(
    x: Tensor,
    scaling: Scaling,
    dtype: torch.dtype = E4M3,
    *,
    factors: Tensor | None = None,
    backend: Backend = "auto",
) -> Float8:
    """Return `x`, or `x` with its columns multiplied by `factors`, in float8.

    Args:
        x: (N, K), fp32 or bf16. Rows with evenly spaced starts are read in place; others are copied first.
        scaling: rowwise: a scale for each row; tensorwise: one scale.
        dtype: e4m3 or e5m2.
        factors: K numbers, fp32, powers of two; rowwise only.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere; `triton` on CPU needs Triton's interpreter. Both give
            the same bits.

    Raises:
        ValueError: shapes, dtypes or devices are not as above.
    """
    x = _check(x, scaling, dtype, factors)
    use_triton = runs_triton(backend, x.device)
    values = torch.empty(x.shape, dtype=dtype, device=x.device)
    if scaling == "rowwise":
        scale = torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device)
        (_launch_rows if use_triton else _rows_torch)(x, factors, values, scale)
        return Float8(values, scale)
    return Float8(values, _cast_whole(x, values, use_triton, is_transposed=False))


def quantise_transposed(x: Tensor, scaling: Scaling, *, backend: Backend = "auto") -> Float8:
    """Return the transpose of what `quantise` gives: its values, (K, N) contiguous, and its scale, (N, 1) or ().

    So a scale for each row of `x` is one for each column of the values. Arguments are as in `quantise`.
    """
    x = _check(x, scaling, E4M3, None)
    use_triton = runs_triton(backend, x.device)
    values = torch.empty(x.shape[1], x.shape[0], dtype=E4M3, device=x.device)
    if scaling == "tensorwise":
        return Float8(values, _cast_whole(x, values, use_triton, is_transposed=True))
    scale = torch.empty(x.shape[0], 1, dtype=torch.float32, device=x.device)
    if use_triton:
        _launch_rows(x, None, None, scale)
        _launch_cast(x, scale, values, None, is_transposed=True)
    else:
        _rows_torch(x, None, values.t(), scale)
    return Float8(values, scale)


def scaled_product(
    a: Float8, b: Float8, bias: Tensor | None = None, *, dtype: torch.dtype = torch.bfloat16, is_fast: bool = False
) -> Tensor:
    """Return a @ b^T + bias: the product of the matrices that `a` and `b` stand for.

    Args:
        a: (N, K).
        b: (D, K), its scale as that of `a`: of rows, or of the whole. Not both e5m2.
        bias: (D,), of the dtype of the result.
        dtype: of the result; bf16 on a GPU.
        is_fast: on Hopper, let the tensor cores keep partial sums of some hundred terms, of 14 bits.

    Returns:
        (N, D). On CPU the sum is that of a float32 product.

    Raises:
        RuntimeError: on a GPU, by torch: it has no float8 products, or K or D is no multiple of 16.
    """
    if not a.values.is_cuda:
        summed = (a.values.float() @ b.values.float().t()) * a.scale * b.scale.reshape(-1)
        return (summed if bias is None else summed + bias.float()).to(dtype)
    if a.values.shape[0] == 0:
        return torch.empty(0, b.values.shape[0], dtype=dtype, device=a.values.device)
    recipe = ScalingType.RowWise if a.scale.dim() else ScalingType.TensorWise
    scale_b = b.scale.view(1, -1) if b.scale.dim() else b.scale
    product: Tensor = scaled_mm(
        a.values, b.values.t(), a.scale, recipe, scale_b, recipe, bias=bias, output_dtype=dtype, use_fast_accum=is_fast
    )
    return product


def _cast_whole(x: Tensor, values: Tensor, use_triton: bool, *, is_transposed: bool) -> Tensor:
    """Fill `values` from `x` with one scale, and return what they are to be multiplied by, ()."""
    scale = torch.empty((), dtype=torch.float32, device=x.device)
    if x.numel() == 0:
        return scale.fill_(1.0)
    largest = torch.linalg.vector_norm(x, torch.inf)
    if use_triton:
        _launch_cast(x, largest, values, scale, is_transposed=is_transposed)
        return scale
    encode = _encode_torch(largest.float(), FORMATS[values.dtype].largest)
    torch.reciprocal(encode, out=scale)
    target = values.t() if is_transposed else values
    for part in _parts(x):
        target[part] = (x[part].float() * encode).to(values.dtype)
    return scale


def _rows_torch(x: Tensor, factors: Tensor | None, values: Tensor, scale: Tensor) -> None:
    """Do what `_rows_kernel` does, some rows at a time in PyTorch."""
    largest = FORMATS[values.dtype].largest
    for part in _parts(x):
        rows = x[part].float() if factors is None else x[part].float() * factors.view(1, -1)
        encode = _encode_torch(torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True), largest)
        torch.reciprocal(encode, out=scale[part])
        values[part] = (rows * encode).to(values.dtype)


def _encode_torch(largest_value: Tensor, largest: float) -> Tensor:
    """Return the power of two that brings numbers up to `largest_value`, fp32, next to `largest`."""
    quotient = largest / largest_value.clamp(min=TINY)
    power = (quotient.view(torch.int32) & 0x7F800000).view(torch.float32)
    return torch.where(largest_value > 0, power, 1.0)


@triton.jit  # type: ignore[untyped-decorator]
def _encode(largest_value, LARGEST: tl.constexpr, TINY: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return what `_encode_torch` does."""
    quotient = tl.div_rn(tl.full(largest_value.shape, LARGEST, tl.float32), tl.maximum(largest_value, TINY))
    power = (quotient.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    return tl.where(largest_value > 0, power, 1.0)


@triton.jit
def _inverse(power):  # type: ignore[no-untyped-def]
    """Return 1 / power, exact; a GPU's own division is not."""
    return tl.div_rn(tl.full(power.shape, 1.0, tl.float32), power)


@triton.jit  # type: ignore[untyped-decorator]
def _code(x, MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST_CODE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the byte of the float8 number next to fp32 `x`, to even between two; beyond the largest it is a NaN's."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    shift: tl.constexpr = 23 - MANTISSA
    half: tl.constexpr = (1 << (shift - 1)) - 1
    normal = ((magnitude + half + ((magnitude >> shift) & 1)) >> shift) - ((127 - BIAS) << MANTISSA)
    # Below the normal numbers steps are equal: those of fp32 above a power of two, to which an addition rounds.
    power: tl.constexpr = (127 + 24 - BIAS - MANTISSA) << 23
    base = tl.full(bits.shape, power, tl.int32).to(tl.float32, bitcast=True)
    small = (magnitude.to(tl.float32, bitcast=True) + base).to(tl.int32, bitcast=True) - power
    code = tl.where(magnitude < ((128 - BIAS) << 23), small, normal)
    code = tl.where((magnitude >= 0x7F800000) | (code > LARGEST_CODE), 0x7F, code)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit  # type: ignore[untyped-decorator]
def _store(pointer, x, mask, MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST_CODE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store fp32 as float8: the GPU's cast, or, where the pointer is to bytes, integer arithmetic."""
    if pointer.dtype.element_ty == tl.uint8:
        tl.store(pointer, _code(x, MANTISSA, BIAS, LARGEST_CODE), mask)
    else:
        tl.store(pointer, x.to(pointer.dtype.element_ty), mask)


@triton.jit  # type: ignore[untyped-decorator]
def _rows_kernel(  # type: ignore[no-untyped-def]
    x_ptr, factor_ptr, q_ptr, scale_ptr, x_stride, width, LARGEST: tl.constexpr, TINY: tl.constexpr,
    MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST_CODE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * x_stride + cols, cols < width, other=0.0).to(tl.float32)
        if factor_ptr is not None:
            x *= tl.load(factor_ptr + cols, cols < width, other=0.0)
        largest = tl.maximum(largest, tl.abs(x))
    encode = _encode(tl.max(largest, 0, keep_dims=True), LARGEST, TINY)  # (1,)
    tl.store(scale_ptr + row + tl.arange(0, 1), _inverse(encode))
    if q_ptr is not None:
        for start in range(0, width, BLOCK):
            cols = start + tl.arange(0, BLOCK)
            x = tl.load(x_ptr + row * x_stride + cols, cols < width, other=0.0).to(tl.float32)
            if factor_ptr is not None:
                x *= tl.load(factor_ptr + cols, cols < width, other=0.0)
            _store(q_ptr + row * width + cols, x * encode, cols < width, MANTISSA, BIAS, LARGEST_CODE)


@triton.jit(do_not_specialize=["num_rows"])  # type: ignore[untyped-decorator]
def _cast_kernel(  # type: ignore[no-untyped-def]
    x_ptr, given_ptr, q_ptr, scale_ptr, x_stride, q_stride, num_rows, width, LARGEST: tl.constexpr, TINY: tl.constexpr,
    MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST_CODE: tl.constexpr,
    TRANSPOSED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Cast by the scale of each row, or, where `scale_ptr` is there to be written, by that of the largest number."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]  # (ROWS, 1)
    cols = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]  # (1, COLUMNS)
    mask = (rows < num_rows) & (cols < width)
    x = tl.load(x_ptr + rows * x_stride + cols, mask, other=0.0).to(tl.float32)
    if scale_ptr is None:
        encode = _inverse(tl.load(given_ptr + rows, rows < num_rows, other=1.0))  # (ROWS, 1)
    else:
        one = tl.arange(0, 1)[:, None]
        encode = _encode(tl.load(given_ptr + one).to(tl.float32), LARGEST, TINY)  # (1, 1)
        if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
            tl.store(scale_ptr + one, _inverse(encode))
    scaled = x * encode
    if TRANSPOSED:
        rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[None, :]
        cols = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[:, None]
        mask = (rows < q_stride) & (cols < width)  # of a weight, whose rows are of a number that Triton may know
        _store(q_ptr + cols * q_stride + rows, tl.trans(scaled), mask, MANTISSA, BIAS, LARGEST_CODE)
    else:
        _store(q_ptr + rows * q_stride + cols, scaled, mask, MANTISSA, BIAS, LARGEST_CODE)


def _launch_rows(x: Tensor, factors: Tensor | None, values: Tensor | None, scale: Tensor) -> None:
    num_rows, width = x.shape
    if num_rows == 0:
        return
    form = FORMATS[E4M3 if values is None else values.dtype]
    pointers = (x, factors, None if values is None else _bytes(values), scale)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        _rows_kernel[(num_rows,)](
            *pointers, x.stride(0), width, **_constants(form), BLOCK=BLOCK, num_warps=ROW_WARPS
        )  # fmt: skip


def _launch_cast(x: Tensor, given: Tensor, values: Tensor, scale: Tensor | None, *, is_transposed: bool) -> None:
    num_rows, width = x.shape
    if x.numel() == 0:
        return
    grid = (triton.cdiv(num_rows, TILE_ROWS), triton.cdiv(width, TILE_COLUMNS))
    tile = {"TRANSPOSED": is_transposed, "ROWS": TILE_ROWS, "COLUMNS": TILE_COLUMNS, "num_warps": TILE_WARPS}
    sizes = (x.stride(0), num_rows if is_transposed else width, num_rows, width)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        _cast_kernel[grid](x, given, _bytes(values), scale, *sizes, **_constants(FORMATS[values.dtype]), **tile)


def _constants(form: _Format) -> dict[str, float]:
    return {
        "LARGEST": form.largest, "TINY": TINY, "MANTISSA": form.mantissa, "BIAS": form.bias,
        "LARGEST_CODE": form.largest_code,
    }  # fmt: skip


def _bytes(values: Tensor) -> Tensor:
    """Return float8 values as the kernels write them: as they are, or, where Triton cannot cast, their bytes."""
    casts = values.is_cuda and not INTERPRETED and torch.cuda.get_device_capability(values.device) >= CAPABILITY
    return values if casts else values.view(torch.uint8)


def _parts(x: Tensor) -> Iterator[slice]:
    step = max(1, TORCH_TILE["cuda" if x.is_cuda else "cpu"] // x.shape[1])
    return (slice(first, first + step) for first in range(0, x.shape[0], step))


def _check(x: Tensor, scaling: str, dtype: torch.dtype, factors: Tensor | None) -> Tensor:
    """Return `x` with neighbouring columns side by side."""
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: it must be (N, K), K > 0.")
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"x is {x.dtype}: it must be float32 or bfloat16.")
    if scaling not in ("rowwise", "tensorwise") or dtype not in FORMATS:
        raise ValueError(f"scaling is {scaling!r}, dtype {dtype}: they must be rowwise or tensorwise, e4m3 or e5m2.")
    if factors is not None:
        if scaling != "rowwise" or factors.numel() != x.shape[1] or factors.dtype != torch.float32:
            found = f"{factors.numel()} of {factors.dtype}, {scaling}"
            raise ValueError(f"factors are {found}: they must be {x.shape[1]} of float32, rowwise.")
        if factors.device != x.device or not factors.is_contiguous():
            raise ValueError(f"factors are on {factors.device}: they must be contiguous on {x.device}.")
    return x if x.stride(1) == 1 else x.contiguous()
