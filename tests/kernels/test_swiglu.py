"""Both paths of SwiGLU against fp64, never further from it than twice PyTorch's own in the same dtype."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, silu
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

from alttrain.kernels.backend import Backend
from alttrain.kernels.swiglu import swiglu, swiglu_linear, swiglu_reference
from skips import NO_GPU

DTYPES = [torch.float32, torch.bfloat16]
PATHS = pytest.mark.parametrize("backend", ["triton", "torch"])
IN_PLACE = pytest.mark.parametrize("in_place", [False, True], ids=["", "in place"])
# 1024 elements are one program's.
SHAPES = [(1, 1), (3, 47), (16, 64), (2, 1024), (5, 1500), (1, 8960)]
OUT_WIDTH = 24


class Inputs(NamedTuple):
    gate: Tensor
    up: Tensor
    dy: Tensor
    weight: Tensor
    dz: Tensor


def make_inputs(num_rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    generator = torch.Generator().manual_seed(num_rows * width)
    shapes = [(num_rows, width)] * 3 + [(OUT_WIDTH, width), (num_rows, OUT_WIDTH)]
    gate, up, dy, weight, dz = (torch.randn(shape, generator=generator) for shape in shapes)
    tensors = (2 * gate, up, 0.37 * dy, width**-0.5 * weight, 0.37 * dz)
    return Inputs(*(tensor.to(device, dtype) for tensor in tensors))


def differentiate(
    function: Callable[..., Tensor], leaves: tuple[Tensor, ...], upstream: Tensor, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return the result and the gradients of all leaves, which are copied first."""
    copies = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in leaves]
    # As behind a projection: what is overwritten in place is not a leaf.
    out = function(*(copy * 1 for copy in copies))
    return out.detach(), *torch.autograd.grad(out, copies, upstream.to(dtype))


def error(result: Tensor, truth: Tensor) -> float:
    return float((result.double() - truth).norm() / truth.norm())


def assert_as_good_as_torch(
    ours: tuple[Tensor, ...], own: tuple[Tensor, ...], truth: tuple[Tensor, ...], truncated: bool
) -> None:
    for index, (value, theirs, wanted) in enumerate(zip(ours, own, truth, strict=True)):
        assert value.dtype == theirs.dtype
        if truncated:  # the interpreter cuts off where a GPU rounds
            assert error(value, wanted) <= torch.finfo(value.dtype).eps, index
        else:
            assert error(value, wanted) <= 2 * error(theirs, wanted) + 4 * torch.finfo(torch.float32).eps, index


