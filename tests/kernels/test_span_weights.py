"""Both paths against the definition, which goes token by token; and each against the other, to the bit."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alttrain.kernels import span_weights as module
from alttrain.kernels.span_weights import Backend, Per, SpanWeights, span_weights, span_weights_reference
from skips import NO_GPU

# The interpreter computes with numpy, which warns of NaNs.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

ALL_PER: tuple[Per, ...] = ("weight", "token", "example")
PATHS: tuple[Backend, ...] = ("triton", "torch")
ROLES = 4
TILE_TOKENS = module.TILE // 16
EXTREMES = [0.0, 1.0, 2.0, 0.1, 1e-20, 3e7]

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
documents_of_roles = st.lists(st.lists(st.integers(0, ROLES - 1), min_size=1, max_size=12), max_size=8)
tables = st.lists(st.sampled_from(EXTREMES), min_size=ROLES, max_size=ROLES)


def step(documents: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Documents given by the roles of their tokens; token ids count up from 100, so that each names its position."""
    roles = [role for document in documents for role in document]
    bounds = torch.tensor([0, *(len(document) for document in documents)]).cumsum(0)
    return (
        torch.arange(100, 100 + len(roles)),
        torch.tensor(roles, dtype=torch.uint8),
        bounds.to(torch.int32),
    )


def assert_same(found: SpanWeights, expected: SpanWeights) -> None:
    for name, ours, theirs in zip(SpanWeights._fields, found, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert ours.shape == theirs.shape, name
        if ours.is_floating_point():
            tolerance = 1e-12 if ours.dtype == torch.float64 else 1e-6
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0.0)
        else:
            assert torch.equal(ours, theirs), name


def on(device: torch.device, inputs: Inputs) -> Inputs:
    input_ids, span_ids, cu_seqlens, table = (tensor.to(device) for tensor in inputs)
    return input_ids, span_ids, cu_seqlens, table


def on_cpu(found: SpanWeights) -> SpanWeights:
    return SpanWeights(*(tensor.cpu() for tensor in found))


@settings(max_examples=150, deadline=None)
@given(documents=documents_of_roles, table=tables, per=st.sampled_from(ALL_PER))
def test_the_vectorised_path_is_the_definition(documents: list[list[int]], table: list[float], per: Per) -> None:
    arguments = (*step(documents), torch.tensor(table))
    assert_same(span_weights(*arguments, per=per, backend="torch"), span_weights_reference(*arguments, per=per))


@settings(max_examples=30, deadline=None)
@given(documents=documents_of_roles, table=tables, per=st.sampled_from(ALL_PER))
def test_the_kernel_is_the_definition(
    documents: list[list[int]], table: list[float], per: Per, device: torch.device
) -> None:
    arguments = (*step(documents), torch.tensor(table))
    found = span_weights(*on(device, arguments), per=per, backend="triton")
    assert_same(on_cpu(found), span_weights_reference(*arguments, per=per))


def lengths(*of_documents: int, num_roles: int = ROLES, table: list[float] | None = None) -> Inputs:
    """A step of documents of these lengths; roles, and weights where `table` does not say, are drawn."""
    generator = torch.Generator().manual_seed(0)
    num_tokens = sum(of_documents)
    weights = torch.tensor(EXTREMES)[torch.randint(len(EXTREMES), (num_roles,), generator=generator)]
    return (
        torch.randint(1 << 40, (num_tokens,), generator=generator),
        torch.randint(num_roles, (num_tokens,), generator=generator, dtype=torch.uint8),
        torch.tensor([0, *of_documents]).cumsum(0).to(torch.int32),
        weights if table is None else torch.tensor(table),
    )


