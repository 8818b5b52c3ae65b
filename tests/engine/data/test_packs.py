import itertools
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.engine.data.bins import fewest_bins
from alttrain.engine.data.packs import Plan, WorkModel, pack_step, plan_epoch
from alttrain.engine.errors import ConfigError

QWEN_7B = WorkModel.from_shape(3584, 18944, 28, 28, 4, 128, 152064)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def tight_step() -> list[int]:
    """A step of 65,450 tokens for 8 packs of 8,192, 99.87% full: 382 documents, one of 3,000 tokens."""
    draw = random.Random(1)
    lengths = [3000]
    while sum(lengths) < 65_000:
        lengths.append(40 + round(draw.lognormvariate(4.5, 0.7)))
    return [*lengths, 65_450 - sum(lengths)]


def works_by_rank(lengths: list[int], ranks: list[list[list[int]]], work: WorkModel) -> list[float]:
    return [work.flops([lengths[i] for pack in rank for i in pack]) for rank in ranks]


class TestPlan:
    @settings(deadline=None)
    @given(lengths=LENGTHS, batch=st.builds(BatchConfig, examples=st.integers(1, 20)), seed=st.integers(0, 9))
    def test_by_examples_every_example_once_and_every_step_full_but_the_last(
        self, lengths: list[int], batch: BatchConfig, seed: int
    ) -> None:
        steps = plan_epoch(lengths, batch, seed, 3)
        assert sorted(itertools.chain(*steps)) == list(range(len(lengths)))
        assert all(len(step) == batch.examples for step in steps[:-1])
        assert 1 <= len(steps[-1]) <= batch.examples

    @settings(deadline=None)
    @given(lengths=LENGTHS, batch=st.builds(BatchConfig, tokens=st.integers(60, 500)), seed=st.integers(0, 9))
    def test_by_tokens_every_example_once_and_no_step_above_the_budget(
        self, lengths: list[int], batch: BatchConfig, seed: int
    ) -> None:
        steps = plan_epoch(lengths, batch, seed, 3)
        assert sorted(itertools.chain(*steps)) == list(range(len(lengths)))
        assert all(0 < sum(lengths[i] for i in step) <= batch.tokens for step in steps)

    def test_an_example_that_is_passed_over_leads_the_next_step(self) -> None:
        lengths = [7] * 30 + [60] * 10
        order = list(itertools.chain(*plan_epoch(lengths, BatchConfig(examples=1), 0, 0)))
        steps = plan_epoch(lengths, BatchConfig(tokens=100), 0, 0)
        waiting = list(order)
        for step in steps:
            assert step[0] == waiting[0], "the first that waits is taken: nothing starves"
            waiting = [i for i in waiting if i not in set(step)]

    def test_order_differs_by_epoch_and_seed_and_repeats(self) -> None:
        lengths = list(range(1, 101))
        plans = {(seed, epoch): plan_epoch(lengths, BatchConfig(), seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
        assert len({str(plan) for plan in plans.values()}) == 4
        assert plan_epoch(lengths, BatchConfig(), 1, 1) == plans[1, 1]

    def test_the_order_is_written_in_stone(self) -> None:
        """A run that is resumed under another Python must draw the same steps."""
        assert plan_epoch([1] * 10, BatchConfig(examples=5), seed=0, epoch=0) == [[8, 9, 0, 3, 7], [4, 1, 5, 2, 6]]

    @settings(deadline=None)
    @given(lengths=LENGTHS, pack_tokens=st.integers(60, 9000), tokens=st.sampled_from([0, 200]))
    def test_pack_tokens_change_no_step(self, lengths: list[int], pack_tokens: int, tokens: int) -> None:
        plan = plan_epoch(lengths, BatchConfig(tokens=tokens, pack_tokens=pack_tokens), 0, 0)
        assert plan == plan_epoch(lengths, BatchConfig(tokens=tokens), 0, 0)

    def test_an_example_longer_than_the_step_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"--batch\.tokens is 64: .* has 65 tokens"):
            plan_epoch([10, 65], BatchConfig(tokens=64), 0, 0)

    @pytest.mark.parametrize("batch", [BatchConfig(examples=8), BatchConfig(tokens=300)])
    def test_a_run_is_its_epochs_one_after_another(self, batch: BatchConfig) -> None:
        lengths = [random.Random(5).randrange(1, 100) for _ in range(37)]
        plan = Plan(lengths, batch, ScheduleConfig(epochs=3), seed=4)
        expected = [step for epoch in range(3) for step in plan_epoch(lengths, batch, 4, epoch)]
        assert [plan.examples_of(step) for step in range(plan.num_steps)] == expected
        assert plan.epoch_of(0) == 0.0
        assert plan.epoch_of(plan.num_steps) == 3.0
        assert plan.epoch_of(1) == len(expected[0]) / 37
        epochs = [plan.epoch_of(num_done) for num_done in range(plan.num_steps + 1)]
        assert epochs == sorted(set(epochs))

    def test_resuming_needs_the_step_number_alone(self) -> None:
        lengths, batch = [3, 5, 7] * 20, BatchConfig(tokens=40)
        whole = Plan(lengths, batch, ScheduleConfig(epochs=4), seed=0)
        for step in (0, 17, whole.num_steps - 1):
            assert Plan(lengths, batch, ScheduleConfig(epochs=4), seed=0).examples_of(step) == whole.examples_of(step)

    def test_steps_take_precedence_and_epochs_repeat_as_needed(self) -> None:
        plan = Plan([1] * 10, BatchConfig(examples=4), ScheduleConfig(epochs=1, steps=8), seed=0)
        assert plan.num_steps == 8
        assert plan.examples_of(7) == plan_epoch([1] * 10, BatchConfig(examples=4), 0, 2)[1]
        assert plan.epoch_of(8) == 2.8


class TestPackStep:
    @settings(max_examples=300, deadline=None)
    @given(
        lengths=LENGTHS,
        capacity=st.integers(60, 400),
        world_size=st.integers(1, 9),
        squared=st.sampled_from([0.0, 0.001, 1.0]),
    )
    def test_every_document_once_within_capacity_on_equally_many_micro_batches(
        self, lengths: list[int], capacity: int, world_size: int, squared: float
    ) -> None:
        ranks = pack_step(lengths, capacity, world_size, WorkModel(1.0, squared))
        assert len(ranks) == world_size
        assert len({len(rank) for rank in ranks}) == 1
        packs = [pack for rank in ranks for pack in rank]
        assert sorted(itertools.chain(*packs)) == list(range(len(lengths)))
        assert all(sum(lengths[i] for i in pack) <= capacity for pack in packs)
        assert all(pack == sorted(pack) for pack in packs)
        assert ranks == pack_step(lengths, capacity, world_size, WorkModel(1.0, squared)), "determined"

    @settings(deadline=None)
    @given(lengths=LENGTHS, world_size=st.integers(1, 9))
    def test_the_world_changes_no_step(self, lengths: list[int], world_size: int) -> None:
        """One rank and k ranks hold the same documents: tokens and squares, hence everything the loss sums."""

        def held(size: int) -> Counter[int]:
            ranks = pack_step(lengths, 64, size, QWEN_7B)
            return Counter(i for rank in ranks for pack in rank for i in pack)

        assert held(world_size) == held(1)

    def test_a_tight_step_takes_no_pack_more(self) -> None:
        lengths = tight_step()
        assert sum(lengths) == 65_450
        ranks = pack_step(lengths, 8192, 8, QWEN_7B)
        assert [len(rank) for rank in ranks] == [1] * 8
        works = works_by_rank(lengths, ranks, QWEN_7B)
        assert max(works) * 8 / sum(works) - 1 < 0.015

    @pytest.mark.parametrize("room", [1.02, 1.3, 3.0])
    @pytest.mark.parametrize("world_size", [2, 8])
    def test_many_documents_fall_evenly_on_ranks(self, room: float, world_size: int) -> None:
        lengths = tight_step()
        capacity = int(65_450 * room / 8)
        works = works_by_rank(lengths, pack_step(lengths, capacity, world_size, QWEN_7B), QWEN_7B)
        assert max(works) * world_size / sum(works) - 1 < 0.01

    def test_packs_of_a_micro_step_hold_like_work(self) -> None:
        lengths = tight_step()
        ranks = pack_step(lengths, 4096, 4, QWEN_7B)
        for micro_step in zip(*ranks, strict=True):
            works = [QWEN_7B.flops([lengths[i] for i in pack]) for pack in micro_step]
            assert max(works) / (sum(works) / 4) - 1 < 0.03

    def test_a_document_heavier_than_a_pack_sets_the_pace_of_its_micro_step(self) -> None:
        lengths = [8000] + [100] * 90
        ranks = pack_step(lengths, 8192, 2, WorkModel(1.0, 0.0))
        steps = [[sum(lengths[i] for i in pack) for pack in step] for step in zip(*ranks, strict=True)]
        assert sum(max(step) for step in steps) == 8500, "half of 17,000: neither rank waits"

    def test_fewer_documents_than_ranks_leave_packs_empty(self) -> None:
        ranks = pack_step([5, 9], 10, 4, QWEN_7B)
        assert sorted(len(pack) for rank in ranks for pack in rank) == [0, 0, 1, 1]

    def test_a_document_longer_than_a_pack_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"--batch\.pack-tokens is 10: .* has 11 tokens"):
            pack_step([3, 11], 10, 1, QWEN_7B)

    def test_a_step_of_400_documents_is_packed_in_a_tenth_of_a_second(self) -> None:
        lengths = tight_step()
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            pack_step(lengths, 8192, 8, QWEN_7B)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 0.1

    @settings(max_examples=100, deadline=None)
    @given(lengths=st.lists(st.integers(20, 400), min_size=50, max_size=200), world_size=st.sampled_from([1, 4]))
    def test_many_documents_reach_the_lower_bound(self, lengths: list[int], world_size: int) -> None:
        ranks = pack_step(lengths, 1000, world_size, QWEN_7B)
        assert len(ranks[0]) == -(-fewest_bins(lengths, 1000) // world_size)


class TestWorkModel:
    def test_flops_of_the_7b_shape(self) -> None:
        """44.9 GFLOP a token at 4,096 tokens, from 7.07 billion weights in matrix products."""
        assert QWEN_7B.per_token / 6 == pytest.approx(7.07e9, rel=1e-3)
        assert QWEN_7B.work(4096) / 4096 == pytest.approx(44.9e9, rel=1e-3)

    def test_documents_do_not_attend_to_one_another(self) -> None:
        assert QWEN_7B.flops([100, 300]) == QWEN_7B.work(100) + QWEN_7B.work(300) < QWEN_7B.work(400)


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_a_drawn_step_is_its_examples_packed(world_size: int) -> None:
    lengths = [7 + 13 * index % 60 for index in range(40)]
    work = WorkModel(10.0, 0.5)
    plan = Plan(lengths, BatchConfig(examples=9), ScheduleConfig(epochs=2), seed=3)
    for step in range(plan.num_steps):
        drawn = plan.draw(step, 100, world_size, work)
        packed = [index for packs in drawn.packs for pack in packs for index in pack]
        assert sorted(packed) == sorted(plan.examples_of(step))
        assert len({len(packs) for packs in drawn.packs}) == 1
        assert drawn.num_tokens == sum(lengths[index] for index in packed)
        assert drawn.num_packs == sum(bool(pack) for packs in drawn.packs for pack in packs)
        assert drawn.flops == pytest.approx(sum(work.work(lengths[index]) for index in packed))
        assert drawn.epoch == plan.epoch_of(step + 1)