@pytest.mark.usefixtures("poison")
@PATHS
@IN_PLACE
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(
    shape: tuple[int, int], dtype: torch.dtype, in_place: bool, backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs(*shape, dtype, device)
    leaves = (inputs.gate, inputs.up)
    ours = differentiate(lambda *x: swiglu(*x, in_place_backward=in_place, backend=backend), leaves, inputs.dy, dtype)
    own = differentiate(lambda gate, up: silu(gate) * up, leaves, inputs.dy, dtype)
    truth = differentiate(swiglu_reference, leaves, inputs.dy, torch.float64)
    assert_as_good_as_torch(ours, own, truth, backend == "triton" and device.type == "cpu" and dtype == torch.bfloat16)


@pytest.mark.usefixtures("poison")
@PATHS
@IN_PLACE
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (19, 47), (33, 1500)])
def test_with_the_projection(
    shape: tuple[int, int], dtype: torch.dtype, in_place: bool, backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs(*shape, dtype, device)
    leaves = (inputs.gate, inputs.up, inputs.weight)
    ours = differentiate(
        lambda *x: swiglu_linear(*x, in_place_backward=in_place, backend=backend), leaves, inputs.dz, dtype
    )
    own = differentiate(lambda gate, up, weight: linear(silu(gate) * up, weight), leaves, inputs.dz, dtype)
    truth = differentiate(
        lambda gate, up, weight: linear(swiglu_reference(gate, up), weight), leaves, inputs.dz, torch.float64
    )
    assert_as_good_as_torch(ours, own, truth, backend == "triton" and device.type == "cpu" and dtype == torch.bfloat16)


@PATHS
def test_an_element_of_bf16_is_within_its_roundings(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(8, 500, torch.bfloat16, device)
    y = swiglu(inputs.gate, inputs.up, backend=backend)
    truth = swiglu_reference(inputs.gate.double(), inputs.up.double())
    # silu(gate) is rounded, as transformers does, and its product with up.
    assert ((y.double() - truth).abs() <= 2 * torch.finfo(torch.bfloat16).eps * truth.abs()).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_torch_path_has_the_bits_of_transformers(dtype: torch.dtype, device: torch.device) -> None:
    mlp = Qwen2MLP(Qwen2Config(hidden_size=32, intermediate_size=80, hidden_act="silu")).to(device, dtype)
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    gate, up = mlp.gate_proj(x), mlp.up_proj(x)
    assert torch.equal(swiglu_linear(gate, up, mlp.down_proj.weight, backend="torch"), mlp(x))
    assert torch.equal(mlp.down_proj(swiglu(gate, up, backend="torch")), mlp(x))


@PATHS
@IN_PLACE
def test_halves_of_one_projection(in_place: bool, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    leaves = (inputs.gate, inputs.up)
    wanted = differentiate(lambda *x: swiglu(*x, backend=backend), leaves, inputs.dy, torch.float32)

    def of_both(both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=-1)
        return swiglu(gate, up, in_place_backward=in_place, backend=backend)

    both = torch.cat(leaves, dim=-1).view(2, 3, 80)
    y, gradient = differentiate(of_both, (both,), inputs.dy.view(2, 3, 40), torch.float32)
    # torch's own exponential depends on the strides in its last bit.
    assert error(y.view(6, 40), wanted[0].double()) < 1e-7
    assert error(gradient.view(6, 80), torch.cat(wanted[1:], dim=-1).double()) < 1e-7


@PATHS
@pytest.mark.parametrize("wide", [0, 1, 2])
def test_rows_apart_in_one_tensor_only(wide: int, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    tensors = list(inputs[:3])
    tensors[wide] = torch.nn.functional.pad(tensors[wide], (3, 8), value=torch.nan)[:, 3:-8]
    gate, up = (x.requires_grad_() for x in tensors[:2])
    y = swiglu(gate, up, backend=backend)
    gradients = torch.autograd.grad(y, (gate, up), tensors[2])
    truth = differentiate(swiglu_reference, inputs[:2], inputs.dy, torch.float64)
    assert all(error(value, wanted) < 1e-6 for value, wanted in zip((y.detach(), *gradients), truth, strict=True))


@PATHS
def test_columns_apart_and_expanded_gradients(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    ones = torch.ones((), device=device).expand(6, 40)
    leaves = (inputs.gate.t().contiguous().t(), inputs.up)
    found = differentiate(lambda *x: swiglu(*x, backend=backend), leaves, ones, torch.float32)
    truth = differentiate(swiglu_reference, leaves, ones, torch.float64)
    assert all(error(value, wanted) < 1e-6 for value, wanted in zip(found, truth, strict=True))


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(0, 40, dtype, device)
    leaves = (inputs.gate, inputs.up, inputs.weight)
    found = differentiate(lambda *x: swiglu_linear(*x, backend=backend), leaves, inputs.dz, dtype)
    assert [tuple(tensor.shape) for tensor in found] == [(0, OUT_WIDTH), (0, 40), (0, 40), (OUT_WIDTH, 40)]
    assert not found[3].any()


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@PATHS
def test_a_gate_far_from_zero_is_open_or_shut(backend: Backend, device: torch.device) -> None:
    gate = torch.tensor([[-1000.0, -100.0, 0.0, 100.0, 1000.0]], device=device)
    up, dy = torch.full_like(gate, 3.0), torch.full_like(gate, 0.5)
    y, dgate, dup = differentiate(lambda *x: swiglu(*x, backend=backend), (gate, up), dy, torch.float32)
    torch.testing.assert_close(y, torch.tensor([[0.0, 0.0, 0.0, 300.0, 3000.0]], device=device), atol=1e-30, rtol=1e-6)
    torch.testing.assert_close(dgate[0], torch.tensor([0.0, 0.0, 0.75, 1.5, 1.5], device=device), atol=1e-30, rtol=1e-6)
    torch.testing.assert_close(dup, y / 6, atol=1e-30, rtol=1e-6)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_bitwise_repeatable(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(9, 500, dtype, device)
    leaves = (inputs.gate, inputs.up, inputs.weight)

    def run(in_place: bool) -> tuple[Tensor, ...]:
        function = lambda *x: swiglu_linear(*x, in_place_backward=in_place, backend=backend)  # noqa: E731
        return differentiate(function, leaves, inputs.dz, dtype)

    first, second, in_place = run(False), run(False), run(True)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, in_place, strict=True))


@PATHS
def test_only_gate_up_and_weight_are_kept(backend: Backend, device: torch.device) -> None:
    gate, up, _, weight, _ = (tensor.requires_grad_() for tensor in make_inputs(6, 40, torch.bfloat16, device))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        swiglu_linear(gate, up, weight, backend=backend)
        swiglu(gate, up, backend=backend)
    wanted = [tensor.data_ptr() for tensor in (gate, up, weight, gate, up)]
    assert [tensor.data_ptr() for tensor in kept] == wanted


@PATHS
@pytest.mark.parametrize("with_weight", [False, True])
def test_in_place_uses_no_memory_and_runs_once(with_weight: bool, backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    leaves = [inputs.gate.requires_grad_(), inputs.up.requires_grad_()]
    gate, up = leaves[0] * 1, leaves[1] * 1
    options = {"in_place_backward": True, "backend": backend}
    out = swiglu_linear(gate, up, inputs.weight, **options) if with_weight else swiglu(gate, up, **options)
    gradients = torch.autograd.grad(out.sum(), (gate, up), retain_graph=True)
    assert [tensor.data_ptr() for tensor in gradients] == [gate.data_ptr(), up.data_ptr()]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@PATHS
def test_a_frozen_weight_gets_no_gradient(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 40, torch.float32, device)
    leaves = (inputs.gate, inputs.up)
    found = differentiate(
        lambda *x: swiglu_linear(*x, inputs.weight, backend=backend), leaves, inputs.dz, torch.float32
    )
    truth = differentiate(
        lambda *x: linear(swiglu_reference(*x), inputs.weight.double()), leaves, inputs.dz, torch.float64
    )
    assert all(error(value, wanted) < 1e-6 for value, wanted in zip(found, truth, strict=True))
    assert inputs.weight.grad is None


def test_gradcheck_of_the_reference() -> None:
    inputs = make_inputs(3, 5, torch.float64, torch.device("cpu"))
    assert torch.autograd.gradcheck(swiglu_reference, (inputs.gate.requires_grad_(), inputs.up.requires_grad_()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"up": torch.ones(4, 9)}, "gate has shape (4, 8), up (4, 9): both must be (..., I), I > 0."),
        ({"gate": torch.ones(()), "up": torch.ones(())}, "gate has shape (), up (): both must be (..., I), I > 0."),
        ({"weight": torch.ones(0)}, "weight has shape (0,), gate has width 8: weight must be (D, I). Under ZeRO-3"),
        ({"weight": torch.ones(8, 5)}, "weight has shape (8, 5), gate has width 8: weight must be (D, I)."),
        (
            {"up": torch.ones(4, 8).bfloat16()},
            "inputs are torch.bfloat16, torch.float32: all must be float32, or all bfloat16.",
        ),
        ({"up": torch.ones(4, 8, device="meta")}, "inputs are on cpu, meta: they must be on one device."),
    ],
)
def test_error_texts(changes: dict[str, Tensor], message: str) -> None:
    given = {"gate": torch.ones(4, 8), "up": torch.ones(4, 8), "weight": torch.ones(5, 8)} | changes
    with pytest.raises(ValueError) as raised:
        swiglu_linear(**given)
    assert str(raised.value).startswith(message)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("contiguous", [True, False])
def test_offsets_beyond_32_bits(contiguous: bool) -> None:
    # More than 2^31 elements between the first row and the last: an int32 offset would wrap.
    num_rows, width = (1 << 17) + 8, 16384 if contiguous else 8192
    storage = torch.zeros(num_rows, 16384, dtype=torch.bfloat16, device="cuda")
    gate = storage[:, :width]
    gate[-4:] = torch.randn(4, width, device="cuda")
    y = swiglu(gate, gate)
    assert torch.equal(y[-4:], swiglu(gate[-4:].contiguous(), gate[-4:].contiguous()))
    assert not y[:-4].any()