STEPS = {
    "no documents": lengths(),
    "one token": lengths(1),
    "documents of one token": lengths(1, 1, 1, 1),
    "around a tile": lengths(TILE_TOKENS - 1, TILE_TOKENS, 1, TILE_TOKENS + 1, TILE_TOKENS + 2),
    "several tiles": lengths(3 * TILE_TOKENS + 7, 2),
    "all weights zero": lengths(5, 1, 30, table=[0.0] * ROLES),
    "some documents without weight": lengths(2, 1, 3, 2, 2, 4, table=[0.0, 0.0, 0.0, 1.5]),
    "tiny beside huge": lengths(40, 1, 2, 300, table=[1e-20, 3e7, 0.1, 0.0]),
    "one role": lengths(3, 4, num_roles=1),
    "the engine's ten roles": lengths(170, 64, 300, num_roles=10, table=[0, 0, 1, 1, 2, 1, 1, 1, 1, 0.7]),
    "a role for every byte": lengths(900, 3, num_roles=256),
}


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("per", ALL_PER)
@pytest.mark.parametrize("name", STEPS)
def test_both_paths_agree_to_the_bit(name: str, per: Per, device: torch.device) -> None:
    assert_paths_agree(STEPS[name], per, device)


@pytest.mark.long
def test_a_thousand_documents(device: torch.device) -> None:
    assert_paths_agree(lengths(*(1 + i % 7 for i in range(1000))), "example", device)


def assert_paths_agree(inputs: Inputs, per: Per, device: torch.device) -> None:
    kernel = on_cpu(span_weights(*on(device, inputs), per=per, backend="triton"))
    vectorised = span_weights(*inputs, per=per, backend="torch")
    for field, ours, theirs in zip(SpanWeights._fields, kernel, vectorised, strict=True):
        tolerance = 1e-15 if ours.dtype == torch.float64 else 0.0  # sums over roles may take another order
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0.0, msg=lambda text, at=field: f"{at}: {text}")
    assert_same(kernel, span_weights_reference(*inputs, per=per))


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("per", ALL_PER)
def test_bitwise_repeatable(per: Per, backend: Backend, device: torch.device) -> None:
    inputs = on(device, lengths(*(1 + 37 * i % 90 for i in range(20)), table=[0.3, 1e-20, 0.1, 3e7]))
    first, second = (span_weights(*inputs, per=per, backend=backend) for _ in range(2))
    assert all(torch.equal(ours, again) for ours, again in zip(first, second, strict=True))


@pytest.mark.parametrize("backend", PATHS)
def test_inputs_may_be_strided(backend: Backend, device: torch.device) -> None:
    inputs = lengths(5, 9, 1)
    spread = (torch.stack([tensor, tensor - 1], 1)[:, 0] for tensor in on(device, inputs))
    found = span_weights(*spread, per="example", backend=backend)  # type: ignore[arg-type, misc]
    assert_same(on_cpu(found), span_weights_reference(*inputs, per="example"))


