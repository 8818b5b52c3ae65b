"""Both paths of the norm against fp64, never further from it than twice transformers' own norm in the same dtype."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from alttrain.kernels import rms_norm as module
from alttrain.kernels.backend import Backend
from alttrain.kernels.rms_norm import (
    add_rms_norm,
    add_rms_norm_reference,
    rms_norm,
    rms_norm_and_input,
    rms_norm_reference,
)
from skips import NO_GPU

DTYPES = [torch.float32, torch.bfloat16]
PATHS = pytest.mark.parametrize("backend", ["triton", "torch"])
EPS = 1e-6
# 128: Qwen3's heads; 1: a mean of one; odd widths; 130 rows are more than the tiles of all programs of one wave.
SHAPES = [(1, 128), (130, 128), (2, 1), (19, 47), (3, 1000), (5, 1536), (2, 5120), (1, 8192)]


class Inputs(NamedTuple):
    x: Tensor
    residual: Tensor
    weight: Tensor
    dy: Tensor
    dh: Tensor


class Result(NamedTuple):
    y: Tensor
    h: Tensor
    dx: Tensor
    dresidual: Tensor
    dweight: Tensor


def make_inputs(num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    generator = torch.Generator().manual_seed(num_rows * width)
    rows = [torch.randn(num_rows, width, generator=generator) * scale for scale in (0.5, 3.0, 0.37, 1.0)]
    weight = 1 + 0.3 * torch.randn(width, generator=generator)
    x, residual, dy, dh = rows
    return Inputs(*(tensor.to(device, dtype) for tensor in (x, residual, weight, dy, dh)))


def differentiate(norm: Callable[..., tuple[Tensor, Tensor]], inputs: Inputs, dtype: torch.dtype) -> Result:
    x, residual, weight = (tensor.detach().to(dtype).requires_grad_() for tensor in inputs[:3])
    y, h = norm(x, residual, weight)
    upstream = (inputs.dy.to(dtype), inputs.dh.to(dtype))
    return Result(y.detach(), h.detach(), *torch.autograd.grad((y, h), (x, residual, weight), upstream))


def ours(inputs: Inputs, backend: Backend) -> Result:
    norm = lambda x, residual, weight: add_rms_norm(x, residual, weight, EPS, backend=backend)  # noqa: E731
    return differentiate(norm, inputs, inputs.x.dtype)


def exact(inputs: Inputs) -> Result:
    return differentiate(lambda *tensors: add_rms_norm_reference(*tensors, EPS), inputs, torch.float64)


def transformers_own(inputs: Inputs) -> Result:
    def norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        h = residual + x
        return torch.func.functional_call(Qwen2RMSNorm(len(weight), EPS), {"weight": weight}, (h,)), h

    return differentiate(norm, inputs, inputs.x.dtype)


def error(result: Tensor, truth: Tensor) -> float:
    return float((result.double() - truth).norm() / truth.norm())


@pytest.mark.usefixtures("poison")
@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(
    shape: tuple[int, int], dtype: torch.dtype, backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs(*shape, dtype, device)
    truth, own, result = exact(inputs), transformers_own(inputs), ours(inputs, backend)
    truncated = backend == "triton" and device.type == "cpu" and dtype == torch.bfloat16
    for name, wanted, theirs, value in zip(Result._fields, truth, own, result, strict=True):
        assert value.dtype == dtype
        if truncated:
            # The interpreter cuts off where a GPU rounds; y is rounded three times on its way.
            assert error(value, wanted) <= (1.5 if name == "y" else 1) * torch.finfo(dtype).eps, name
        else:
            # An error of theirs that is 0 by luck must not be the measure.
            assert error(value, wanted) <= 2 * error(theirs, wanted) + 4 * torch.finfo(torch.float32).eps, name
    assert torch.equal(result.dx, result.dresidual)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_element_of_bf16_is_within_its_roundings(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(33, 256, dtype, device)
    y = rms_norm(inputs.x, inputs.weight, EPS, backend=backend)
    truth = rms_norm_reference(inputs.x.double(), inputs.weight.double(), EPS)
    roundings = 2 if dtype == torch.bfloat16 else 8
    assert ((y.double() - truth).abs() <= roundings * torch.finfo(dtype).eps * truth.abs()).all()


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_is_add_rms_norm_of_a_residual_of_zero(
    dtype: torch.dtype, backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs(21, 96, dtype, device)
    inputs = inputs._replace(residual=torch.zeros_like(inputs.x), dh=torch.zeros_like(inputs.x))
    x, weight = (tensor.detach().clone().requires_grad_() for tensor in (inputs.x, inputs.weight))
    y = rms_norm(x, weight, EPS, backend=backend)
    dx, dweight = torch.autograd.grad(y, (x, weight), inputs.dy)
    wanted = ours(inputs, backend)
    assert torch.equal(y, wanted.y)
    assert torch.equal(dx, wanted.dx)
    assert torch.equal(dweight, wanted.dweight)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_that_returns_its_input_adds_up_both_gradients(
    dtype: torch.dtype, backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs(21, 96, dtype, device)
    inputs = inputs._replace(residual=torch.zeros_like(inputs.x))
    x, weight = (tensor.detach().clone().requires_grad_() for tensor in (inputs.x, inputs.weight))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y, h = rms_norm_and_input(x, weight, EPS, backend=backend)
    assert h.data_ptr() == x.data_ptr()
    assert sum(tensor.nbytes for tensor in kept) == x.nbytes + weight.nbytes + 21 * 4
    dx, dweight = torch.autograd.grad((y, h), (x, weight), (inputs.dy, inputs.dh))
    wanted = ours(inputs, backend)
    for value, tensor in zip((y, h, dx, dweight), (wanted.y, wanted.h, wanted.dx, wanted.dweight), strict=True):
        assert torch.equal(value, tensor)


@PATHS
@pytest.mark.parametrize("used", ["norm", "input"])
def test_of_a_norm_and_its_input_one_may_be_unused(used: str, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(5, 40, torch.float32, device)
    x = inputs.x.clone().requires_grad_()
    y, h = rms_norm_and_input(x, inputs.weight, EPS, backend=backend)
    (dx,) = torch.autograd.grad(y if used == "norm" else h, x, inputs.dy)
    (wanted,) = torch.autograd.grad(rms_norm(x, inputs.weight, EPS, backend=backend), x, inputs.dy)
    assert torch.equal(dx, wanted if used == "norm" else inputs.dy)


@PATHS
def test_the_norm_is_of_the_stream_as_it_is_kept(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(21, 96, torch.bfloat16, device)
    result = ours(inputs, backend)
    assert torch.equal(result.y, rms_norm(result.h, inputs.weight, EPS, backend=backend))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_torch_path_has_the_bits_of_transformers(dtype: torch.dtype, device: torch.device) -> None:
    inputs = make_inputs(70, 129, dtype, device)
    result, own = ours(inputs, backend="torch"), transformers_own(inputs)
    assert torch.equal(result.h, own.h)
    assert torch.equal(result.y, own.y)


@PATHS
@pytest.mark.parametrize("reader", ["y", "h"])
def test_one_of_two_outputs_is_read(reader: str, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    silent = {"y": "dh", "h": "dy"}[reader]
    wanted = exact(inputs._replace(**{silent: torch.zeros_like(inputs.dy)}))
    x, residual, weight = (tensor.detach().clone().requires_grad_() for tensor in inputs[:3])
    outputs = dict(zip("yh", add_rms_norm(x, residual, weight, EPS, backend=backend), strict=True))
    outputs[reader].backward(inputs.dy if reader == "y" else inputs.dh)
    assert x.grad is not None
    assert error(x.grad, wanted.dx) < 1e-6
    assert residual.grad is not None
    assert error(residual.grad, wanted.dresidual) < 1e-6
    if reader == "y":
        assert weight.grad is not None
        assert error(weight.grad, wanted.dweight) < 1e-6
    else:
        assert weight.grad is None


@PATHS
@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_a_frozen_input_gets_no_gradient(frozen: str, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    leaves = {"x": inputs.x.clone(), "weight": inputs.weight.clone()}
    trained = "weight" if frozen == "x" else "x"
    leaves[trained].requires_grad_()
    rms_norm(**leaves, eps=EPS, backend=backend).backward(inputs.dy)
    both = {name: tensor.detach().clone().requires_grad_() for name, tensor in leaves.items()}
    rms_norm(**both, eps=EPS, backend=backend).backward(inputs.dy)
    assert leaves[frozen].grad is None
    assert torch.equal(leaves[trained].grad, both[trained].grad)


@PATHS
def test_strided_rows(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(12, 32, torch.float32, device)
    wanted = ours(inputs, backend)
    wide = torch.full((12, 3, 32), torch.nan, device=device)
    # A slice of a wider row, and rows that no view can give even spacing: heads of a fused projection, transposed.
    uneven = torch.full((2, 9, 3, 32), torch.nan, device=device)
    layouts = [wide[:, 1], wide[:, 2], uneven[:, :2].transpose(1, 2), wide[:, 0].t().contiguous().t()]
    for layout in layouts:
        x, residual, dy, dh = (tensor.view(layout.shape) for tensor in (inputs.x, inputs.residual, *inputs[3:]))
        strided = torch.empty_strided(layout.shape, layout.stride(), device=device)
        result = ours(Inputs(layout.copy_(x), residual, inputs.weight, strided.copy_(dy), dh), backend)
        for value, tensor in zip(result, wanted, strict=True):
            assert torch.equal(value.reshape(tensor.shape), tensor)
    expanded = inputs._replace(dy=torch.ones((), device=device).expand(12, 32), weight=inputs.weight[::1])
    assert error(ours(expanded, backend).dx, exact(expanded).dx) < 1e-6


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    result = ours(make_inputs(0, 64, dtype, device), backend)
    assert [tuple(tensor.shape) for tensor in result] == [(0, 64)] * 4 + [(64,)]
    assert not result.dweight.any()


@PATHS
def test_a_row_of_zeros_is_zero_and_finite(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(4, 64, torch.float32, device)
    inputs = inputs._replace(x=torch.zeros_like(inputs.x), residual=torch.zeros_like(inputs.x))
    result = ours(inputs, backend)
    assert not result.y.any()
    assert error(result.dx, exact(inputs).dx) < 1e-6  # 1 / sqrt(eps) times dy


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_bitwise_repeatable(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(150, 128, dtype, device)
    pairs = zip(ours(inputs, backend), ours(inputs, backend), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


@PATHS
def test_only_h_and_4_bytes_a_row_are_kept(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(16, 64, torch.bfloat16, device)
    x, residual, weight = (tensor.requires_grad_() for tensor in inputs[:3])
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        _, h = add_rms_norm(x, residual, weight, EPS, backend=backend)
    assert {tensor.data_ptr() for tensor in kept} >= {h.data_ptr(), weight.data_ptr()}
    assert sum(tensor.nbytes for tensor in kept) == h.nbytes + weight.nbytes + 16 * 4


def test_gradcheck_of_the_reference() -> None:
    x, residual, weight, _, _ = make_inputs(3, 5, torch.float64, torch.device("cpu"))
    leaves = [tensor.requires_grad_() for tensor in (x, residual, weight)]
    assert torch.autograd.gradcheck(lambda *tensors: add_rms_norm_reference(*tensors, EPS), leaves)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": torch.ones(0)}, "x has shape (4, 8), weight (0,): they must be (..., D) and (D,), D at most 8192"),
        ({"weight": torch.ones(9)}, "x has shape (4, 8), weight (9,): they must be (..., D) and (D,), D at most 8192"),
        ({"x": torch.ones(())}, "x has shape (), weight (8,): they must be (..., D) and (D,), D at most 8192"),
        ({"residual": torch.ones(3, 8)}, "residual has shape (3, 8), x (4, 8): they must be equal."),
        (
            {"weight": torch.ones(8).bfloat16()},
            "x, residual and weight are torch.bfloat16, torch.float32: all must be float32, or all bfloat16.",
        ),
        (
            {"x": torch.ones(4, 8).half(), "residual": torch.ones(4, 8).half(), "weight": torch.ones(8).half()},
            "x, residual and weight are torch.float16: all must be float32, or all bfloat16.",
        ),
        ({"residual": torch.ones(4, 8, device="meta")}, "inputs are on cpu, meta: they must be on one device."),
    ],
)
def test_error_texts(changes: dict[str, Tensor], message: str) -> None:
    given = {"x": torch.ones(4, 8), "residual": torch.ones(4, 8), "weight": torch.ones(8)} | changes
    with pytest.raises(ValueError) as raised:
        add_rms_norm(**given, eps=EPS)
    assert str(raised.value).startswith(message)


def test_a_width_beyond_the_tile_is_refused() -> None:
    width = module.MAX_WIDTH + 1
    with pytest.raises(ValueError, match=r"D at most 8192"):
        rms_norm(torch.ones(1, width), torch.ones(width), EPS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_offsets_beyond_32_bits() -> None:
    # 2^31 elements and a little: the last rows stand at offsets that an int32 would wrap.
    num_rows, width = (1 << 18) + 8, 8192
    x = torch.zeros(num_rows, width, dtype=torch.bfloat16, device="cuda")
    x[-4:] = torch.randn(4, width, device="cuda")
    weight = torch.ones(width, dtype=torch.bfloat16, device="cuda")
    y = rms_norm(x, weight, EPS)
    assert torch.equal(y[-4:], rms_norm(x[-4:].clone(), weight, EPS))
    assert not y[:-4].any()
