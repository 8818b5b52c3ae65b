"""Which examples share a step, and how a step's examples are laid into packs and dealt to ranks. Pure Python.

The examples of a step are drawn first (`plan_epoch`, `Plan`), from the seed and the lengths alone; then they are packed
(`pack_step`), so that capacity and world size change the speed of a step and never its content.
"""

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.engine.data.bins import even_out, fewest_bins, fill_exactly, place_lightest
from alttrain.engine.errors import ConfigError

LOOK_AHEAD = 64  # examples a step may pass over, in search of shorter ones, before it is closed


@dataclass(frozen=True)
class WorkModel:
    """Work of a document, in FLOPs: per_token * length + per_token_squared * length^2."""

    per_token: float
    per_token_squared: float

    @classmethod
    def from_shape(
        cls,
        hidden_size: int,
        intermediate_size: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        vocab_size: int,
    ) -> "WorkModel":
        """Return the work of one forward and backward: 6 FLOPs a token for each weight of a matrix product.

        The output head counts and the embedding, a lookup, does not. Attention is causal: half of the 4 * length^2 *
        num_heads * head_dim of a layer's forward, times 3 for forward and backward. Recomputation does not count.
        """
        attention = hidden_size * head_dim * (2 * num_heads + 2 * num_kv_heads)  # q and o, k and v
        num_weights = num_layers * (attention + 3 * hidden_size * intermediate_size) + hidden_size * vocab_size
        return cls(6.0 * num_weights, 6.0 * num_layers * num_heads * head_dim)

    def work(self, length: int) -> float:
        """Return the work of one document of `length` tokens."""
        return (self.per_token + self.per_token_squared * length) * length

    def flops(self, lengths: Sequence[int]) -> float:
        """Return the work of these documents, none of which attends to another."""
        return sum(map(self.work, lengths))


def plan_epoch(lengths: Sequence[int], batch: BatchConfig, seed: int, epoch: int) -> list[list[int]]:
    """Return the example indices of each step of one epoch, every example exactly once.

    The order is that of one draw of `random.Random("SEED/EPOCH").random()` for each example: of all that `random` does,
    only this stream is promised to be the same in every version of Python. By `batch.examples`, a step is a slice of
    the order and the last may be smaller. By `batch.tokens`, a step takes what fits, in order; an example that does not
    fit is passed over and comes first in the next step; a step that has passed over `LOOK_AHEAD` examples is closed.

    Raises:
        ConfigError: an example is longer than `batch.tokens`.
    """
    draw = random.Random(f"{seed}/{epoch}").random
    order = sorted(range(len(lengths)), key=[draw() for _ in lengths].__getitem__)
    if batch.tokens == 0:
        return [order[start : start + batch.examples] for start in range(0, len(order), batch.examples)]
    if (longest := max(lengths, default=0)) > batch.tokens:
        raise ConfigError(
            f"--batch.tokens is {batch.tokens}: a step must hold the longest example, which has {longest} tokens. "
            "Raise it, or shorten the rows (--data.too-long with a smaller --batch.pack-tokens)."
        )
    steps = []
    waiting = deque(order)
    while waiting:
        step: list[int] = []
        passed: list[int] = []
        room = batch.tokens
        while waiting and room and len(passed) < LOOK_AHEAD:
            index = waiting.popleft()
            if lengths[index] <= room:
                step.append(index)
                room -= lengths[index]
            else:
                passed.append(index)
        waiting.extendleft(reversed(passed))
        steps.append(step)
    return steps


@dataclass(frozen=True)
class DrawnStep:
    """One optimizer step as drawn and packed for the whole world: what every rank knows without asking a device."""

    packs: list[list[list[int]]]
    """[rank][micro-batch] -> indices of examples; as many micro-batches on every rank, some perhaps empty."""
    num_tokens: int
    """Real tokens, prompts included."""
    num_packs: int
    """Packs that hold anything."""
    flops: float
    """Work of forward and backward by the model's shape, without recomputation."""
    epoch: float
    """Epochs seen once the step is done."""


