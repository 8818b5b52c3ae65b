"""A plan of a run: what its step takes on a machine that need not be at hand, and the fastest setting that fits.

Memory follows `memory_model.py`, time `time_model.py`. Settings that are tried are those that change speed and memory
alone: ZeRO's stage, checkpointing and the number of layers that are recomputed, and the capacity of a pack. Precision
stays as it was asked for; only where nothing fits is it lowered, to bfloat16 moments and then to weights without a
master.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alttrain.engine.config import RunConfig
from alttrain.engine.distributed.choice import settled
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.shape import ModelShape
from alttrain.engine.train.fitting import (
    check_count,
    fewest_layers,
    in_words,
    layout_of,
    needed,
    with_recomputation,
)
from alttrain.engine.train.gpus import GPUS
from alttrain.engine.train.memory_model import Layout, Memory, Pack, memory_of
from alttrain.engine.train.plan_load import Load, Model, Rows, load_of, open_model, open_rows
from alttrain.engine.train.time_model import Batch, Machine, StepTime, step_time

STAGES, CHECKPOINTING = (1, 2, 3), ("off", "selective", "full")
PACK_TOKENS = (2048, 4096, 8192, 16_384, 32_768)
_KERNELS = {
    True: "ours are planned with, which --model.kernels auto takes on a GPU on which they are proven",
    False: "PyTorch's, as --model.kernels torch asks",
}
# Times are a model's: settings whose times differ by less count as equally fast. Of these the run as it stands comes
# first, and ZeRO 3 last, as its time depends most on Python and on what collectives leave of the products' rate; in
# between, fewer flags to change come first.
SAME_TIME = 0.05
# The same rows in fewer and larger packs are the same work in larger pieces: which is faster is sure, and the smaller
# difference counts.
SAME_PACKS = 0.01
GPUS_OF_A_NODE, NODES = (1, 2, 4, 8), (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Option:
    """A setting on a machine."""

    config: RunConfig
    """Settled for the machine's world."""
    machine: Machine
    load: Load
    layout: Layout
    shape: ModelShape
    pack: Pack
    memory: Memory
    time: StepTime
    flops: float
    """Of forward and backward of a step over all ranks, without recomputation."""

    @property
    def needed(self) -> float:
        """Bytes that a GPU must have."""
        return needed(self.memory, self.layout)

    @property
    def fits(self) -> bool:
        """Whether the GPU holds it."""
        return self.needed <= self.machine.gpu.memory

    @cached_property
    def fewest_layers(self) -> int:
        """How many layers must be recomputed whole that it fits; all of them where it does not."""
        fewest = fewest_layers(self.shape, self.layout, self.pack, self.machine.gpu.memory)
        return self.shape.layers if fewest is None else fewest

    @property
    def recomputation(self) -> str:
        """What is recomputed, in words: off, selective, full, or so many layers."""
        return in_words(self.layout.checkpointing, self.layout.num_recomputed(self.shape), self.shape)

    @property
    def hours(self) -> float:
        """Of all steps."""
        return self.load.num_steps * self.time.seconds / 3600

    @property
    def mfu(self) -> float:
        """The share of the GPUs' peak that forward and backward make of a step, as metrics.jsonl counts it."""
        return self.flops / self.time.seconds / (self.machine.gpu.peak_flops * self.machine.world_size)


@dataclass(frozen=True)
class Plan:
    """What is said of a run."""

    config: RunConfig
    model: Model
    rows: Rows
    machine: Machine
    asked: Option
    """The run as it stands."""
    notes: list[str]
    """What the world changes in the settings, and what of the software is assumed."""
    best: Option | None
    """The fastest setting that fits."""
    way_out: Option | None = None
    """Where nothing fits, the smallest machine on which something does."""


