"""What --model.checkpointing auto comes to: decided before the model is built, told, and written down as it came out.

On a GPU it is as little recomputation as fits: none, else the fewest whole layers, else all. What fits is worked out
from the model's widths (`memory_model.py`), the fullest pack of the whole run, and the memory that this process can
have: what is free on its GPU, so that the use of others counts. The margin is that of a plan (`fitting.py`). The rank
that needs most layers decides for all of them. On a CPU nothing is recomputed: what a CPU's memory holds is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alttrain.engine.config import RunConfig
from alttrain.engine.data.steps import Plan
from alttrain.engine.data.work import WorkModel
from alttrain.engine.distributed.kernel_agreement import agreed_kernels
from alttrain.engine.distributed.launcher import place_name
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.shape import ModelShape
from alttrain.engine.train.fitting import (
    PERCENT,
    check_count,
    fewest_layers,
    in_words,
    layout_of,
    needed,
    recomputing,
    with_recomputation,
)
from alttrain.engine.train.memory_model import Layout, Memory, Pack, memory_of

GIB = 2**30
# Of the steps of a run so many are packed, by the tokens of a step, and as many by the longest of its rows.
MOST_PACKED = 1000


@dataclass(frozen=True)
class Choice:
    """What one rank finds."""

    layers: int
    """To be recomputed."""
    room: float
    """Bytes that this process can have of its GPU."""
    memory: Memory
    needed: float
    """Bytes, with the margin."""
    where: str
    """The rank, by its name."""

    @property
    def fits(self) -> bool:
        """Whether it does, with the margin."""
        return self.needed <= self.room


def settle_recomputation(
    config: RunConfig, backbone: Backbone, steps: Plan, lengths: Sequence[int], world: World
) -> tuple[RunConfig, list[str]]:
    """Return the run with --model.checkpointing decided, and a sentence that says how, where it was auto. Collective.

    Args:
        config: the run, settled for its world.
        backbone: the model folder, opened; the model should not be built yet.
        steps: which rows share a step.
        lengths: tokens of each row.
        world: the ranks.

    Raises:
        ConfigError: more layers are to be recomputed than there are; or, on every rank, not even a step that
            recomputes all fits one of the GPUs.
    """
    shape = ModelShape.from_config(backbone.config.to_dict(), backbone.folder / "config.json")
    world.together(lambda: check_count(config, shape))
    if config.model.checkpointing != "auto":
        return config, []
    if world.device.type == "cpu":
        return with_recomputation(config, 0, shape), [
            "--model.checkpointing auto -> off: on a CPU nothing is recomputed"
        ]
    if why := _unplanned(config):
        full = with_recomputation(config, shape.layers, shape)
        return full, [f"--model.checkpointing auto -> full: with {why} memory is not planned for"]
    kernels = agreed_kernels(config.model, backbone, world)
    pack = fullest_pack(steps, lengths, config.batch.pack_tokens, world.size, backbone.work)
    layout = layout_of(config, world.size, fuses_layers=kernels.fuses_layers)
    own = world.together(lambda: choose(shape, layout, pack, room_of(world.device), place_name(world.rank)))
    decides = most_cautious(world.gather(own))
    return with_recomputation(config, decides.layers, shape), [sentence(decides, shape, pack)]


def choose(shape: ModelShape, layout: Layout, pack: Pack, room: float, where: str) -> Choice:
    """Return how many layers are recomputed in `room` bytes: all, where the margin alone is missing then.

    Raises:
        ConfigError: all are not enough, even if the memory model is off by as much as it may be.
    """
    fewest = fewest_layers(shape, layout, pack, room)
    layers = shape.layers if fewest is None else fewest
    chosen = recomputing(layout, layers, shape)
    memory = memory_of(shape, chosen, pack)
    if memory.peak * (1 - PERCENT / 100) > room:
        smaller = ", --optim.master bfloat16" if layout.is_one_process and layout.master == "float32" else ""
        raise ConfigError(
            f"is auto, and a pack of {pack.tokens:,} tokens takes {memory.peak / GIB:.1f} GiB with every layer "
            f"recomputed, where {where} has {room / GIB:.1f}. Take more or larger GPUs{smaller} or shorter packs "
            "(--plan.gpu says what fits), or full to try it nevertheless.",
            flag="--model.checkpointing",
        )
    return Choice(layers, room, memory, needed(memory, chosen), where)


def most_cautious(choices: Sequence[Choice]) -> Choice:
    """Return the choice of the rank that recomputes most; of several, the one with the least room."""
    return max(choices, key=lambda choice: (choice.layers, -choice.room))


def sentence(choice: Choice, shape: ModelShape, pack: Pack) -> str:
    """Return what is said of a choice at the start of a run."""
    what = in_words("full" if choice.layers else "off", choice.layers, shape)
    text = (
        f"--model.checkpointing auto -> {what}: the fullest pack, {pack.tokens:,} tokens, takes "
        f"{choice.memory.peak / GIB:.1f} GiB by the plan, of {choice.room / GIB:.1f} on {choice.where}"
    )
    if choice.fits:
        return text
    return f"{text}; with the margin that is {choice.needed / GIB:.1f}, so that it may run out of memory"


def room_of(device: torch.device) -> int:
    """Return the bytes of a GPU that this process can still have: what is free, and what its allocator has to give."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def fullest_pack(steps: Plan, lengths: Sequence[int], capacity: int, world_size: int, work: WorkModel) -> Pack:
    """Return the most that a pack of the run holds, and the most packs that a rank has in a step.

    All steps of all epochs are looked at, and those packed whose packs can be the fullest, MOST_PACKED by each measure.
    Every token is taken to have weight, which is never less than what the loss then takes.
    """
    totals, longest = [], []
    for step in range(steps.num_steps):
        rows = [lengths[index] for index in steps.examples_of(step)]
        totals.append(sum(rows))
        longest.append(max(rows))
    by_total = sorted(range(steps.num_steps), key=totals.__getitem__, reverse=True)
    by_longest = sorted(range(steps.num_steps), key=longest.__getitem__, reverse=True)
    fullest = most_packs = 0
    for step in dict.fromkeys([*by_total[:MOST_PACKED], *by_longest[:MOST_PACKED]]):
        ranks = steps.draw(step, capacity, world_size, work).packs
        most_packs = max(most_packs, len(ranks[0]))
        fullest = max(fullest, *(sum(lengths[index] for index in pack) for rank in ranks for pack in rank))
        if fullest >= min(capacity, totals[by_total[0]]):  # none can be fuller
            break
    return Pack(fullest, fullest, most_packs)


def _unplanned(config: RunConfig) -> str:
    """Return the setting for which no memory model is there, if any."""
    if config.model.dtype != "bfloat16":
        return f"--model.dtype {config.model.dtype}"
    return f"--zero.offload {config.zero.offload}" if config.zero.offload != "none" else ""