class Plan:
    """The examples of every step of a run: a function of the step number, so that resuming needs nothing else."""

    def __init__(self, lengths: Sequence[int], batch: BatchConfig, schedule: ScheduleConfig, seed: int) -> None:
        """Plan the run.

        Raises:
            ConfigError: an example is longer than `batch.tokens`.
        """
        assert lengths, "a dataset without examples is refused where it is read"
        self._lengths, self._batch, self._seed = lengths, batch, seed
        self._cached: tuple[int, list[list[int]]] = (-1, [])
        self._starts = [0]  # the first step of each epoch planned so far, and of the one after
        self._steps_of(0)  # so that a step too small for an example is refused here, before anything is written
        for epoch in range(0 if schedule.steps else schedule.epochs):
            self._starts.append(self._starts[-1] + len(self._steps_of(epoch)))
        self.num_steps: int = schedule.steps or self._starts[-1]

    def examples_of(self, step: int) -> list[int]:
        """Return the example indices of `step`, counted from 0 over the whole run."""
        epoch, index = self._locate(step)
        return list(self._steps_of(epoch)[index])

    def draw(self, step: int, capacity: int, world_size: int, work: WorkModel) -> DrawnStep:
        """Return step `step`, from 0: its examples are drawn first, then packed, so packing never changes them."""
        examples = self.examples_of(step)
        lengths = [self._lengths[index] for index in examples]
        ranks = pack_step(lengths, capacity, world_size, work)
        return DrawnStep(
            packs=[[[examples[position] for position in pack] for pack in packs] for packs in ranks],
            num_tokens=sum(lengths),
            num_packs=sum(len(pack) > 0 for packs in ranks for pack in packs),
            flops=work.flops(lengths),
            epoch=self.epoch_of(step + 1),
        )

    def epoch_of(self, num_done: int) -> float:
        """Return how many epochs have been seen once `num_done` steps are done, by examples."""
        if num_done == 0:
            return 0.0
        epoch, index = self._locate(num_done - 1)
        return epoch + sum(map(len, self._steps_of(epoch)[: index + 1])) / len(self._lengths)

    def _locate(self, step: int) -> tuple[int, int]:
        assert 0 <= step < self.num_steps, (step, self.num_steps)
        while self._starts[-1] <= step:
            self._starts.append(self._starts[-1] + len(self._steps_of(len(self._starts) - 1)))
        epoch = bisect_right(self._starts, step) - 1
        return epoch, step - self._starts[epoch]

    def _steps_of(self, epoch: int) -> list[list[int]]:
        if self._cached[0] != epoch:
            self._cached = (epoch, plan_epoch(self._lengths, self._batch, self._seed, epoch))
        return self._cached[1]


def pack_step(lengths: Sequence[int], capacity: int, world_size: int, work: WorkModel) -> list[list[list[int]]]:
    """Lay the documents of one step into packs and deal these to ranks.

    The number of packs is the fewest that hold the documents, rounded up to a multiple of `world_size`; all of them are
    used to even out the work. Packs of one micro-step hold like work on all ranks, because ZeRO-2 and 3 wait for one
    another there; the heaviest micro-step comes first, so that memory peaks at once. Within a pack documents keep the
    order of `lengths`. ("Fewest" is proven by search for steps of some tens of documents; for more, a packing that no
    heuristic finds within a bounded time counts as none.)

    Args:
        lengths: tokens of each document of the step, over all ranks.
        capacity: most tokens of a pack.
        world_size: number of ranks.
        work: what a document costs.

    Returns:
        [rank][micro_batch] -> positions into `lengths`; each position once, equally many micro-batches on every rank,
        no pack above `capacity`, some packs empty where documents are fewer than packs.

    Raises:
        ConfigError: a document is longer than `capacity`.
    """
    if (longest := max(lengths, default=0)) > capacity:
        raise ConfigError(
            f"--batch.pack-tokens is {capacity}: a pack must hold the longest example, which has {longest} tokens. "
            "Raise it, or set --data.too-long to cut or skip."
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
    """Return groups of packs, each a whole number of micro-steps and to be evened out within; None where none is found.

    With room to spare, the heaviest document goes first into the pack of least work. One that is heavier than the mean
    pack sets how long its micro-step takes on every rank: that micro-step is filled up to this level on the other
    ranks, and the remaining ones share what is left. Without room, gaps are filled exactly.
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
    """Cut the packs, heaviest first, into micro-steps; in each, the rank with least work so far gets the heaviest."""
    ranks: list[list[list[int]]] = [[] for _ in range(world_size)]
    totals = [0.0] * world_size
    weighed = sorted(((sum(works[i] for i in pack), sorted(pack)) for pack in packs), reverse=True)
    for start in range(0, len(weighed), world_size):
        least_first = sorted(range(world_size), key=totals.__getitem__)
        for rank, (total, pack) in zip(least_first, weighed[start : start + world_size], strict=True):
            ranks[rank].append(pack)
            totals[rank] += total
    return ranks