def make_plan(config: RunConfig) -> Plan:
    """Return the plan of a run that names a GPU.

    Raises:
        AlttrainError: model or rows are wrong, or several ranks cannot do what --optim asks for.
    """
    machine = Machine(GPUS[config.plan.gpu], config.plan.gpus, config.plan.nodes)
    model, rows = open_model(config), open_rows(config)
    asked_config, notes = settled(config, machine.world_size)
    asked = option_of(asked_config, rows, model.shape, machine)
    best = best_option(config, rows, model.shape, machine)
    way_out = None if best else _smallest_that_fits(config, rows, model.shape, machine)
    notes.append(f"kernels: {_KERNELS[asked.layout.fuses_layers]}")
    return Plan(config, model, rows, machine, asked, notes, best, way_out)


def option_of(config: RunConfig, rows: Rows, shape: ModelShape, machine: Machine, load: Load | None = None) -> Option:
    """Return what a settled run takes on a machine, with --model.checkpointing auto as it would come out there.

    `load` is what its ranks get, where that is known already.

    Raises:
        ConfigError: more layers are to be recomputed than there are.
    """
    check_count(config, shape)
    load = load or load_of(rows, config, machine.world_size, shape)
    pack = Pack(load.fullest_pack, round(load.fullest_pack * rows.share), load.most_packs)
    fuses = config.model.kernels != "torch"
    layout = layout_of(config, machine.world_size, fuses_layers=fuses)
    if config.model.checkpointing == "auto":
        fewest = fewest_layers(shape, layout, pack, machine.gpu.memory)
        config = with_recomputation(config, shape.layers if fewest is None else fewest, shape)
        layout = layout_of(config, machine.world_size, fuses_layers=fuses)
    batch = Batch(load.pack_tokens, load.pack_tokens * rows.share, load.packs, load.pack_tiles)
    mean_square = sum(length * length for length in rows.lengths) / sum(rows.lengths)
    flops = load.tokens_a_step * (shape.work.per_token + shape.work.per_token_squared * mean_square)
    memory, time = memory_of(shape, layout, pack), step_time(shape, layout, batch, machine)
    return Option(config, machine, load, layout, shape, pack, memory, time, flops)


def best_option(config: RunConfig, rows: Rows, shape: ModelShape, machine: Machine) -> Option | None:
    """Return the fastest setting that fits, with the precision that was asked for where any fits so."""
    for precise in _precisions(config, machine.world_size):
        best = fastest(config, _options(precise, rows, shape, machine))
        if best:
            return best
    return None


def fastest(config: RunConfig, options: Iterable[Option]) -> Option | None:
    """Return the fastest option that fits, but the run as it stands, or a stage below 3, if it is as fast.

    The one that is chosen so may still have its rows in larger packs.
    """
    fitting = [option for option in options if option.fits]
    if not fitting:
        return None
    limit = min(option.time.seconds for option in fitting) * (1 + SAME_TIME)

    def rank(option: Option) -> tuple[bool, bool, int, float]:
        flags = len(changes(config, option))
        return flags > 0, option.layout.stage == 3, flags, option.time.seconds

    best = min((option for option in fitting if option.time.seconds <= limit), key=rank)
    larger = [
        option
        for option in fitting
        if option.config.batch.pack_tokens > best.config.batch.pack_tokens
        and (option.config.zero, option.config.optim) == (best.config.zero, best.config.optim)
        and option.time.seconds < best.time.seconds * (1 - SAME_PACKS)
    ]
    return min(larger, key=lambda option: option.time.seconds, default=best)


def changes(config: RunConfig, option: Option) -> dict[str, str]:
    """Return flag -> value of every setting of an option that is another one than the run's on that machine.

    What --model.checkpointing auto comes to is no change of it.
    """
    before, _ = settled(config, option.machine.world_size)
    if before.model.checkpointing == "auto":
        chosen = with_recomputation(before, option.fewest_layers, option.shape)
        before = chosen if chosen.model == option.config.model else before
    names = (
        "zero.stage",
        "model.checkpointing",
        "model.recomputed_layers",
        "batch.pack_tokens",
        "optim.moments",
        "optim.master",
    )
    found = {}
    for name in names:
        section, key = name.split(".")
        old, new = (getattr(getattr(each, section), key) for each in (before, option.config))
        if old != new:
            found[f"--{name.replace('_', '-')}"] = str(new)
    return found


