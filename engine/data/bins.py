"""Packing items into bins of one capacity: the fewest bins needed, tight fillings, and evening out the work of bins.

An item is its position in `lengths`; `works[i]` grows with `lengths[i]`. Every function is determined by its arguments.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

EVEN_ENOUGH = 1.0005  # heaviest bin over the mean of the active ones, below which evening out stops
PARTNERS = 8  # bins, the lightest first, that the heaviest one may exchange items with
CANDIDATES = 512  # items among which the fullest subset is sought
SEARCH_NODES = 20_000  # placements tried before a filling is taken not to exist: some 0.1 s
SEARCH_DEPTH = 400  # most items that `_search` takes: it recurses once an item, and with more items `_fill` succeeds


def fewest_bins(lengths: Sequence[int], capacity: int) -> int:
    """Return a number of bins below which no filling exists.

    The number is the larger of two bounds. Bound L2 of Martello and Toth 1990, for each threshold: items longer than
    half a bin stand in different bins; those longer than capacity - threshold share their bin with no item of the
    threshold or more; medium items that do not fit beside the remaining long ones need bins of their own. A bound by
    counting: of the items at least as long as a given one, a bin holds at most as many as of the shortest of them.
    """
    ascending = sorted(lengths)
    sums = list(accumulate(ascending, initial=0))
    half = bisect_right(ascending, capacity // 2)
    fewest = 0
    for threshold in {0, *ascending[:half]}:
        alone = max(half, bisect_right(ascending, capacity - threshold))
        small = bisect_left(ascending, threshold)
        room = (alone - half) * capacity - (sums[alone] - sums[half])
        homeless = max(0, sums[half] - sums[small] - room)
        fewest = max(fewest, len(ascending) - half + -(-homeless // capacity))
    for start in range(len(ascending)):
        most_in_one = bisect_right(sums, sums[start] + capacity) - 1 - start
        fewest = max(fewest, -(-(len(ascending) - start) // most_in_one))
    return fewest


def place_lightest(
    items: Sequence[int],
    lengths: Sequence[int],
    works: Sequence[float],
    capacity: int,
    num_bins: int,
    level: float = float("inf"),
) -> tuple[list[list[int]], list[int]]:
    """Put each of `items`, in order, into the bin of least work that has room, up to `level` work.

    Returns:
        The bins, and the items that found no place.
    """
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    loads = [0] * num_bins
    lightest = [(0.0, index) for index in range(num_bins)]
    left = []
    for i in items:
        full = []
        while lightest and loads[lightest[0][1]] + lengths[i] > capacity:
            full.append(heapq.heappop(lightest))
        if lightest and lightest[0][0] + works[i] <= level:
            total, index = lightest[0]
            bins[index].append(i)
            loads[index] += lengths[i]
            heapq.heapreplace(lightest, (total + works[i], index))
        else:
            left.append(i)
        for entry in full:
            heapq.heappush(lightest, entry)
    return bins, left


def fill_exactly(
    lengths: Sequence[int], works: Sequence[float], capacity: int, num_bins: int
) -> list[list[int]] | None:
    """Return a filling of `num_bins` bins, however tight, or None where there is none or bounded time finds none.

    The longer half of the items is spread by work and the shorter ones fill the gaps; if that fails, the same is tried
    with the longest quarter spread, then with none; if that fails too, fillings are searched exhaustively.
    """
    longest_first = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for num_long in (len(lengths) // 2, len(lengths) // 4, 0):
        spread, left = place_lightest(longest_first[:num_long], lengths, works, capacity, num_bins)
        filled = None if left else _fill(spread, longest_first[num_long:], lengths, capacity)
        if filled is not None:
            return filled
    if len(lengths) <= SEARCH_DEPTH:
        return _search(longest_first, lengths, capacity, num_bins)
    return None


def _fill(
    bins: list[list[int]], longest_first: list[int], lengths: Sequence[int], capacity: int
) -> list[list[int]] | None:
    """Fill one bin after another as full as possible; an empty bin first gets the longest item left."""
    left = longest_first
    filled: list[list[int]] = []
    for seed in bins:
        chosen = seed or left[:1]
        room = capacity - sum(lengths[i] for i in chosen)
        chosen = [*chosen, *_fullest_subset(left if seed else left[1:], lengths, room)]
        filled.append(chosen)
        taken = set(chosen)
        left = [i for i in left if i not in taken]
    return None if left else filled


def _fullest_subset(longest_first: list[int], lengths: Sequence[int], room: int) -> list[int]:
    """Return items whose lengths sum to the largest number that is at most `room`, long ones preferred.

    Bit s of `reachable[k]` says that some of the first k candidates, shortest first, sum to s. Of more than CANDIDATES
    items, only evenly spaced ones are considered.
    """
    total = sum(lengths[i] for i in longest_first)
    if total <= room:
        return longest_first
    stride = max(1, min(len(longest_first) // CANDIDATES, total // (2 * room + 1)))
    candidates = longest_first[::-stride]
    mask = (2 << room) - 1
    reachable = [1]
    for i in candidates:
        reachable.append((reachable[-1] | reachable[-1] << lengths[i]) & mask)
    target = reachable.pop().bit_length() - 1
    chosen = []
    for i, without in zip(reversed(candidates), reversed(reachable), strict=True):
        if target >= lengths[i] and without >> (target - lengths[i]) & 1:
            chosen.append(i)
            target -= lengths[i]
    return chosen


def _search(longest_first: list[int], lengths: Sequence[int], capacity: int, num_bins: int) -> list[list[int]] | None:
    """Try fillings, longest item first and fullest bin first, until one fits or SEARCH_NODES placements are tried."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    rooms = [capacity] * num_bins
    shortest = lengths[longest_first[-1]]
    spare = num_bins * capacity - sum(lengths)
    num_tried = 0

    def place_from(depth: int) -> bool:
        nonlocal num_tried
        if depth == len(longest_first):
            return True
        if sum(room for room in rooms if room < shortest) > spare:
            return False
        i = longest_first[depth]
        one_of_each_room = {room: index for index, room in enumerate(rooms) if room >= lengths[i]}
        for _, index in sorted(one_of_each_room.items()):
            num_tried += 1
            bins[index].append(i)
            rooms[index] -= lengths[i]
            if num_tried > SEARCH_NODES or place_from(depth + 1):
                return True
            rooms[index] += lengths[i]
            bins[index].pop()
        return False

    return bins if place_from(0) and num_tried <= SEARCH_NODES else None


