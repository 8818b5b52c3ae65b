"""Whether a kernel's results are right: never further from the truth than twice what PyTorch's are.

Three computations of the same thing are compared: the kernel's, PyTorch's in the same dtype, and the truth, in fp64 (or
in fp32 where the results are bf16 and fp64 would be slow). Two errors of each must hold:
- the whole tensor's, |result - truth| / |truth|: at most twice PyTorch's own and 4 roundings of fp32 more;
- its worst row's, so that one wrong row among thousands shows: at most twice PyTorch's worst and a fraction of a
  rounding more (ROW_ROUNDINGS). The error of a row that is zero in truth counts against the mean row. So does that of
  a small one where rows are small because large terms cancel, and which of them cancel most is chance.
PyTorch's own error has a limit as well (SANE): on a device that computes neither right, neither passes.
Integers must be equal. Under Triton's interpreter, which cuts bf16 off where a GPU rounds it, the factor is 4, not 2.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

FACTOR, FACTOR_TRUNCATED = 2.0, 4.0
WHOLE_ROUNDINGS = 4 * torch.finfo(torch.float32).eps
# A quarter of a rounding of bf16; in fp32, which sums long rows in many orders, 64.
ROW_ROUNDINGS = {torch.bfloat16: 2**-9, torch.float32: 2**-17}
SANE = {torch.bfloat16: 0.05, torch.float32: 1e-3}
# Elements that are compared at a time: the fp64 of a whole gradient of the head would take gigabytes.
PART = 1 << 24
# How an objection begins that is not to the kernel.
TORCH_IS_OFF = "PyTorch's own "
Results = Mapping[str, Tensor]


class Errors(NamedTuple):
    """Of one tensor: its relative error, that of its worst row, and the norm of the truth."""

    whole: float
    worst_row: float
    truth: float


def objection(
    name: str, ours: Tensor, own: Tensor, truth: Tensor, *, truncates: bool = False, cancels: bool = False
) -> tuple[str, float]:
    """Return what is wrong with `ours`, empty where nothing is, and the norm of the truth.

    Args:
        name: what the tensor is, for the sentence.
        ours: the kernel's result; 1-D counts as one row, otherwise the last dimension is a row.
        own: PyTorch's, of the same shape and dtype.
        truth: the same in a higher precision; of integers, PyTorch's again.
        truncates: whether the kernel's stores of bf16 cut off, as Triton's interpreter does.
        cancels: whether rows may be small by cancellation.
    """
    if ours.shape != truth.shape or ours.dtype != own.dtype:
        return f"{name} is {tuple(ours.shape)} {ours.dtype} and not {tuple(truth.shape)} {own.dtype}", 0.0
    if not ours.is_floating_point():
        different = int((ours != truth).sum())
        return (f"{name} differs in {different} of {ours.numel()} places" if different else ""), 0.0
    if ours.numel() == 0:
        return "", 0.0
    found, theirs = errors(ours, truth, cancels), errors(own, truth, cancels)
    if not theirs.whole <= SANE[own.dtype]:
        return f"{TORCH_IS_OFF}{name} is off by {theirs.whole:.1e}", theirs.truth
    factor = FACTOR_TRUNCATED if truncates and ours.dtype == torch.bfloat16 else FACTOR
    if not found.whole <= factor * theirs.whole + WHOLE_ROUNDINGS:
        return f"{name} is off by {found.whole:.1e}, PyTorch's by {theirs.whole:.1e}", found.truth
    if not found.worst_row <= factor * theirs.worst_row + ROW_ROUNDINGS[ours.dtype]:
        return f"a row of {name} is off by {found.worst_row:.1e}, PyTorch's by {theirs.worst_row:.1e}", found.truth
    return "", found.truth


def share_of_different_bits(ours: Tensor, own: Tensor) -> float:
    """Return in how many of their places two tensors differ, in [0, 1]."""
    return float((ours.view(torch.uint8) != own.view(torch.uint8)).view(ours.numel(), -1).any(1).double().mean())


def errors(value: Tensor, truth: Tensor, cancels: bool = False) -> Errors:
    """Return the relative errors of `value`; a value that is no number is infinitely wrong. See `objection`."""
    parts = [_squares(part.double(), exact.double()) for part, exact in _parts(value, truth)]
    differences, sizes = (torch.cat(squares) for squares in zip(*parts, strict=True))  # (num_rows,)
    mean = sizes.mean()
    worst = _ratio(differences, sizes.clamp(min=mean) if cancels else torch.where(sizes > 0, sizes, mean)).max()
    whole = _ratio(differences.sum(), sizes.sum())
    numbers: list[float] = torch.stack([whole, worst, sizes.sum()]).sqrt().tolist()
    return Errors(*numbers)


def _squares(value: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    difference = (value - exact).square().sum(1)
    return torch.where(difference.isfinite(), difference, torch.inf), exact.square().sum(1)


def _ratio(difference: Tensor, size: Tensor) -> Tensor:
    return torch.where(difference > 0, difference / size, 0.0)


def _parts(value: Tensor, truth: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    width = value.shape[-1] if value.dim() else 1
    rows = max(1, PART // width)
    yield from zip(*(torch.split(x.reshape(-1, width), rows) for x in (value, truth)), strict=True)
