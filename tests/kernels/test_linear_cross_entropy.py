"""The fused loss against its fp64 definition, never further from it than twice PyTorch's own loss in the same dtype."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alttrain.kernels import linear_cross_entropy as module
from alttrain.kernels import weighted_cross_entropy as rows_module
from alttrain.kernels.backend import Backend
from alttrain.kernels.linear_cross_entropy import (
    LossSums,
    weighted_linear_cross_entropy,
    weighted_linear_cross_entropy_reference,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

DTYPES = [torch.float32, torch.bfloat16]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU = torch.device("cpu")  # where values are checked
PATHS = pytest.mark.parametrize("backend", ["triton", "torch"])
NUM_SPANS = 4
UPSTREAM = 0.37
TRUNCATED = 6


class Inputs(NamedTuple):
    hidden: Tensor
    weight: Tensor
    labels: Tensor
    loss_weights: Tensor
    span_ids: Tensor

    def leaves(self, dtype: torch.dtype) -> "Inputs":
        return self._replace(
            hidden=self.hidden.detach().to(dtype).requires_grad_(),
            weight=self.weight.detach().to(dtype).requires_grad_(),
            loss_weights=self.loss_weights.double() if dtype == torch.float64 else self.loss_weights,
        )


class Result(NamedTuple):
    loss_sum: Tensor
    dhidden: Tensor
    dweight: Tensor


def make_inputs(
    num_rows: int = 37,
    width: int = 24,
    vocabulary: int = 211,
    dtype: torch.dtype = torch.float32,
    device: torch.device = DEVICE,
) -> Inputs:
    generator = torch.Generator().manual_seed(num_rows + vocabulary)
    labels = torch.randint(vocabulary, (num_rows,), generator=generator)
    labels[1::7] = -100
    loss_weights = torch.rand(num_rows, generator=generator) * 3
    loss_weights[2::5] = 0
    inputs = Inputs(
        torch.randn(num_rows, width, generator=generator).to(dtype),
        (torch.randn(vocabulary, width, generator=generator) * 0.4).to(dtype),
        labels,
        loss_weights,
        torch.randint(NUM_SPANS, (num_rows,), generator=generator).to(torch.uint8),
    )
    return Inputs(*(tensor.to(device) for tensor in inputs))


def differentiate(inputs: Inputs, loss_sum: Tensor, upstream: float = UPSTREAM) -> Result:
    (loss_sum * upstream).backward()
    assert inputs.hidden.grad is not None
    assert inputs.weight.grad is not None
    return Result(loss_sum.detach(), inputs.hidden.grad, inputs.weight.grad)


def ours(inputs: Inputs, **options: object) -> Result:
    inputs = inputs.leaves(inputs.hidden.dtype)
    return differentiate(inputs, weighted_linear_cross_entropy(*inputs[:4], **options).loss_sum)  # type: ignore[arg-type]


def exact(inputs: Inputs) -> Result:
    inputs = inputs.leaves(torch.float64)
    return differentiate(inputs, weighted_linear_cross_entropy_reference(*inputs[:4]).loss_sum)


def torch_own(inputs: Inputs) -> Result:
    inputs = inputs.leaves(inputs.hidden.dtype)
    logits = torch.nn.functional.linear(inputs.hidden, inputs.weight).float()
    nll = torch.nn.functional.cross_entropy(logits, inputs.labels, reduction="none")
    return differentiate(inputs, (nll * inputs.loss_weights).sum())


def error(result: Tensor, truth: Tensor) -> float:
    return float((result.double() - truth).norm() / truth.norm())


def is_truncated(inputs: Inputs, options: dict[str, object]) -> bool:
    """Whether the interpreter cuts gradients to bf16 where a GPU rounds them: all errors then have one sign."""
    return inputs.hidden.dtype == torch.bfloat16 and not inputs.hidden.is_cuda and options["backend"] == "triton"


def assert_as_good_as_torch(inputs: Inputs, **options: object) -> None:
    truth, own, result = exact(inputs), torch_own(inputs), ours(inputs, **options)
    for name, wanted, torch_value, value in zip(Result._fields, truth, own, result, strict=True):
        # An error of torch's that is 0 by luck, as of a scalar it may be, must not be the measure.
        floor = 4 * torch.finfo(torch.float32).eps
        bound = TRUNCATED if is_truncated(inputs, options) else 2
        assert error(value, wanted) <= bound * error(torch_value, wanted) + floor, name
    assert result.loss_sum.dtype == torch.float32
    assert result.dhidden.dtype == result.dweight.dtype == inputs.hidden.dtype


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_rows", "vocabulary"), [(1, 7), (2, 1), (37, 211), (64, 1031), (130, 4099)])
def test_loss_and_gradients(backend: Backend, dtype: torch.dtype, num_rows: int, vocabulary: int) -> None:
    inputs = make_inputs(num_rows, vocabulary=vocabulary, dtype=dtype)
    if vocabulary == 1:  # one word: probability 1, loss and gradients exactly 0
        assert all(not tensor.any() for tensor in ours(inputs, backend=backend))
    else:
        assert_as_good_as_torch(inputs, backend=backend)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk_tokens", [1, 3, 37, 1000])
def test_any_chunk_size(backend: Backend, dtype: torch.dtype, chunk_tokens: int) -> None:
    assert_as_good_as_torch(make_inputs(dtype=dtype), chunk_tokens=chunk_tokens, backend=backend)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_tiles_and_partial_products(
    backend: Backend, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "TILE_BYTES", dict.fromkeys(("cpu", "cuda"), 211 * 4 * 5))
    monkeypatch.setattr(module, "PARTIAL_BYTES", 24 * 2 * 50)
    monkeypatch.setattr(module, "SLAB_BYTES", dict.fromkeys(("cpu", "cuda"), 224 * 4 * 11))
    assert_as_good_as_torch(make_inputs(dtype=dtype), backend=backend)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_confident_logits(backend: Backend, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    weight = inputs.weight.clone()
    # Every row's own label wins by a margin of 4 to 40: p from 0.5 to 1 - 1e-17.
    margins = torch.linspace(4, 40, 37, device=DEVICE)[:, None]
    hidden = torch.nn.functional.one_hot(inputs.labels.clamp(min=0) % 24, 24) * margins
    weight[:24] = torch.eye(24, dtype=dtype)
    labels = torch.where(inputs.labels < 0, inputs.labels, inputs.labels % 24)
    inputs = inputs._replace(hidden=hidden.to(dtype), weight=weight, labels=labels)
    assert_as_good_as_torch(inputs, backend=backend)


@PATHS
def test_the_label_of_a_confident_row_keeps_its_gradient(backend: Backend) -> None:
    # p = 1 - 2e-7 or so: in bf16, (p * w) - w would be 0 or a whole ulp of w.
    inputs = make_inputs(1, 1, 3, torch.bfloat16)._replace(
        hidden=torch.ones(1, 1, dtype=torch.bfloat16, device=DEVICE),
        weight=torch.tensor([[15.0], [0.0], [-1.0]], dtype=torch.bfloat16, device=DEVICE),
        labels=torch.tensor([0], device=DEVICE),
        loss_weights=torch.tensor([1000.0], device=DEVICE),
    )
    assert error(ours(inputs, backend=backend).dweight, exact(inputs).dweight) < 0.15


@PATHS
def test_sums_by_span_count_rows_without_weight(backend: Backend) -> None:
    inputs = make_inputs()
    sums = weighted_linear_cross_entropy(*inputs, num_spans=NUM_SPANS, backend=backend)
    truth = weighted_linear_cross_entropy_reference(*inputs.leaves(torch.float64), num_spans=NUM_SPANS)
    for name, value, wanted in zip(LossSums._fields, sums, truth, strict=True):
        torch.testing.assert_close(value.double(), wanted.detach(), rtol=1e-6, atol=0, msg=name)
        assert not value.requires_grad
    assert (
        sums.token_counts.sum() == (inputs.labels >= 0).sum() > ((inputs.loss_weights > 0) & (inputs.labels >= 0)).sum()
    )
    assert weighted_linear_cross_entropy(*inputs[:4], backend=backend).nll_sums.shape == (0,)


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_weight_0_may_be_left_out(backend: Backend, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    rows = ((inputs.labels >= 0) & (inputs.loss_weights > 0)).nonzero()[:, 0]
    assert 0 < len(rows) < 37
    assert_as_good_as_torch(inputs, rows=rows, backend=backend)
    assert_as_good_as_torch(inputs, rows=rows, chunk_tokens=4, backend=backend)


@PATHS
def test_rows_outside_rows_are_not_read(backend: Backend) -> None:
    inputs = make_inputs()
    rows = torch.tensor([0, 3, 9], device=DEVICE)
    hidden = torch.full_like(inputs.hidden, torch.nan)
    hidden[rows] = inputs.hidden[rows]
    result = ours(inputs._replace(hidden=hidden), rows=rows, backend=backend)
    few = Inputs(*(tensor[rows] if name != "weight" else tensor for name, tensor in inputs._asdict().items()))
    alone = ours(few, backend=backend)
    assert torch.equal(result.loss_sum, alone.loss_sum)
    assert torch.equal(result.dweight, alone.dweight)
    assert torch.equal(result.dhidden[rows], alone.dhidden)
    assert result.dhidden.count_nonzero() == alone.dhidden.count_nonzero()


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_without_label_or_weight_add_exactly_nothing(backend: Backend, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    silent = (inputs.labels == -100) | (inputs.loss_weights == 0)
    assert not ours(inputs, backend=backend).dhidden[silent].any()
    nothing = ours(inputs._replace(loss_weights=torch.zeros(37, device=DEVICE)), backend=backend)
    assert all(not tensor.any() for tensor in nothing)
    nothing = ours(inputs._replace(labels=torch.full((37,), -100, device=DEVICE)), backend=backend)
    assert all(not tensor.any() for tensor in nothing)


@PATHS
@pytest.mark.parametrize("empty", ["tokens", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_give_a_connected_zero(backend: Backend, dtype: torch.dtype, empty: str) -> None:
    inputs = make_inputs(0 if empty == "tokens" else 5, dtype=dtype).leaves(dtype)
    rows = None if empty == "tokens" else torch.empty(0, dtype=torch.int64, device=DEVICE)
    sums = weighted_linear_cross_entropy(*inputs, rows=rows, num_spans=NUM_SPANS, backend=backend)
    assert sums.loss_sum.requires_grad
    result = differentiate(inputs, sums.loss_sum)
    assert result.dweight.shape == inputs.weight.shape
    assert all(not tensor.any() for tensor in (*result, *sums[1:]))


@PATHS
@pytest.mark.parametrize("dtype", DTYPES)
def test_bitwise_repeatable(backend: Backend, dtype: torch.dtype) -> None:
    inputs = make_inputs(130, 32, 1031, dtype)
    first, second = ours(inputs, chunk_tokens=50, backend=backend), ours(inputs, chunk_tokens=50, backend=backend)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@PATHS
@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_a_frozen_input_gets_no_gradient(backend: Backend, frozen: str) -> None:
    inputs, wanted = make_inputs().leaves(torch.float32), ours(make_inputs(), backend=backend)
    getattr(inputs, frozen).requires_grad_(False)
    (weighted_linear_cross_entropy(*inputs[:4], backend=backend).loss_sum * UPSTREAM).backward()
    other = "weight" if frozen == "hidden" else "hidden"
    assert getattr(inputs, frozen).grad is None
    assert torch.equal(getattr(inputs, other).grad, getattr(wanted, "d" + other))


@PATHS
def test_without_gradients_none_is_made(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs()
    wanted = weighted_linear_cross_entropy(*inputs.leaves(torch.float32), num_spans=NUM_SPANS, backend=backend)
    monkeypatch.setattr(module, "_add_product", None)  # whoever makes a gradient of the weight fails
    plain = weighted_linear_cross_entropy(*inputs, num_spans=NUM_SPANS, backend=backend)
    with torch.no_grad():
        no_grad = weighted_linear_cross_entropy(*inputs.leaves(torch.float32), num_spans=NUM_SPANS, backend=backend)
    for sums in (plain, no_grad):
        assert not sums.loss_sum.requires_grad
        assert all(torch.equal(a, b) for a, b in zip(sums, wanted, strict=True))


@PATHS
def test_the_backward_runs_once(backend: Backend) -> None:
    inputs = make_inputs().leaves(torch.float32)
    loss_sum = weighted_linear_cross_entropy(*inputs[:4], backend=backend).loss_sum
    loss_sum.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"second backward through one loss. .* compute the loss again\."):
        loss_sum.backward()


@PATHS
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_inside_activation_checkpointing(backend: Backend, use_reentrant: bool) -> None:
    inputs, wanted = make_inputs().leaves(torch.float32), ours(make_inputs(), backend=backend)

    def head(hidden: Tensor, weight: Tensor) -> Tensor:
        return weighted_linear_cross_entropy(
            hidden, weight, inputs.labels, inputs.loss_weights, backend=backend
        ).loss_sum

    loss_sum = checkpoint(head, inputs.hidden, inputs.weight, use_reentrant=use_reentrant)
    result = differentiate(inputs, loss_sum)
    assert all(torch.equal(a, b) for a, b in zip(result, wanted, strict=True))


def test_gradcheck_of_the_reference() -> None:
    inputs = make_inputs(5, 3, 7).leaves(torch.float64)

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return weighted_linear_cross_entropy_reference(hidden, weight, *inputs[2:4]).loss_sum

    assert torch.autograd.gradcheck(loss, (inputs.hidden, inputs.weight))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"weight": torch.empty(0)}, {}, "weight has shape (0,), hidden has width 24: weight must be (V, H). Under"),
        ({"weight": torch.empty(9, 8)}, {}, "weight has shape (9, 8), hidden has width 24: weight must be (V, H)."),
        ({"hidden": torch.empty(1, 37, 24)}, {}, "hidden has shape (1, 37, 24): it must be (N, H), one row a token."),
        (
            {"hidden": torch.empty(37, 24, dtype=torch.bfloat16)},
            {},
            "hidden is torch.bfloat16, weight is torch.float32: both must be float32, or both bfloat16.",
        ),
        (
            {"labels": torch.zeros(36).long()},
            {},
            "labels is (36,) torch.int64: it must be (37,) torch.int64, one a row.",
        ),
        (
            {"loss_weights": torch.zeros(37).double()},
            {},
            "loss_weights is (37,) torch.float64: it must be (37,) torch.float32, one a row.",
        ),
        ({}, {"num_spans": 4}, "span_ids are not given and num_spans = 4: give both or neither."),
        ({}, {"span_ids": torch.zeros(37).int()}, "span_ids are given and num_spans = 0: give both or neither."),
        (
            {},
            {"span_ids": torch.zeros(37), "num_spans": 4},
            "span_ids is (37,) torch.float32: it must be (37,) integers, one a row.",
        ),
        (
            {},
            {"span_ids": torch.arange(37), "num_spans": 4},
            "span_ids[4] = 4: a span id must be in [0, 4).",
        ),
        ({}, {"rows": torch.zeros(3)}, "rows is (3,) torch.float32: it must be (R,) torch.int64, ascending."),
        ({}, {"rows": torch.tensor([0, 5, 5])}, "rows[2] = 5: rows must ascend within [0, 37)."),
        ({}, {"rows": torch.tensor([0, 37])}, "rows[1] = 37: rows must ascend within [0, 37)."),
        ({}, {"chunk_tokens": 0}, "chunk_tokens = 0: at least one row must be projected at a time."),
        ({"labels": torch.arange(37) + 200}, {}, "labels[11] = 211: a label must be -100 or in [0, 211)."),
        ({"labels": -torch.arange(37)}, {}, "labels[1] = -1: a label must be -100 or in [0, 211)."),
        ({"loss_weights": torch.arange(37) / 0.0}, {}, "loss_weights[0] = nan: a weight must be finite."),
        ({"labels": torch.zeros(37, device="meta").long()}, {}, "inputs are on cpu, meta: they must be on one device."),
    ],
)
def test_error_texts(changes: dict[str, Tensor], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        weighted_linear_cross_entropy(*make_inputs(device=CPU)._replace(**changes)[:4], **options)  # type: ignore[arg-type]
    assert str(raised.value).startswith(message)