def even_out(
    bins: Sequence[Sequence[int]], lengths: Sequence[int], works: Sequence[float], capacity: int
) -> list[list[int]]:
    """Move or exchange items, from the heaviest bin to light ones, as long as that makes it lighter.

    Each exchange brings the work of two bins closer together and keeps their sum, so the sum of squares falls; a bin
    from which no exchange helps is left as it is.
    """
    evened = [sorted(items, key=lambda i: (lengths[i], i)) for items in bins]
    totals = [sum(works[i] for i in items) for items in evened]
    active = sorted(range(len(evened)), key=totals.__getitem__)
    for _ in range(32 * len(evened)):
        heavy = active[-1]
        if len(active) == 1 or totals[heavy] * len(active) <= EVEN_ENOUGH * sum(totals[i] for i in active):
            break
        for light in active[: min(PARTNERS, len(active) - 1)]:
            pair = (evened[heavy], evened[light])
            if _exchange(*pair, totals[heavy] - totals[light], lengths, works, capacity):
                totals[heavy], totals[light] = (sum(works[i] for i in items) for items in pair)
                active.sort(key=totals.__getitem__)
                break
        else:
            active.pop()
    return evened


def _exchange(
    heavy: list[int], light: list[int], gap: float, lengths: Sequence[int], works: Sequence[float], capacity: int
) -> bool:
    """Move an item from `heavy` to `light`, perhaps in exchange for one, so that about half of `gap` in work moves."""
    room = capacity - sum(lengths[i] for i in light)
    light_works = [works[i] for i in light]
    light_lengths = [lengths[i] for i in light]
    closest = 0.499 * gap  # moving nothing, or the whole gap, would miss the half by 0.5 * gap and help nothing
    given: int | None = None
    taken: int | None = None
    for i in heavy:
        if lengths[i] <= room and abs(works[i] - gap / 2) < closest:
            closest, given, taken = abs(works[i] - gap / 2), i, None
        fits_from = bisect_left(light_lengths, lengths[i] - room)
        nearest = bisect_left(light_works, works[i] - gap / 2)
        for j in light[max(fits_from, nearest - 1) : max(fits_from, nearest) + 1]:
            if abs(works[i] - works[j] - gap / 2) < closest:
                closest, given, taken = abs(works[i] - works[j] - gap / 2), i, j
    if given is None:
        return False
    heavy.remove(given)
    light.append(given)
    if taken is not None:
        light.remove(taken)
        heavy.append(taken)
    for items in (heavy, light):
        items.sort(key=lambda i: (lengths[i], i))
    return True
