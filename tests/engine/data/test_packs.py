"""Every document in one pack, no pack above its capacity, and ranks with like work."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alttrain.engine.data.bins import fewest_bins
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.work import WorkModel
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

    @settings(max_examples=100, deadline=None)
    @given(lengths=st.lists(st.integers(20, 400), min_size=50, max_size=200), world_size=st.sampled_from([1, 4]))
    def test_many_documents_reach_the_lower_bound(self, lengths: list[int], world_size: int) -> None:
        ranks = pack_step(lengths, 1000, world_size, QWEN_7B)
        assert len(ranks[0]) == -(-fewest_bins(lengths, 1000) // world_size)
