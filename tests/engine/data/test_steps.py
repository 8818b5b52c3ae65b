"""Every example once an epoch, the same steps for the same seed, whatever the packs."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.engine.data.steps import Plan, plan_epoch
from alttrain.engine.data.work import WorkModel
from alttrain.engine.errors import ConfigError

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


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