def _precisions(config: RunConfig, world_size: int) -> Iterator[RunConfig]:
    """Yield the run with its own precision, then with lower ones that its world can train."""
    yield config
    lower: dict[str, Any] = {"moments": "bfloat16"}
    if world_size == 1:
        lower["gradients"] = "bfloat16"
    yield dataclasses.replace(config, optim=dataclasses.replace(config.optim, **lower))
    if world_size == 1:
        lower["master"] = "bfloat16"
        yield dataclasses.replace(config, optim=dataclasses.replace(config.optim, **lower))


def _options(config: RunConfig, rows: Rows, shape: ModelShape, machine: Machine) -> Iterator[Option]:
    """Yield every setting that is tried."""
    capacities = {config.batch.pack_tokens, *(each for each in PACK_TOKENS if rows.longest <= each <= shape.context)}
    loads: dict[Load, int] = {}
    for capacity in sorted(capacities, key=lambda each: (each != config.batch.pack_tokens, each)):
        packed = _changed(config, "batch", pack_tokens=capacity)
        load = load_of(rows, packed, machine.world_size, shape)
        if load in loads:  # the same packs come out
            continue
        loads[load] = capacity
        yield from options_of(packed, rows, shape, machine, load)


def options_of(config: RunConfig, rows: Rows, shape: ModelShape, machine: Machine, load: Load) -> Iterator[Option]:
    """Yield the run with every setting of `settings`, and with as few layers recomputed as fit."""
    for tried in settings(config, machine.world_size):
        option = option_of(tried, rows, shape, machine, load)
        yield option
        if option.recomputation == "off" and 0 < option.fewest_layers < shape.layers:
            yield option_of(with_recomputation(option.config, option.fewest_layers, shape), rows, shape, machine, load)


def settings(config: RunConfig, world_size: int) -> Iterator[RunConfig]:
    """Yield the run, settled, with every stage of ZeRO and every checkpointing that a world can train.

    Where layers are recomputed, all are, or as many as the run says.
    """
    for stage, checkpointing in itertools.product(STAGES if world_size > 1 else (1,), CHECKPOINTING):
        if stage == 3 and checkpointing == "selective":  # refused by config_checks
            continue
        own = config.model.recomputed_layers if checkpointing == config.model.checkpointing else 0
        for layers in sorted({0, own}):
            tried = _changed(config, "model", checkpointing=checkpointing, recomputed_layers=layers)
            yield settled(_changed(tried, "zero", stage=stage), world_size)[0]


def _changed(config: RunConfig, section: str, **values: Any) -> RunConfig:
    part = dataclasses.replace(getattr(config, section), **values)
    return dataclasses.replace(config, **{section: part})


def _smallest_that_fits(config: RunConfig, rows: Rows, shape: ModelShape, machine: Machine) -> Option | None:
    """Return the option on the machine of fewest GPUs of the same kind on which one fits, or else of another kind."""
    kinds = [machine.gpu, *sorted((gpu for gpu in GPUS.values() if gpu != machine.gpu), key=lambda gpu: gpu.memory)]
    sizes = [(gpus, 1) for gpus in GPUS_OF_A_NODE] + [(GPUS_OF_A_NODE[-1], nodes) for nodes in NODES[1:]]
    for gpu in kinds:
        for gpus, nodes in sizes:
            larger = Machine(gpu, gpus, nodes)
            if gpu == machine.gpu and larger.world_size <= machine.world_size:
                continue
            try:
                option = best_option(config, rows, shape, larger)
            except ConfigError:  # several ranks cannot do what --optim asks for
                continue
            if option:
                return option
    return None
