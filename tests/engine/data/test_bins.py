import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alttrain.engine.data.bins import _fill, even_out, fewest_bins, fill_exactly, place_lightest

CAPACITY = 20
FEW = st.lists(st.integers(1, CAPACITY), min_size=1, max_size=8)


def optimum(lengths: list[int]) -> int:
    """Fewest bins, by trying every bin for every item."""
    best = len(lengths)

    def place(index: int, loads: list[int]) -> None:
        nonlocal best
        if index == len(lengths):
            best = min(best, len(loads))
            return
        for bin_ in range(len(loads)):
            if loads[bin_] + lengths[index] <= CAPACITY:
                place(index + 1, [*loads[:bin_], loads[bin_] + lengths[index], *loads[bin_ + 1 :]])
        if len(loads) + 1 < best:
            place(index + 1, [*loads, lengths[index]])

    place(0, [])
    return best


def loads_of(bins: list[list[int]], lengths: list[int]) -> list[int]:
    return [sum(lengths[i] for i in items) for items in bins]


@settings(max_examples=200, deadline=None)
@given(lengths=FEW)
def test_few_items_fill_exactly_the_fewest_bins(lengths: list[int]) -> None:
    fewest = optimum(lengths)
    assert fewest_bins(lengths, CAPACITY) <= fewest
    filled = fill_exactly(lengths, [float(length) for length in lengths], CAPACITY, fewest)
    assert filled is not None
    assert sorted(itertools.chain(*filled)) == list(range(len(lengths)))
    assert max(loads_of(filled, lengths)) <= CAPACITY
    if fewest > 1:
        assert fill_exactly(lengths, [float(length) for length in lengths], CAPACITY, fewest - 1) is None


@pytest.mark.parametrize("lengths", [[4, 5, 6, 7, 8, 8, 10, 11], [3, 4, 6, 6, 6, 10, 10, 10, 11, 13]])
def test_where_filling_bin_by_bin_fails_the_search_finds_what_there_is(lengths: list[int]) -> None:
    works = [float(length) for length in lengths]
    fewest = optimum(lengths)
    assert _fill([[] for _ in range(fewest)], sorted(range(len(lengths)), reverse=True), lengths, CAPACITY) is None
    filled = fill_exactly(lengths, works, CAPACITY, fewest)
    assert filled is not None
    assert max(loads_of(filled, lengths)) <= CAPACITY


@pytest.mark.parametrize("seed", range(5))
def test_bins_that_were_cut_from_full_ones_are_found_again(seed: int) -> None:
    """No slack at all: each of 8 bins of 8,192 was cut into 48 pieces, so a filling without a gap exists."""
    draw = random.Random(seed)
    lengths = []
    for _ in range(8):
        cuts = sorted(draw.sample(range(1, 8192), 47))
        lengths += [end - start for start, end in itertools.pairwise([0, *cuts, 8192])]
    draw.shuffle(lengths)
    filled = fill_exactly(lengths, [float(length) for length in lengths], 8192, 8)
    assert filled is not None
    assert loads_of(filled, lengths) == [8192] * 8


@pytest.mark.parametrize(
    ("lengths", "fewest"),
    [
        ([], 0),
        ([20], 1),
        ([11] * 5, 5),  # above half: none shares a bin
        ([10] * 5, 3),
        ([7] * 6, 3),  # two to a bin, though 42 tokens would go into three anyway
        ([8, 7, 7, 6, 7, 7], 3),  # 42 tokens, and 7, 7, 6 would fill one, but of five from 7 up no three do
        ([14, 14, 14, 7, 7, 7], 5),  # 63 tokens; a 7 does not go beside a 14
    ],
)
def test_the_lower_bound(lengths: list[int], fewest: int) -> None:
    assert fewest_bins(lengths, CAPACITY) == fewest


def test_the_search_gives_up_in_bounded_time_where_no_filling_exists() -> None:
    lengths = [7] * 100  # two to a bin of 20: 50 bins, although 35 bins hold as many tokens
    assert fill_exactly(lengths, [7.0] * 100, 20, 49) is None
    assert fill_exactly(lengths, [7.0] * 100, 20, 50) is not None


def test_items_above_the_level_or_without_room_are_left() -> None:
    lengths = [9, 8, 7, 6, 5]
    bins, left = place_lightest(range(5), lengths, [float(length) for length in lengths], 15, 2, level=14.0)
    assert sorted([*itertools.chain(*bins), *left]) == list(range(5))
    assert left
    assert max(loads_of(bins, lengths)) <= 14


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 50), min_size=2, max_size=40), num_bins=st.integers(2, 6))
def test_evening_out_keeps_items_and_capacity_and_lightens_the_heaviest(lengths: list[int], num_bins: int) -> None:
    works = [length + 0.01 * length**2 for length in lengths]
    before = [list(range(start, len(lengths), num_bins)) for start in range(num_bins)]
    capacity = max(loads_of(before, lengths))
    after = even_out(before, lengths, works, capacity)
    assert sorted(itertools.chain(*after)) == list(range(len(lengths)))
    assert max(loads_of(after, lengths)) <= capacity
    heaviest = [max(sum(works[i] for i in items) for items in bins) for bins in (before, after)]
    assert heaviest[1] <= heaviest[0] * (1 + 1e-12)


def test_evening_out_goes_on_beside_a_bin_that_has_nothing_to_give() -> None:
    lengths = [50, *[5] * 8]
    after = even_out([[0], list(range(1, 9)), []], lengths, [float(length) for length in lengths], 50)
    assert sorted(loads_of(after, lengths)) == [20, 20, 50]
