"""A weight's gradient that products add where it is needed is the gradient that autograd makes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from alttrain.engine.model.weight_gradients import DirectLinear, WeightGradient
from alttrain.kernels.linear_cross_entropy import weighted_linear_cross_entropy
from alttrain.kernels.swiglu import swiglu_linear

Draw = Callable[..., Tensor]


@pytest.fixture
def draw() -> Draw:
    """Return a function that draws a tensor of a shape and dtype."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape, dtype=torch.float32: torch.randn(shape, generator=generator).to(dtype)


def garbage(weight: Tensor, dtype: torch.dtype) -> WeightGradient:
    """Return a gradient whose memory holds what the last step has left."""
    return WeightGradient(torch.full(weight.shape, torch.nan, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_linear_layer_is_torchs_to_the_bit(draw: Draw, dtype: torch.dtype, has_bias: bool) -> None:
    theirs = nn.Linear(6, 4, bias=has_bias, dtype=dtype)
    ours = nn.Linear(6, 4, bias=has_bias, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    ours.__class__ = DirectLinear
    ours.weight_gradient = into = garbage(ours.weight, dtype)
    inputs = [draw(2, 5, 6, dtype=dtype).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    upstream = draw(2, 5, 4, dtype=dtype)
    outs = [layer(x) for layer, x in zip((theirs, ours), inputs, strict=True)]
    assert torch.equal(*outs)
    for out in outs:
        out.backward(upstream)
    assert torch.equal(inputs[0].grad, inputs[1].grad)  # type: ignore[arg-type]
    assert torch.equal(into.view, theirs.weight.grad)  # type: ignore[arg-type]
    assert ours.weight.grad is None
    if has_bias:
        assert torch.equal(ours.bias.grad, theirs.bias.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("into_dtype", [torch.float32, torch.bfloat16])
def test_products_of_a_step_add_and_the_first_overwrites(draw: Draw, into_dtype: torch.dtype) -> None:
    weight = draw(4, 6, dtype=torch.bfloat16)
    into = garbage(weight, into_dtype)
    factors = [(draw(5, 4, dtype=torch.bfloat16), draw(5, 6, dtype=torch.bfloat16)) for _ in range(3)]
    for _ in range(2):  # the second step begins with what the first has left
        for dy, x in factors:
            into.add_product(dy, x)
        wanted = torch.stack([dy.t() @ x for dy, x in factors]).float().sum(0)
        tolerance = 0.03 if into_dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(into.view.float(), wanted, atol=tolerance, rtol=tolerance)
        into.is_stale = True


def test_a_gradient_that_no_product_has_reached_is_zero(draw: Draw) -> None:
    into = garbage(draw(4, 6), torch.float32)
    into.finish()
    assert not into.view.any()
    into.add_product(draw(5, 4), draw(5, 6))
    before = into.view.clone()
    into.finish()
    assert torch.equal(into.view, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_down_projection_and_the_loss_add_theirs(draw: Draw, dtype: torch.dtype) -> None:
    gate, up, weight = (draw(*shape, dtype=dtype).requires_grad_() for shape in ((7, 6), (7, 6), (4, 6)))
    into = garbage(weight, dtype)
    wanted = torch.autograd.grad(swiglu_linear(gate, up, weight).sum(), [gate, up, weight])
    out = swiglu_linear(gate, up, weight, add_weight_gradient=into.add_product)
    found = torch.autograd.grad(out.sum(), [gate, up, weight], allow_unused=True)
    assert found[2] is None
    for mine, other in zip((*found[:2], into.view), wanted, strict=True):
        assert torch.equal(mine, other)

    hidden, head = draw(7, 6, dtype=dtype).requires_grad_(), draw(11, 6, dtype=dtype).requires_grad_()
    labels, weights = torch.tensor([3, -100, 5, 0, 10, 2, -100]), draw(7).abs()
    into = garbage(head, dtype)
    wanted = torch.autograd.grad(
        weighted_linear_cross_entropy(hidden, head, labels, weights).loss_sum * 0.3, [hidden, head]
    )
    for count in (1, 2):
        sums = weighted_linear_cross_entropy(hidden, head, labels, weights, add_weight_gradient=into.add_scaled)
        (dhidden, none) = torch.autograd.grad(sums.loss_sum * 0.3, [hidden, head], allow_unused=True)
        assert none is None
        assert torch.equal(dhidden, wanted[0])
        torch.testing.assert_close(into.view, count * wanted[1], atol=0, rtol=0.01 if count == 2 else 0)