def test_a_span_id_out_of_range_is_a_weight_of_nan(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    monkeypatch.setattr(module, "_check_values", lambda *_: None)  # as on a GPU, where values are not looked at
    input_ids, span_ids, cu_seqlens = step([[0, 1, 2], [0, 200, 1]])
    inputs = on(device, (input_ids, span_ids, cu_seqlens, torch.ones(ROLES)))
    weights = span_weights(*inputs, backend="triton").loss_weights
    assert weights.isnan().tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("make", [span_weights, span_weights_reference])
def test_by_hand(make: type[SpanWeights]) -> None:
    found = make(*step([[0, 1, 2], [3], [0, 2, 2, 0]]), torch.tensor([0.0, 1.0, 0.5, 7.0]), per="weight")
    assert found.labels.tolist() == [101, 102, -100, -100, 105, 106, 107, -100]
    assert found.label_span_ids.tolist() == [1, 2, 0, 0, 2, 2, 0, 0]
    assert found.loss_weights.tolist() == [1.0, 0.5, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0]
    assert found.denominator.item() == found.weight_sum.item() == 2.5
    assert found.span_weight_sums.tolist() == [0.0, 1.0, 1.5, 0.0]  # the lone token of role 3 is nobody's label
    assert found.span_token_counts.tolist() == [1.0, 1.0, 3.0, 0.0]


def test_denominators() -> None:
    inputs = (*step([[0, 1, 2], [3], [0, 2, 2, 0], [1, 0, 0]]), torch.tensor([0.0, 1.0, 0.5, 7.0]))
    by_token = span_weights(*inputs, per="token")
    by_example = span_weights(*inputs, per="example")
    assert by_token.denominator.item() == 4.0
    assert torch.equal(by_token.loss_weights, span_weights(*inputs, per="weight").loss_weights)
    assert by_example.denominator.item() == 2.0, "a document of one token and one without weight do not count"
    bounds = inputs[2].tolist()
    sums = [by_example.loss_weights[a:b].sum().item() for a, b in pairwise(bounds)]
    assert sums == pytest.approx([1.0, 0.0, 1.0, 0.0])
    assert by_example.weight_sum.item() == 2.5, "the sum before scaling"


def test_a_document_weighs_the_same_wherever_it_stands() -> None:
    documents = [[0, 1, 2, 2], [0, 3, 3], [1, 1, 2]]
    table = torch.tensor([0.0, 0.3, 1.7, 2.0])
    for per in ALL_PER:
        together = span_weights(*step(documents), table, per=per)
        alone = [span_weights(*step([document]), table, per=per) for document in documents]
        assert torch.equal(together.loss_weights, torch.cat([one.loss_weights for one in alone]))
        assert together.denominator.item() == pytest.approx(sum(one.denominator.item() for one in alone), rel=1e-15)


def test_all_weights_one_counts_labels_exactly() -> None:
    found = span_weights(*step([[0] * 1000, [1] * 501]), torch.ones(ROLES), per="weight")
    assert found.denominator.item() == found.weight_sum.item() == 1499.0
    assert found.loss_weights.sum().item() == 1499.0


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_a_number_of_zero_or_more_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="every weight must be a finite number, 0 or more"):
        span_weights(*step([[0, 1]]), torch.tensor([1.0, weight]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_ids": torch.zeros(3, dtype=torch.int32)}, "input_ids is torch.int32"),
        ({"input_ids": torch.zeros(1, 3, dtype=torch.int64)}, r"shape \(1, 3\)"),
        ({"span_ids": torch.zeros(2, dtype=torch.uint8)}, "span_ids has 2 values, input_ids 3"),
        ({"span_ids": torch.full((3,), 9, dtype=torch.uint8)}, "must be below 4"),
        ({"table": torch.zeros(4, dtype=torch.float64)}, "table is torch.float64"),
        ({"cu_seqlens": torch.tensor([0, 3])}, "cu_seqlens is torch.int64"),
        ({"cu_seqlens": torch.tensor([0, 2], dtype=torch.int32)}, "runs from 0 to 2"),
        ({"cu_seqlens": torch.tensor([1, 3], dtype=torch.int32)}, "runs from 1 to 3"),
        ({"cu_seqlens": torch.tensor([0, 2, 2, 3], dtype=torch.int32)}, "by 1 or more"),
        ({"cu_seqlens": torch.zeros(0, dtype=torch.int32)}, "must not be empty"),
        ({"table": torch.zeros(257)}, "give 256 at most"),
        ({"per": "document"}, "per is 'document'"),
        ({"backend": "cuda"}, "backend is 'cuda'"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], message: str) -> None:
    input_ids, span_ids, cu_seqlens = step([[0, 1, 2]])
    given_: dict[str, Any] = {
        "input_ids": input_ids,
        "span_ids": span_ids,
        "cu_seqlens": cu_seqlens,
        "table": torch.ones(ROLES),
    }
    with pytest.raises(ValueError, match=message):
        span_weights(**(given_ | changed))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("per", ALL_PER)
def test_on_cuda_without_a_host_sync(per: Per) -> None:
    inputs = (*step([[0, 1, 2, 2] * 50, [0], [3, 3]] * 20), torch.tensor([0.0, 0.3, 1.7, 2.0]))
    on_device = on(torch.device("cuda"), inputs)
    span_weights(*on_device, per=per)  # compiling may synchronise
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = span_weights(*on_device, per=per)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same(on_cpu(found), span_weights_reference(*inputs, per=per))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("per", ALL_PER)
def test_on_cuda_the_last_program_sees_every_other(per: Per) -> None:
    inputs = lengths(*(1 + 61 * i % 130 for i in range(5000)), num_roles=10)
    expected = span_weights(*inputs, per=per, backend="torch")
    on_device = on(torch.device("cuda"), inputs)
    for _ in range(200):
        assert_same(on_cpu(span_weights(*on_device, per=per)), expected)
