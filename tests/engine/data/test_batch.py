"""A step's tensors are what their definition says, made on the GPU where there is one."""

import random
from collections.abc import Collection
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alttrain.engine.config import LossConfig
from alttrain.engine.data.batch import Collator, PackedBatch, StepBatch
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.work import WorkModel
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.kernels.span_weights import Per
from skips import NO_GPU

CPU = torch.device("cpu")
PROMPT, ASSESSMENT, ANSWER = (ROLES.index(role) for role in ("prompt", "assessment", "answer"))
WEIGHTS = dict.fromkeys(ROLES, 1.0) | {"prompt": 0.0, "opening": 0.0, "assessment": 2.0}


def example(*roles: int, first_token: int = 100) -> Example:
    return Example("row", list(range(first_token, first_token + len(roles))), list(roles), "rows.jsonl:1")


def random_examples(count: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)
    lengths = [draw.randrange(1, 40) for _ in range(count)]
    return [
        example(*(draw.randrange(len(ROLES)) for _ in range(n)), first_token=1000 * i) for i, n in enumerate(lengths)
    ]


def collate_step(
    packs: list[list[Example]],
    weights: dict[str, float],
    per: Per,
    device: torch.device,
    measured: Collection[str] = (),
) -> StepBatch:
    return Collator(LossConfig(**weights, per=per), device, measured=measured).collate(packs)


def collate(
    examples: list[Example], device: torch.device, *, capacity: int = 64, world: int = 1, per: Per = "weight"
) -> list[StepBatch]:
    ranks = pack_step([len(e.input_ids) for e in examples], capacity, world, WorkModel(1.0, 0.0))
    return [collate_step([[examples[i] for i in pack] for pack in packs], WEIGHTS, per, device) for packs in ranks]


def by_hand(examples: list[Example]) -> dict[tuple[int, int], float]:
    """Weight of each (token, next token) pair that is trained; tokens of `random_examples` are all different."""
    return {
        (read, predicted): WEIGHTS[ROLES[role]]
        for e in examples
        for read, predicted, role in zip(e.input_ids, e.input_ids[1:], e.span_ids[1:], strict=False)
        if WEIGHTS[ROLES[role]]
    }


def trained(batch: PackedBatch) -> dict[tuple[int, int], float]:
    ids, labels, weights = batch.input_ids[0].tolist(), batch.labels.tolist(), batch.loss_weights.tolist()
    return {(ids[row], labels[row]): weights[row] for row in batch.rows.tolist()}


def test_two_documents_by_hand(device: torch.device) -> None:
    pack = [example(PROMPT, PROMPT, ASSESSMENT, ANSWER), example(PROMPT, ANSWER, first_token=200)]
    step = collate_step([pack], WEIGHTS, "weight", device)
    (batch,) = step.micro_batches
    assert batch.input_ids.tolist() == [[100, 101, 102, 103, 200, 201]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.cu_seqlens.tolist() == [0, 4, 6]
    assert batch.max_seqlen == 4
    assert batch.labels.tolist() == [101, 102, 103, -100, 201, -100]
    assert batch.label_span_ids.tolist() == [PROMPT, ASSESSMENT, ANSWER, 0, ANSWER, 0]
    assert batch.loss_weights.tolist() == [0.0, 2.0, 1.0, 0.0, 1.0, 0.0]
    assert batch.rows.tolist() == [1, 2, 4]
    assert step.denominator.item() == step.weight_sum.item() == 4.0


def test_shapes_and_dtypes(device: torch.device) -> None:
    (step,) = collate(random_examples(20), device)
    assert len(step.micro_batches) > 1
    for batch in step.micro_batches:
        lengths = batch.cu_seqlens.diff().tolist()
        n = sum(lengths)
        assert batch.max_seqlen == max(lengths)
        for tensor, shape, dtype in (
            (batch.input_ids, (1, n), torch.int64),
            (batch.position_ids, (1, n), torch.int64),
            (batch.cu_seqlens, (len(lengths) + 1,), torch.int32),
            (batch.labels, (n,), torch.int64),
            (batch.label_span_ids, (n,), torch.uint8),
            (batch.loss_weights, (n,), torch.float32),
            (batch.rows, (len(batch.rows),), torch.int64),
        ):
            assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
    for total in (step.denominator, step.weight_sum):
        assert (total.shape, total.dtype) == ((), torch.float64)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 30), seed=st.integers(0, 99), capacity=st.integers(40, 200), world=st.integers(1, 5))
def test_packing_and_ranks_change_no_weight_and_no_sum(
    count: int, seed: int, capacity: int, world: int, device: torch.device
) -> None:
    examples = random_examples(count, seed)
    steps = collate(examples, device, capacity=capacity, world=world)
    found: dict[tuple[int, int], float] = {}
    for step in steps:
        for batch in step.micro_batches:
            pairs = trained(batch)
            assert not found.keys() & pairs.keys()
            found |= pairs
    expected = by_hand(examples)
    assert found == expected
    assert sum(step.denominator.item() for step in steps) == sum(expected.values())
    assert len({len(step.micro_batches) for step in steps}) == 1


