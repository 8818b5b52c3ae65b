"""Layers of one input, joined, give what they give one by one; a norm's output that is not kept comes back."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from alttrain.engine.model.joint_linear import Normalised, can_join, joint_linear
from alttrain.engine.model.products import PLAIN, Float8Products
from alttrain.engine.model.weight_gradients import DirectLinear, WeightGradient, one_matrix
from alttrain.kernels.rms_norm import rms_norm

EPS = 1e-6
WIDTHS = (24, 8, 8)
PRODUCTS = Float8Products("rowwise")


def make_layers(dtype: torch.dtype, *, bias: bool = True) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(16, width, bias=bias, dtype=dtype) for width in WIDTHS]


def differentiate(
    layers: list[nn.Linear], dtype: torch.dtype, *, joined: bool, rebuilt: bool = False
) -> dict[str, Tensor]:
    """Return outputs, and gradients of the stream, the norm's weight and the layers, for 13 tokens."""
    generator = torch.Generator().manual_seed(1)
    stream = torch.randn(1, 13, 16, generator=generator).to(dtype).requires_grad_()
    weight = (1 + torch.rand(16, generator=generator)).to(dtype).requires_grad_()
    upstream = [torch.randn(1, 13, width, generator=generator).to(dtype) for width in WIDTHS]
    x = rms_norm(stream, weight, EPS)
    source = Normalised(stream, weight, EPS, "auto") if rebuilt else None
    made = joint_linear(x, layers, source) if joined else tuple(layer(x) for layer in layers)
    torch.autograd.backward(made, upstream)
    found = {f"out {place}": out.detach() for place, out in enumerate(made)}
    gradients = {f"{i} {name}": p.grad for i, layer in enumerate(layers) for name, p in layer.named_parameters()}
    return found | {"stream": stream.grad, "norm": weight.grad} | gradients  # type: ignore[dict-item]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rebuilt", [False, True])
def test_joined_layers_give_what_they_give_one_by_one(rebuilt: bool, bias: bool) -> None:
    apart = differentiate(make_layers(torch.float32, bias=bias), torch.float32, joined=False)
    joined = differentiate(make_layers(torch.float32, bias=bias), torch.float32, joined=True, rebuilt=rebuilt)
    assert joined.keys() == apart.keys()
    for name, value in apart.items():
        assert torch.allclose(joined[name], value, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_again_has_the_bits_of_what_would_be_kept(dtype: torch.dtype) -> None:
    kept, rebuilt = (differentiate(make_layers(dtype), dtype, joined=True, rebuilt=again) for again in (False, True))
    for name, value in kept.items():
        assert torch.equal(rebuilt[name], value), name


def test_the_gradient_of_the_input_is_rounded_less_often() -> None:
    exact = differentiate(make_layers(torch.float32), torch.float32, joined=False)
    apart, joined = (differentiate(make_layers(torch.bfloat16), torch.bfloat16, joined=how) for how in (False, True))
    errors = [float((found["stream"].float() - exact["stream"]).norm()) for found in (joined, apart)]
    assert errors[0] <= 1.1 * errors[1]


def test_products_write_where_the_layers_say() -> None:
    wanted = differentiate(make_layers(torch.float32), torch.float32, joined=True)
    layers = make_layers(torch.float32)
    for layer in layers:
        layer.__class__ = DirectLinear
        layer.weight_gradient = WeightGradient(torch.full_like(layer.weight, torch.nan))  # type: ignore[assignment]
    found = differentiate(layers, torch.float32, joined=True, rebuilt=True)
    for place, layer in enumerate(layers):
        assert layer.weight.grad is None
        assert torch.equal(layer.weight_gradient.view, wanted[f"{place} weight"])  # type: ignore[union-attr]
        assert torch.equal(found[f"{place} bias"], wanted[f"{place} bias"])


@pytest.mark.parametrize("in_one", [False, True])
def test_products_are_those_of_the_layers(in_one: bool) -> None:
    """With a scale for each row, several weights and one have the same operands."""
    layers = make_layers(torch.float32)
    if in_one:
        TestInOne.lay_out_flat(layers)
    for layer in layers:
        layer.__class__ = DirectLinear
        layer.products = PRODUCTS  # type: ignore[assignment]
    x, upstream = torch.randn(1, 13, 16), [torch.randn(1, 13, width) for width in WIDTHS]
    found, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    made, apart = joint_linear(found, layers), tuple(layer(wanted) for layer in layers)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(made, apart, strict=True))
    assert not any(torch.equal(one, linear(x, w.weight, w.bias)) for one, w in zip(made, layers, strict=True))
    torch.autograd.backward(made, upstream)
    torch.autograd.backward(apart, upstream)
    assert torch.allclose(found.grad, wanted.grad, atol=1e-5)  # type: ignore[arg-type]
    layers[0].products = PLAIN  # type: ignore[assignment]
    assert not can_join(layers)


