from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alttrain.kernels.span_weights import Per, SpanWeights, span_weights, span_weights_reference

ALL_PER: tuple[Per, ...] = ("weight", "token", "example")
ROLES = 4


def step(documents: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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


@settings(max_examples=150, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, ROLES - 1), min_size=1, max_size=12), max_size=8),
    table=st.lists(st.sampled_from([0.0, 1.0, 2.0, 0.1, 1e-20, 3e7]), min_size=ROLES, max_size=ROLES),
    per=st.sampled_from(ALL_PER),
)
def test_the_vectorised_path_is_the_definition(documents: list[list[int]], table: list[float], per: Per) -> None:
    arguments = (*step(documents), torch.tensor(table))
    assert_same(span_weights(*arguments, per=per), span_weights_reference(*arguments, per=per))


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
        ({"per": "document"}, "per is 'document'"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], message: str) -> None:
    input_ids, span_ids, cu_seqlens = step([[0, 1, 2]])
    given_: dict[str, object] = {
        "input_ids": input_ids,
        "span_ids": span_ids,
        "cu_seqlens": cu_seqlens,
        "table": torch.ones(ROLES),
    }
    with pytest.raises(ValueError, match=message):
        span_weights(**(given_ | changed))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("per", ALL_PER)
def test_on_cuda_without_a_host_sync(per: Per) -> None:
    inputs = (*step([[0, 1, 2, 2] * 50, [0], [3, 3]] * 20), torch.tensor([0.0, 0.3, 1.7, 2.0]))
    on_device = [tensor.cuda() for tensor in inputs]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = span_weights(*on_device, per=per)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same(SpanWeights(*(tensor.cpu() for tensor in found)), span_weights_reference(*inputs, per=per))
