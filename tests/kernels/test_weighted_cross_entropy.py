"""Both paths against fp64, never further from it than twice torch's own loss; and what torch's own loss gets wrong."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from alttrain.kernels.weighted_cross_entropy import (
    Backend,
    cross_entropy_gradient_,
    row_losses,
    weighted_cross_entropy,
    weighted_cross_entropy_reference,
)
from skips import NO_GPU

# The interpreter computes with numpy, which warns of infinities and NaNs.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

PATHS: tuple[Backend, ...] = ("triton", "torch")
UPSTREAM = 0.37
# One class; fewer than a warp reads; odd; a power of two; several tiles of bf16 (16,384) with and without a rest.
VOCABULARIES = (1, 7, 129, 1024, 16_384, 40_001)

Inputs = tuple[Tensor, Tensor, Tensor]


def make_inputs(num_rows: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Logits up to confident ones, labels likely and unlikely, one missing, weights of which one is 0."""
    generator = torch.Generator().manual_seed(vocabulary)
    spread = torch.linspace(0.5, 12.0, max(num_rows, 1))[:num_rows, None]
    logits = torch.randn(num_rows, vocabulary, generator=generator) * spread
    labels = torch.randint(vocabulary, (num_rows,), generator=generator)
    labels[num_rows // 2 :] = logits[num_rows // 2 :].argmax(1)
    weights = 0.1 + 2 * torch.rand(num_rows, generator=generator)
    labels[1:2] = -100
    weights[2:3] = 0
    return logits.to(device, dtype), labels.to(device), weights.to(device)


def exact(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, nll and gradient for UPSTREAM in fp64, of the logits as they are rounded."""
    logits = inputs[0].detach().double().requires_grad_()
    loss, nll = weighted_cross_entropy_reference(logits, inputs[1], inputs[2])
    (loss * UPSTREAM).backward()
    assert logits.grad is not None
    return loss.detach(), nll.detach(), logits.grad


def ours(inputs: Inputs, backend: Backend, *, in_place: bool = False) -> tuple[Tensor, Tensor]:
    leaf = inputs[0].detach().clone().requires_grad_()
    loss = weighted_cross_entropy(leaf * 1, *inputs[1:], in_place_backward=in_place, backend=backend)
    (loss * UPSTREAM).backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def theirs(inputs: Inputs) -> tuple[Tensor, Tensor]:
    leaf = inputs[0].detach().clone().requires_grad_()
    loss = (cross_entropy(leaf, inputs[1], reduction="none") * inputs[2]).sum()
    (loss * UPSTREAM).backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp(min=1e-30))


def assert_within_one_ulp(found: Tensor, truth: Tensor) -> None:
    """Of the dtype of `found`. Below 2^-126 fp32 flushes to 0, and the interpreter rounds wrongly."""
    digits, finest = {torch.bfloat16: (8, -126), torch.float16: (11, -24)}[found.dtype]
    ulp = torch.ldexp(torch.ones_like(truth), (truth.frexp().exponent - digits).clamp(min=finest))
    assert bool(((found.double() - truth).abs() <= ulp * (1 + 1e-3)).all())


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_fp32_is_as_near_to_fp64_as_torch(
    vocabulary: int, backend: Backend, device: torch.device, poison: None
) -> None:
    inputs = make_inputs(6, vocabulary, torch.float32, device)
    loss, nll, gradient = exact(inputs)
    bounds = [2 * error(*pair) + 2**-24 for pair in zip(theirs(inputs), (loss, gradient), strict=True)]
    for in_place in (False, True):
        found = ours(inputs, backend, in_place=in_place)
        assert error(found[0], loss) <= bounds[0]
        assert error(found[1], gradient) <= bounds[1]
    slab = inputs[0].clone()
    losses = cross_entropy_gradient_(slab, *inputs[1:], backend=backend)
    assert error(slab * UPSTREAM, gradient) <= bounds[1]
    has_label = inputs[1] != -100
    assert error(losses.nll, nll) <= 1e-6
    assert error(losses.lse[has_label], inputs[0].double().logsumexp(1)[has_label]) <= 1e-6
    assert [*losses.nll[~has_label], *losses.lse[~has_label]] == [0.0, 0.0]


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_half_precision_loses_one_rounding(
    vocabulary: int, dtype: torch.dtype, backend: Backend, device: torch.device, poison: None
) -> None:
    inputs = make_inputs(6, vocabulary, dtype, device)
    loss, nll, gradient = exact(inputs)
    found = ours(inputs, backend)
    assert error(found[0], loss) <= 1e-6
    assert_within_one_ulp(found[1], gradient)
    slab = inputs[0].clone()
    losses = cross_entropy_gradient_(slab, *inputs[1:], backend=backend)
    assert losses.nll.dtype == losses.lse.dtype == found[0].dtype == torch.float32
    assert error(losses.nll, nll) <= 1e-6
    assert_within_one_ulp(slab, gradient / UPSTREAM)


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_confident_rows_keep_their_digits(dtype: torch.dtype, backend: Backend, device: torch.device) -> None:
    margins = torch.tensor([6.0, 12.0, 20.0, 40.0, 64.0], device=device)
    logits = torch.zeros(5, 300, device=device)
    logits[:, 17] = margins
    labels, weights = torch.full((5,), 17, device=device), torch.linspace(1, 3, 5, device=device)
    others = 299 * (-margins.double()).exp()
    slab = logits.to(dtype, copy=True)
    losses = cross_entropy_gradient_(slab, labels, weights, backend=backend)
    torch.testing.assert_close(losses.nll.double(), others.log1p(), rtol=1e-5, atol=0.0)
    assert cross_entropy(logits, labels, reduction="none")[-1] == 0, "where torch's own has no digit left"
    label_gradient = -others / (1 + others) * weights.double()
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(slab[:, 17].double(), label_gradient, rtol=tolerance, atol=0.0)
    leaf = logits.to(dtype).requires_grad_()
    weighted_cross_entropy(leaf, labels, weights, backend=backend).backward()
    torch.testing.assert_close(leaf.grad[:, 17].double(), label_gradient, rtol=tolerance, atol=0.0)


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("vocabulary", [40, 20_000])
def test_rows_without_weight_or_label_are_zeros_and_unread(
    vocabulary: int, backend: Backend, device: torch.device, poison: None
) -> None:
    logits, labels, weights = make_inputs(6, vocabulary, torch.float32, device)
    logits[1:3] = torch.nan  # the row without label and the row of weight 0
    alone = ours((logits[3:], labels[3:], weights[3:]), backend)
    loss, gradient = ours((logits, labels, weights), backend)
    slab = logits.clone()
    losses = cross_entropy_gradient_(slab, labels, weights, every_nll=False, backend=backend)
    for found in (gradient, slab):
        assert bool((found[1:3] == 0).all())
    assert torch.equal(gradient[3:], alone[1])
    assert bool(loss.isfinite())
    assert losses.nll[1:3].tolist() == losses.lse[1:3].tolist() == [0.0, 0.0]
    assert bool(losses.nll[3:].isfinite().all())
    measured = row_losses(logits.nan_to_num(0.5), labels, weights, backend=backend)
    assert float(measured.nll[2]) == pytest.approx(torch.tensor(vocabulary).log().item()), "asked for, so measured"


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("num_rows", [0, 1, 4])
def test_nothing_to_learn_is_a_connected_zero(
    num_rows: int, backend: Backend, device: torch.device, poison: None
) -> None:
    logits, labels, weights = make_inputs(num_rows, 33, torch.float32, device)
    for nothing in ((torch.full_like(labels, -100), weights), (labels, torch.zeros_like(weights))):
        loss, gradient = ours((logits, *nothing), backend)
        assert loss.item() == 0.0
        assert gradient.shape == logits.shape
        assert bool((gradient == 0).all())


@pytest.mark.parametrize("backend", PATHS)
def test_masked_classes_and_what_is_not_a_number(backend: Backend, device: torch.device) -> None:
    logits, labels, weights = make_inputs(6, 50, torch.float32, device)
    logits[:, 10:] = -torch.inf
    logits[3, :10] = -torch.inf  # nothing left
    logits[4, 5] = torch.inf
    labels[:] = 3
    labels[5] = 30  # a class that cannot occur
    weights[:] = 2.0
    slab = logits.clone()
    losses = cross_entropy_gradient_(slab, labels, weights, backend=backend)
    leaf = logits[:3].double().requires_grad_()
    (cross_entropy(leaf, labels[:3], reduction="sum") * 2).backward()
    torch.testing.assert_close(slab[:3].double(), leaf.grad, rtol=1e-5, atol=1e-7)
    assert bool((slab[:3, 10:] == 0).all())
    assert bool(losses.nll[3:5].isnan().all())
    assert losses.nll[5].item() == torch.inf
    assert slab[5, 30].item() == -2.0
    torch.testing.assert_close(slab[5, :10], 2 * logits[5, :10].softmax(0))


@pytest.mark.parametrize("backend", PATHS)
def test_rows_may_be_strided(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(5, 77, torch.float32, device)
    wide = torch.full((10, 96), 7.0, device=device)
    view = wide[::2, 3:80]
    view.copy_(inputs[0])
    spread = torch.stack([inputs[2], -inputs[2]], 1)[:, 0]  # weights two apart
    assert torch.equal(ours((view, inputs[1], spread), backend)[1], ours(inputs, backend)[1])
    packed = inputs[0].clone()
    cross_entropy_gradient_(packed, *inputs[1:], backend=backend)
    cross_entropy_gradient_(view, *inputs[1:], backend=backend)
    assert torch.equal(view, packed)
    untouched = torch.ones_like(wide, dtype=torch.bool)
    untouched[::2, 3:80] = False
    assert bool((wide[untouched] == 7).all())


@pytest.mark.parametrize("backend", PATHS)
def test_rows_beyond_two_to_the_31_elements(backend: Backend, device: torch.device) -> None:
    # Three rows, 2 GiB apart: on a CPU only the pages of the rows themselves come to exist.
    stride = 2**30 + 16
    memory = torch.empty(2 * stride + 64, dtype=torch.bfloat16, device=device)
    logits = memory.as_strided((3, 64), (stride, 1))
    inputs = make_inputs(3, 64, torch.bfloat16, device)
    logits.copy_(inputs[0])
    packed = inputs[0].clone()
    expected = cross_entropy_gradient_(packed, inputs[1], torch.ones_like(inputs[2]), backend=backend)
    found = cross_entropy_gradient_(logits, inputs[1], torch.ones_like(inputs[2]), backend=backend)
    assert torch.equal(logits, packed)
    assert torch.equal(found.nll, expected.nll)


@pytest.mark.parametrize("backend", PATHS)
def test_the_same_inputs_give_the_same_bits(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(6, 20_000, torch.float32, device)
    first, second = ours(inputs, backend), ours(inputs, backend)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_both_paths_agree_and_the_definition_passes_gradcheck(device: torch.device) -> None:
    inputs = make_inputs(6, 513, torch.float32, device)
    torch.testing.assert_close(ours(inputs, "triton"), ours(inputs, "torch"), rtol=1e-5, atol=1e-7)
    logits = inputs[0][:, :5].double().requires_grad_()
    labels = inputs[1].clamp(max=4)
    assert torch.autograd.gradcheck(lambda x: weighted_cross_entropy_reference(x, labels, inputs[2])[0], logits)


@pytest.mark.parametrize("backend", PATHS)
def test_logits_given_up_cannot_be_used_again(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs(4, 9, torch.float32, device)
    leaf = inputs[0].clone().requires_grad_()
    logits = leaf * 1
    loss = weighted_cross_entropy(logits, *inputs[1:], in_place_backward=True, backend=backend)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    squared = (logits := leaf * 1).square().sum()
    cross_entropy_gradient_(logits, *inputs[1:], backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        squared.backward()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"logits": torch.zeros(4)}, r"logits have shape \(4,\)"),
        ({"logits": torch.zeros(4, 0)}, r"logits have shape \(4, 0\)"),
        ({"logits": torch.zeros(4, 6, dtype=torch.float64)}, "logits are torch.float64"),
        ({"logits": torch.zeros(6, 4).t()}, r"strides \(1, 4\)"),
        ({"logits": torch.zeros(1, 6).expand(4, 6)}, "rows must not overlap"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels is \(3,\) torch.int64: it must be \(4,\)"),
        ({"labels": torch.zeros(4, dtype=torch.int32)}, r"labels is \(4,\) torch.int32"),
        ({"labels": torch.tensor([0, 6, 0, 0])}, r"labels\[1\] = 6: a label must be -100 or in \[0, 6\)"),
        ({"labels": torch.tensor([0, 0, -1, 0])}, r"labels\[2\] = -1"),
        ({"loss_weights": torch.ones(4, 1)}, r"loss_weights is \(4, 1\)"),
        ({"loss_weights": torch.ones(4, dtype=torch.bfloat16)}, r"loss_weights is \(4,\) torch.bfloat16"),
        ({"loss_weights": torch.tensor([1, 1, 1, torch.nan])}, r"loss_weights\[3\] = nan"),
        ({"labels": torch.zeros(4, dtype=torch.int64, device="meta")}, "labels is on meta, logits are on cpu"),
        ({"backend": "cuda"}, "backend is 'cuda'"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], message: str) -> None:
    good = {"logits": torch.zeros(4, 6), "labels": torch.zeros(4, dtype=torch.int64), "loss_weights": torch.ones(4)}
    for function in (weighted_cross_entropy, row_losses, cross_entropy_gradient_):
        with pytest.raises(ValueError, match=message):
            function(**(good | changed))  # type: ignore[operator]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_on_cuda_nothing_waits_and_a_bad_label_is_loud() -> None:
    logits, labels, weights = make_inputs(6, 152_064, torch.bfloat16, torch.device("cuda"))
    leaf = logits.clone().requires_grad_()
    weighted_cross_entropy(leaf, labels, weights).backward()  # compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = weighted_cross_entropy(leaf, labels, weights)
        (loss * UPSTREAM).backward()
        cross_entropy_gradient_(logits, labels, weights)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    labels[0] = 2**32 + 5
    assert bool(row_losses(logits, labels, weights).nll[0].isnan())
