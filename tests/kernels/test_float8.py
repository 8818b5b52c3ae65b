"""Float8 operands are the definition's to the bit, and their products are within what the formats imply."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from alttrain.kernels import float8
from alttrain.kernels.backend import Backend
from alttrain.kernels.float8 import (
    E4M3,
    E5M2,
    FORMATS,
    Float8,
    Scaling,
    quantise,
    quantise_reference,
    quantise_transposed,
    scaled_product,
)
from skips import NO_GPU

# The interpreter divides by a scale of 0 where a number is infinite, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")
PATHS = pytest.mark.parametrize("backend", ["triton", "torch"])
SCALINGS = pytest.mark.parametrize("scaling", get_args(Scaling))
FORMAT = pytest.mark.parametrize("dtype", [E4M3, E5M2], ids=["e4m3", "e5m2"])
# 4,096 columns are one turn of a program's loop, 128 rows by 64 columns a tile.
SHAPES = [(1, 1), (3, 47), (130, 65), (128, 64), (5, 4100)]
NAN, INFINITE = float("nan"), float("inf")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def hard(num_rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return rows of very different size, with an outlier, a row of zeros and one that fades by 20 orders."""
    x = draw(num_rows, width, seed=width) * torch.logspace(-9, 5, num_rows)[:, None]
    x[num_rows // 2, width // 2] = 3e7
    x[-1] *= torch.logspace(0, -20, width)
    x[num_rows // 3] = 0
    return x.to(dtype)


def numbers(x: Float8) -> Tensor:
    return x.values.double() * x.scale.double()


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


@pytest.mark.usefixtures("poison")
@PATHS
@SCALINGS
@FORMAT
@pytest.mark.parametrize("source", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_operands_are_the_definition(
    shape: tuple[int, int], source: torch.dtype, dtype: torch.dtype, scaling: Scaling, backend: Backend,
    device: torch.device,
) -> None:  # fmt: skip
    x = hard(*shape, source).to(device)
    found = quantise(x, scaling, dtype, backend=backend)
    wanted, scale = quantise_reference(x, scaling, dtype)
    assert found.values.dtype == dtype
    assert torch.equal(found.scale.double(), scale)
    assert torch.equal(numbers(found), wanted)


@pytest.mark.usefixtures("poison")
@PATHS
@SCALINGS
@pytest.mark.parametrize("shape", SHAPES)
def test_the_transpose_has_the_same_numbers(
    shape: tuple[int, int], scaling: Scaling, backend: Backend, device: torch.device
) -> None:
    x = hard(*shape, torch.bfloat16).to(device)
    plain, turned = quantise(x, scaling, backend=backend), quantise_transposed(x, scaling, backend=backend)
    assert turned.values.is_contiguous()
    assert same_bits(turned.values.t(), plain.values)
    assert torch.equal(turned.scale, plain.scale)


@PATHS
@FORMAT
def test_every_bfloat16_is_rounded_to_the_nearest(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    form = FORMATS[dtype]
    x = torch.cat([every[every.abs() <= form.largest], torch.tensor([form.largest])]).view(1, -1).to(device)
    found = quantise(x, "rowwise", dtype, backend=backend)
    assert found.scale.item() == 1
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).double()
    codes = codes[codes.isfinite()].unique().to(device)
    nearest = (x.double().view(-1, 1) - codes).abs().amin(1)
    assert torch.equal((found.values.double() - x.double()).abs().view(-1), nearest)
    assert set(found.values.double().unique().tolist()) == set(codes.tolist())


@PATHS
@FORMAT
@SCALINGS
def test_each_element_is_within_the_bound_of_its_format(
    dtype: torch.dtype, scaling: Scaling, backend: Backend, device: torch.device
) -> None:
    x = hard(33, 300, torch.bfloat16).to(device)
    form = FORMATS[dtype]
    largest = x.double().abs().amax(1, keepdim=True) if scaling == "rowwise" else x.double().abs().max()
    smallest = 2.0 ** (1 - form.bias - form.mantissa)
    bound = 2.0 ** -(form.mantissa + 1) * x.double().abs() + smallest / form.largest * largest
    assert ((numbers(quantise(x, scaling, dtype, backend=backend)) - x.double()).abs() <= bound).all()


@PATHS
def test_factors_multiply_columns(backend: Backend, device: torch.device) -> None:
    x, factors = draw(7, 90, dtype=torch.bfloat16).to(device), torch.exp2(torch.arange(-45, 45)).float().to(device)
    found = quantise(x, "rowwise", factors=factors.view(-1, 1), backend=backend)
    wanted, scale = quantise_reference(x.double() * factors, "rowwise")
    assert torch.equal(numbers(found), wanted)
    assert torch.equal(found.scale.double(), scale)


@PATHS
@SCALINGS
@FORMAT
@pytest.mark.parametrize("bad", [NAN, -NAN, INFINITE, -INFINITE])
def test_what_is_not_finite_comes_out_again(
    bad: float, dtype: torch.dtype, scaling: Scaling, backend: Backend, device: torch.device
) -> None:
    x, weight = draw(4, 64).to(device), draw(16, 64, seed=1).to(device)
    x[2, 5] = bad
    product = numbers(quantise(x, scaling, dtype, backend=backend)) @ numbers(quantise(weight, scaling)).t()
    assert not product[2].isfinite().any()
    turned = quantise_transposed(x, scaling, backend=backend)
    assert not (turned.values.double() * turned.scale.double().reshape(1, -1))[:, 2].isfinite().all()
    if scaling == "rowwise":  # and other rows know nothing of it
        assert product[[0, 1, 3]].isfinite().all()


@PATHS
def test_strided_rows_are_read_in_place_and_columns_are_copied(backend: Backend, device: torch.device) -> None:
    wide = draw(9, 200).to(device)
    for x in (wide[:, :70], wide[::2, 3:], wide.t()):
        for scaling in get_args(Scaling):
            assert same_bits(
                quantise(x, scaling, backend=backend).values, quantise(x.contiguous(), scaling, backend=backend).values
            )


@PATHS
@SCALINGS
def test_no_rows_give_none(scaling: Scaling, backend: Backend, device: torch.device) -> None:
    x = torch.empty(0, 32, device=device)
    found = quantise(x, scaling, backend=backend)
    assert found.values.shape == (0, 32)
    assert scaled_product(found, quantise(draw(16, 32).to(device), scaling)).shape == (0, 16)
    assert quantise_transposed(x, scaling, backend=backend).values.shape == (32, 0)


@SCALINGS
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_product_is_within_what_its_operands_imply(scaling: Scaling, has_bias: bool, device: torch.device) -> None:
    """|error| <= |dx| |w|' + |x| |dw|' + |dx| |dw|', and the roundings of a sum of float32 and of the result."""
    x, weight = hard(33, 96, torch.bfloat16).to(device), draw(48, 96, seed=3, dtype=torch.bfloat16).to(device)
    weight[7] *= 1000
    weight[8] = 0
    bias = draw(48, seed=4, dtype=torch.bfloat16).to(device) if has_bias else None
    left, right = quantise(x, scaling), quantise(weight, scaling)
    found = scaled_product(left, right, bias)
    assert found.dtype == torch.bfloat16
    x, weight = x.double(), weight.double()
    wanted = x @ weight.t() + (0 if bias is None else bias.double())
    dx, dw = (numbers(left) - x).abs(), (numbers(right) - weight).abs()
    implied = dx @ weight.abs().t() + x.abs() @ dw.t() + dx @ dw.t()
    summing = 96 * 2.0**-23 * (x.abs() + dx) @ (weight.abs() + dw).t()
    assert ((found.double() - wanted).abs() <= implied + 2 * summing + 2.0**-8 * (wanted.abs() + implied)).all()


@SCALINGS
def test_of_usual_numbers_a_product_is_off_by_some_percent(scaling: Scaling, device: torch.device) -> None:
    """Each of two operands is off by 2^-4 / sqrt(3) at most in the mean square, and by about 0.7 of that."""
    x, weight = draw(64, 512).to(device), draw(96, 512, seed=1).to(device)
    found = scaled_product(quantise(x, scaling), quantise(weight, scaling)).double()
    wanted = x.double() @ weight.double().t()
    error = float((found - wanted).norm() / wanted.norm())
    assert 0.02 < error < 2**-4 * (2 / 3) ** 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's product is torch's")
@SCALINGS
def test_a_product_on_cpu_is_torchs_scaled_product(scaling: Scaling) -> None:
    from torch.nn.functional import ScalingType, scaled_mm

    left, right = quantise(hard(9, 64, torch.float32), scaling), quantise(draw(32, 64), scaling)
    recipe = ScalingType.RowWise if scaling == "rowwise" else ScalingType.TensorWise
    scales = (left.scale, right.scale.view(1, -1)) if scaling == "rowwise" else (left.scale, right.scale)
    theirs = scaled_mm(left.values, right.values.t(), scales[0], recipe, scales[1], recipe)
    ours = scaled_product(left, right)
    torch.testing.assert_close(ours, theirs, atol=1e-30, rtol=2**-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@SCALINGS
def test_a_product_on_a_gpu_is_that_on_cpu(scaling: Scaling) -> None:
    x, weight = hard(33, 96, torch.bfloat16).cuda(), draw(48, 96, dtype=torch.bfloat16).cuda()
    left, right = quantise(x, scaling), quantise(weight, scaling)
    here = scaled_product(*(Float8(part.values.cpu(), part.scale.cpu()) for part in (left, right)))
    size = numbers(left).abs() @ numbers(right).abs().t()
    for is_fast, share in ((False, 2**-8), (True, 2**-7)):
        found = scaled_product(left, right, is_fast=is_fast)
        assert ((found.cpu().double() - here.double()).abs() <= share * size.cpu()).all()


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        (draw(8), {}, r"shape \(8,\): it must be \(N, K\)"),
        (draw(2, 8).double(), {}, "torch.float64: it must be float32 or bfloat16"),
        (draw(2, 8), {"dtype": torch.bfloat16}, "they must be rowwise or tensorwise, e4m3 or e5m2"),
        (draw(2, 8), {"factors": torch.ones(7)}, "factors are 7 of torch.float32, rowwise: they must be 8"),
        (draw(2, 8), {"scaling": "tensorwise", "factors": torch.ones(8)}, "tensorwise: they must be 8"),
        (draw(2, 8), {"factors": torch.ones(16)[::2]}, "they must be contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(x: Tensor, options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        quantise(x, **({"scaling": "rowwise"} | options))  # type: ignore[arg-type]


def test_a_wrong_scale_is_seen_by_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests are for: without scales, small numbers vanish."""
    monkeypatch.setattr(float8, "_encode_torch", lambda largest_value, largest: torch.ones_like(largest_value))
    with pytest.raises(AssertionError):
        test_each_element_is_within_the_bound_of_its_format(E4M3, "rowwise", "torch", torch.device("cpu"))