class TestInOne:
    """Weights, biases and gradients that are views of flat tensors, as one process lays them out."""

    @staticmethod
    def lay_out_flat(layers: list[nn.Linear], *, biases_too: bool = True) -> None:
        weights = torch.cat([layer.weight.detach() for layer in layers])
        biases = torch.cat([layer.bias.detach() for layer in layers])
        gradients = torch.full_like(weights, torch.nan)
        parts = zip(layers, weights.split(WIDTHS), biases.split(WIDTHS), gradients.split(WIDTHS), strict=True)
        for layer, weight, bias, gradient in parts:
            layer.weight.data = weight
            layer.bias.data = bias if biases_too else bias.clone()
            layer.__class__ = DirectLinear
            layer.weight_gradient = WeightGradient(gradient)  # type: ignore[assignment]

    @pytest.mark.parametrize("biases_too", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_one_product_gives_what_several_give(self, dtype: torch.dtype, biases_too: bool) -> None:
        wanted = differentiate(make_layers(dtype), dtype, joined=True)
        layers = make_layers(dtype)
        self.lay_out_flat(layers, biases_too=biases_too)
        found = differentiate(layers, dtype, joined=True, rebuilt=True)
        found |= {f"{i} weight": layer.weight_gradient.view for i, layer in enumerate(layers)}  # type: ignore[union-attr]
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        for name, value in wanted.items():
            assert torch.allclose(found[name], value, rtol=tolerance, atol=tolerance), name

    def test_outputs_lie_side_by_side_and_may_each_be_overwritten(self) -> None:
        layers = make_layers(torch.float32)
        self.lay_out_flat(layers)
        x = torch.randn(1, 3, 16, requires_grad=True)
        first, second, third = joint_linear(x, layers)
        assert first.stride() == second.stride() == (3 * sum(WIDTHS), sum(WIDTHS), 1)
        before = second.detach().clone()
        first.detach().zero_()
        third.mul_(2)  # autograd would refuse this for a view
        assert torch.equal(second, before)
        apart = joint_linear(x, layers, in_one=False)
        assert all(out.is_contiguous() for out in apart)

    def test_gradients_side_by_side_are_one_product_of_the_backward(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a backward in place leaves those of gate and up; a second pack adds to the first's."""
        layers = make_layers(torch.float32)
        self.lay_out_flat(layers)
        calls = []
        add = WeightGradient.add_product
        monkeypatch.setattr(WeightGradient, "add_product", lambda *given: calls.append(1) or add(*given))
        x = torch.randn(1, 5, 16, requires_grad=True)
        upstream = torch.randn(1, 5, sum(WIDTHS))
        for _ in range(2):
            torch.autograd.backward(joint_linear(x, layers), upstream.split(WIDTHS, dim=-1))
        assert len(calls) == 2
        whole = torch.cat([layer.weight.detach() for layer in layers])
        assert torch.allclose(x.grad, 2 * upstream @ whole, atol=1e-5)  # type: ignore[arg-type]
        found = torch.cat([layer.weight_gradient.view for layer in layers])  # type: ignore[union-attr]
        assert torch.allclose(found, 2 * upstream[0].t() @ x.detach()[0], atol=1e-5)

    def test_neighbours_in_separate_memory_are_not_joined(self) -> None:
        block = torch.arange(24.0)
        assert torch.equal(one_matrix([block[:8].view(2, 4), block[8:].view(4, 4)]), block.view(6, 4))  # type: ignore[arg-type]
        assert one_matrix([block[8:16].view(2, 4), block[:8].view(2, 4)]) is None
        assert one_matrix([block[:8].view(2, 4), block[12:].view(3, 4)]) is None
        assert one_matrix([block[:8].view(2, 4), block[8:].clone().view(4, 4)]) is None
        assert one_matrix([block.view(4, 6).t()[:2], block[:4].view(1, 4)]) is None


def test_neither_input_nor_outputs_are_kept_where_the_input_is_computed_again() -> None:
    stream, weight = torch.randn(1, 13, 16, requires_grad=True), torch.ones(16, requires_grad=True)
    layers = make_layers(torch.float32)
    x = rms_norm(stream, weight, EPS)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        joint_linear(x, layers, Normalised(stream, weight, EPS, "auto"))
    at = {tensor.data_ptr() for tensor in kept}
    assert x.data_ptr() not in at
    assert at == {stream.data_ptr(), weight.data_ptr(), *(layer.weight.data_ptr() for layer in layers)}


def test_frozen_layers_get_no_gradient() -> None:
    layers = make_layers(torch.float32)
    layers[1].requires_grad_(False)
    found = differentiate(layers, torch.float32, joined=True, rebuilt=True)
    wanted = differentiate(make_layers(torch.float32), torch.float32, joined=True)
    assert found["1 weight"] is None
    assert found["1 bias"] is None
    assert torch.equal(found["stream"], wanted["stream"])
    assert torch.equal(found["2 weight"], wanted["2 weight"])


def test_only_plain_layers_at_hand_are_joined() -> None:
    class Adapter(nn.Linear):
        """A layer that does more than its product."""

    plain, empty = nn.Linear(4, 4), nn.Linear(4, 4)
    empty.weight.data = torch.empty(0)  # as ZeRO-3 leaves a weight that is not gathered
    assert can_join([plain, nn.Linear(4, 2)])
    assert not can_join([plain, Adapter(4, 4)])
    assert not can_join([plain, empty])