@pytest.mark.parametrize("per", ["weight", "token", "example"])
def test_the_denominator_is_the_same_on_one_rank_and_on_four(per: Per, device: torch.device) -> None:
    examples = random_examples(30)
    one, four = collate(examples, device, per=per), collate(examples, device, per=per, world=4)
    assert sum(step.denominator.item() for step in four) == pytest.approx(one[0].denominator.item(), rel=1e-14)
    weights = [sum(b.loss_weights.sum().item() for step in steps for b in step.micro_batches) for steps in (one, four)]
    assert weights[0] == pytest.approx(weights[1], rel=1e-5)
    if per != "token":
        assert weights[0] == pytest.approx(one[0].denominator.item(), rel=1e-5)


def test_an_empty_pack_is_one_dummy_token_without_a_label(device: torch.device) -> None:
    step = collate_step([[example(PROMPT, ANSWER)], []], WEIGHTS, "example", device)
    full, empty = step.micro_batches
    assert empty.input_ids.tolist() == [[0]]
    assert empty.position_ids.tolist() == [[0]]
    assert empty.cu_seqlens.tolist() == [0, 1]
    assert empty.max_seqlen == 1
    assert empty.labels.tolist() == [-100]
    assert empty.loss_weights.tolist() == [0.0]
    assert empty.rows.tolist() == []
    assert full.rows.tolist() == [0]
    assert step.denominator.item() == 1.0


def test_a_rank_with_nothing_but_an_empty_pack(device: torch.device) -> None:
    step = collate_step([[]], WEIGHTS, "weight", device)
    assert step.denominator.item() == 0.0


def test_evaluation_measures_roles_without_weight_too(device: torch.device) -> None:
    packs = [[example(PROMPT, PROMPT, ASSESSMENT, ANSWER)]]
    weights = WEIGHTS | {"answer": 0.0}
    assert collate_step(packs, weights, "weight", device).micro_batches[0].rows.tolist() == [1]
    batch = collate_step(packs, weights, "weight", device, measured=["answer"]).micro_batches[0]
    assert batch.rows.tolist() == [1, 2], "beside what has weight"
    assert batch.loss_weights.tolist() == [0.0, 2.0, 0.0, 0.0]


def test_every_row_with_weight_is_among_the_rows(device: torch.device) -> None:
    for step in collate(random_examples(25, seed=3), device, per="example", world=2):
        for batch in step.micro_batches:
            assert batch.rows.tolist() == batch.loss_weights.nonzero().squeeze(1).tolist()


def test_micro_batches_are_views_of_the_step(device: torch.device) -> None:
    (step,) = collate(random_examples(20), device)
    for field in ("input_ids", "position_ids", "labels", "loss_weights"):
        storages = {getattr(batch, field).untyped_storage().data_ptr() for batch in step.micro_batches}
        assert len(storages) == 1, field


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_on_cuda_without_a_host_sync() -> None:
    packs = [random_examples(20), [], random_examples(9, seed=2)]
    torch.cuda.init()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step = collate_step(packs, WEIGHTS, "example", torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = collate_step(packs, WEIGHTS, "example", CPU)
    assert step.denominator.item() == expected.denominator.item()
    for ours, theirs in zip(step.micro_batches, expected.micro_batches, strict=True):
        assert torch.equal(ours.loss_weights.cpu(), theirs.loss_weights)
        assert torch.equal(ours.rows.cpu(), theirs.rows)
        assert torch.equal(ours.position_ids.cpu(), theirs.position_ids)


@pytest.mark.parametrize("per", ["weight", "token", "example"])
def test_a_row_of_weight_2_is_a_row_that_stands_twice(per: Per) -> None:
    loss = LossConfig(prompt=0.0, assessment=2.0, per=per)
    rows = [
        Example("a", [1, 2, 3, 4], [0, 3, 4, 8], "f:1"),
        Example("b", [5, 6, 7, 8, 9], [0, 1, 3, 3, 4], "f:2"),
        Example("c", [1, 2], [0, 0], "f:3"),
    ]
    once = Collator(loss, CPU).collate([[rows[0], replace(rows[1], weight=2.0)], [rows[2]]])
    twice = Collator(loss, CPU).collate([[rows[0], rows[1]], [rows[1], rows[2]]])
    if per == "token":  # the denominator counts tokens, whatever they weigh
        assert once.denominator == Collator(loss, CPU).collate([rows]).denominator
    else:
        assert once.denominator.item() == pytest.approx(twice.denominator.item(), rel=1e-6)
    assert once.weight_sum.item() == twice.weight_sum.item()
    sums = [sum(b.loss_weights.double().sum().item() for b in step.micro_batches) for step in (once, twice)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)


def test_rows_without_weights_of_their_own_take_the_same_path_as_before() -> None:
    rows = [Example("a", [1, 2, 3], [0, 3, 4], "f:1"), Example("b", [5, 6], [0, 3], "f:2", 1.0)]
    plain = Collator(LossConfig(), CPU).collate([rows])
    half = Collator(LossConfig(), CPU).collate([[replace(row, weight=0.5) for row in rows]])
    assert torch.equal(half.micro_batches[0].loss_weights, plain.micro_batches[0].loss_weights * 0.5)
    assert half.denominator == plain.denominator * 0.5
