"""What counts as right: measured against PyTorch's own error, over the whole and in the worst row."""

import pytest
import torch
from torch import Tensor

from alttrain.engine.proof.judge import errors, objection, share_of_different_bits

BF16, FP32 = torch.bfloat16, torch.float32


def drawn(dtype: torch.dtype = FP32, rows: int = 200) -> tuple[Tensor, Tensor]:
    """Return truth in fp64, and the same rounded to `dtype`."""
    truth = torch.randn(rows, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return truth, truth.to(dtype)


def said(ours: Tensor, own: Tensor, truth: Tensor, **options: bool) -> str:
    return objection("y", ours, own, truth, **options)[0]


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_what_is_as_near_as_pytorch_is_right(dtype: torch.dtype) -> None:
    truth, own = drawn(dtype)
    assert said(own.clone(), own, truth) == ""
    assert objection("y", own, own, truth)[1] == pytest.approx(float(truth.norm()))


@pytest.mark.parametrize(("dtype", "factor"), [(FP32, 1 + 1e-5), (BF16, 1.01)])
def test_all_a_little_wrong(dtype: torch.dtype, factor: float) -> None:
    truth, own = drawn(dtype)
    assert said((truth * factor).to(dtype), own, truth).startswith("y is off by 1.")


@pytest.mark.parametrize(("dtype", "factor"), [(FP32, 1 + 2e-5), (BF16, 1.02)])
def test_one_row_a_little_wrong(dtype: torch.dtype, factor: float) -> None:
    """A row's error drowns in the whole of ten thousand."""
    truth, own = drawn(dtype, 10_000)
    ours = truth.clone()
    ours[-1] *= factor
    assert said(ours.to(dtype), own, truth).startswith("a row of y is off by ")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_is_wrong(value: float) -> None:
    truth, own = drawn()
    ours = own.clone()
    ours[3, 3] = value
    assert said(ours, own, truth).startswith("y is off by inf, ")


def test_a_row_that_is_zero_counts_against_the_mean_row() -> None:
    truth, own = drawn()
    truth[5] = own[5] = 0.0
    assert said(own.clone(), own, truth) == ""
    ours = own.clone()
    ours[5] = 1e-3
    assert "off by" in said(ours, own, truth)


def test_a_row_that_is_small_by_cancellation_counts_against_the_mean_row_too() -> None:
    truth, own = drawn(rows=10_000)
    truth[5] *= 1e-4
    own[5] = truth[5].float()
    ours = own.clone()
    ours[5] += 1e-6  # a hundredth of the row, a millionth of another
    assert "a row of y is off by" in said(ours, own, truth)
    assert said(ours, own, truth, cancels=True) == ""
    ours[5] += 1e-3
    assert said(ours, own, truth, cancels=True) != ""


def test_zeros_must_be_zeros_where_all_is_zero() -> None:
    truth, own = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 4)
    assert said(own.clone(), own, truth) == ""
    assert said(own + 1e-30, own, truth) == "y is off by inf, PyTorch's by 0.0e+00"


def test_pytorch_must_be_sane_too() -> None:
    """On a device that computes neither right, the kernel is no better than what it is measured by."""
    truth, own = drawn()
    assert said(own * 2, own * 2, truth) == "PyTorch's own y is off by 1.0e+00"


def test_cutting_off_is_allowed_where_it_is_known() -> None:
    truth, own = drawn(BF16)
    cut = ((truth * 0.998).float().view(torch.int32) & -65536).view(FP32).to(BF16)
    assert said(cut, own, truth) != ""
    assert said(cut, own, truth, truncates=True) == ""


@pytest.mark.parametrize("wrong", [torch.zeros(3, 3), torch.zeros(3, 4, dtype=BF16)])
def test_another_shape_or_dtype_is_wrong(wrong: Tensor) -> None:
    assert "and not (3, 4) torch.float32" in said(wrong, torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.float64))


def test_integers_are_equal_or_not() -> None:
    numbers = torch.arange(6)
    assert said(numbers.clone(), numbers, numbers) == ""
    assert said(numbers.flip(0), numbers, numbers) == "y differs in 6 of 6 places"


def test_nothing_is_right() -> None:
    assert said(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.float64)) == ""


def test_a_tensor_is_measured_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, own = drawn(BF16)
    whole = errors(own, truth)
    monkeypatch.setattr("alttrain.engine.proof.judge.PART", 64 * 7)
    assert errors(own, truth) == pytest.approx(whole)


def test_bits_are_counted_by_element() -> None:
    own = torch.ones(10, dtype=BF16)
    ours = own.clone()
    assert share_of_different_bits(ours, own) == 0.0
    ours[:2] = torch.nextafter(ours[:2].float(), torch.tensor(2.0)).to(BF16) + 0.01
    assert share_of_different_bits(ours, own) == pytest.approx(0.2)
