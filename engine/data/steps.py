"""Which examples share an optimizer step: a function of the seed and the lengths alone.

The examples of a step are packed afterwards (`packs.py`), so pack capacity and world size never change which they are.
"""

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.work import WorkModel
from alttrain.engine.errors import ConfigError

LOOK_AHEAD = 64  # examples that a step may pass over in search of shorter ones before it is closed


def plan_epoch(lengths: Sequence[int], batch: BatchConfig, seed: int, epoch: int) -> list[list[int]]:
    """Return the example indices of each step of one epoch, every example exactly once.

    Examples are sorted by one draw of `random.Random("SEED/EPOCH").random()` each: of the module `random`, Python
    promises only that this stream stays the same in every version. With `batch.examples`, a step is a slice of that
    order, and the last step may be smaller. With `batch.tokens`, a step takes the examples that fit, in order; one that
    does not fit is passed over and comes first in the next step; after `LOOK_AHEAD` passed over, the step is closed.

    Raises:
        ConfigError: an example is longer than `batch.tokens`.
    """
    draw = random.Random(f"{seed}/{epoch}").random
    order = sorted(range(len(lengths)), key=[draw() for _ in lengths].__getitem__)
    if batch.tokens == 0:
        return [order[start : start + batch.examples] for start in range(0, len(order), batch.examples)]
    if (longest := max(lengths, default=0)) > batch.tokens:
        raise ConfigError(
            f"is {batch.tokens}: a step must hold the longest example, which has {longest} tokens. "
            "Raise it, or shorten the rows (--data.too-long with a smaller --batch.pack-tokens).",
            flag="--batch.tokens",
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
    """One optimizer step, drawn and packed for all ranks; every rank computes the same, on the CPU."""

    packs: list[list[list[int]]]
    """[rank][micro-batch] -> indices of examples; equally many micro-batches on every rank, some perhaps empty."""
    num_tokens: int
    """Real tokens, prompts included."""
    num_packs: int
    """Packs that are not empty."""
    flops: float
    """Work of forward and backward by the model's shape, without recomputation."""
    epoch: float
    """Epochs completed after this step, as a fraction of examples."""


class Plan:
    """The examples of every step of a run, by step number alone, so that resuming needs no saved state."""

    def __init__(self, lengths: Sequence[int], batch: BatchConfig, schedule: ScheduleConfig, seed: int) -> None:
        """Plan the run.

        Raises:
            ConfigError: an example is longer than `batch.tokens`.
        """
        assert lengths, "a dataset without examples is refused where it is read"
        self._lengths, self._batch, self._seed = lengths, batch, seed
        self._cached: tuple[int, list[list[int]]] = (-1, [])
        # Where a step has so many tokens, not examples: the first step of each epoch planned so far, and the one after.
        self._starts = [0]
        # Raises here, before anything is written, if an example is longer than batch.tokens.
        self._per_epoch = 0 if batch.tokens else len(self._steps_of(0))
        if batch.tokens:
            self._steps_of(0)
            for epoch in range(0 if schedule.steps else schedule.epochs):
                self._starts.append(self._starts[-1] + len(self._steps_of(epoch)))
        self.num_steps: int = schedule.steps or self._per_epoch * schedule.epochs or self._starts[-1]

    def examples_of(self, step: int) -> list[int]:
        """Return the example indices of `step`, counted from 0 over the whole run."""
        epoch, index = self._locate(step)
        return list(self._steps_of(epoch)[index])

    def draw(self, step: int, capacity: int, world_size: int, work: WorkModel) -> DrawnStep:
        """Return step `step`, counted from 0: its examples are drawn first and then packed."""
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
        """Return how many epochs of examples have been seen after `num_done` steps."""
        if num_done == 0:
            return 0.0
        epoch, index = self._locate(num_done - 1)
        return epoch + sum(map(len, self._steps_of(epoch)[: index + 1])) / len(self._lengths)

    def _locate(self, step: int) -> tuple[int, int]:
        assert 0 <= step < self.num_steps, (step, self.num_steps)
        if self._per_epoch:
            return divmod(step, self._per_epoch)
        while self._starts[-1] <= step:
            self._starts.append(self._starts[-1] + len(self._steps_of(len(self._starts) - 1)))
        epoch = bisect_right(self._starts, step) - 1
        return epoch, step - self._starts[epoch]

    def _steps_of(self, epoch: int) -> list[list[int]]:
        if self._cached[0] != epoch:
            self._cached = (epoch, plan_epoch(self._lengths, self._batch, self._seed, epoch))
        return self._cached[1]
