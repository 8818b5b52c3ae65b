"""How the documents of one step are laid into packs, and how packs are dealt to ranks. Pure Python."""

from collections.abc import Sequence

from alttrain.engine.data.bins import even_out, fewest_bins, fill_exactly, place_lightest
from alttrain.engine.data.work import WorkModel
from alttrain.engine.errors import ConfigError


def pack_step(lengths: Sequence[int], capacity: int, world_size: int, work: WorkModel) -> list[list[list[int]]]:
    """Lay the documents of one step into packs and deal these to ranks.

    The number of packs is the fewest that hold the documents, rounded up to a multiple of `world_size`; all of them are
    used to even out the work. The packs of one micro-step hold similar work on all ranks, because under ZeRO-2 and 3
    the ranks wait for each other in every micro-step; the heaviest micro-step comes first, so that memory peaks at the
    start. Within a pack documents keep the order of `lengths`. (The number is proven to be the fewest, by search, for
    steps of some tens of documents; for more, a packing that no heuristic finds in bounded time counts as none.)

    Args:
        lengths: tokens of each document of the step, over all ranks.
        capacity: most tokens of a pack.
        world_size: number of ranks.
        work: the cost of a document by its length.

    Returns:
        [rank][micro_batch] -> positions into `lengths`; each position once, equally many micro-batches on every rank,
        no pack above `capacity`, some packs empty where documents are fewer than packs.

    Raises:
        ConfigError: a document is longer than `capacity`.
    """
    if (longest := max(lengths, default=0)) > capacity:
        raise ConfigError(
            f"is {capacity}: a pack must hold the longest example, which has {longest} tokens. "
            "Raise it, or set --data.too-long to cut or skip.",
            flag="--batch.pack-tokens",
        )
    works = [work.work(length) for length in lengths]
    num_micro_batches = max(1, -(-fewest_bins(lengths, capacity) // world_size))
    while (groups := _pack(lengths, works, capacity, world_size, num_micro_batches)) is None:
        num_micro_batches += 1
    packs = [pack for group in groups for pack in even_out(group, lengths, works, capacity)]
    return _deal(packs, works, world_size)


def _pack(
    lengths: Sequence[int], works: Sequence[float], capacity: int, world_size: int, num_micro_batches: int
) -> list[list[list[int]]] | None:
    """Return groups of packs, each of whole micro-steps among which work is evened out later; None if none is found.

    Documents are placed heaviest first, each into the pack of least work. A document heavier than the mean pack sets
    how long its micro-step takes on every rank: on the other ranks that micro-step is filled up to the same work, and
    the remaining micro-steps share the other documents. Where that leaves documents over, `fill_exactly` is tried.
    """
    heaviest_first = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups, documents, num_left = [], heaviest_first, num_micro_batches
    while num_left > 1 and documents:
        level = works[documents[0]]
        if level * num_left * world_size <= sum(works[i] for i in documents):
            break
        group, documents = place_lightest(documents, lengths, works, capacity, world_size, level)
        groups.append(group)
        num_left -= 1
    group, documents = place_lightest(documents, lengths, works, capacity, num_left * world_size)
    if not documents:
        return [*groups, group]
    tight = fill_exactly(lengths, works, capacity, num_micro_batches * world_size)
    return None if tight is None else [tight]


def _deal(packs: list[list[int]], works: Sequence[float], world_size: int) -> list[list[list[int]]]:
    """Split the packs, heaviest first, into micro-steps; in each, the rank with least work so far gets the heaviest."""
    ranks: list[list[list[int]]] = [[] for _ in range(world_size)]
    totals = [0.0] * world_size
    weighed = sorted(((sum(works[i] for i in pack), sorted(pack)) for pack in packs), reverse=True)
    for start in range(0, len(weighed), world_size):
        least_first = sorted(range(world_size), key=totals.__getitem__)
        for rank, (total, pack) in zip(least_first, weighed[start : start + world_size], strict=True):
            ranks[rank].append(pack)
            totals[rank] += total
    return ranks
