"""Whether a step fits a GPU, and how few layers must be recomputed that it does."""

import bisect
import dataclasses
from typing import Literal

from alttrain.engine.config import RunConfig
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.shape import ModelShape
from alttrain.engine.train.memory_model import Layout, Memory, Pack, memory_of

# How far the memory model is from the allocator's own count on the null device, at most; a test holds it.
PERCENT = 3
# A setting fits if the GPU holds its peak and so much more: what the model may be off by, and what lies in pieces.
# Several ranks have NCCL's buffers beside it, which torch's allocator does not know: about so much is assumed.
MARGIN, MARGIN_OF_SEVERAL, NCCL_BYTES = 1.03, 1.05, 1 << 30


def layout_of(config: RunConfig, world_size: int, *, fuses_layers: bool) -> Layout:
    """Return what the memory of a settled run depends on; checkpointing that is auto counts as off."""
    checkpointing = config.model.checkpointing
    return Layout(
        stage=config.zero.stage,
        world_size=world_size,
        checkpointing="off" if checkpointing == "auto" else checkpointing,
        recomputed_layers=config.model.recomputed_layers,
        moments=config.optim.moments,
        master=config.optim.master,
        gradients=config.optim.gradients,
        fuses_layers=fuses_layers,
    )


def needed(memory: Memory, layout: Layout) -> float:
    """Return the bytes that a GPU must have, so that a step fits."""
    if layout.is_one_process:
        return memory.peak * MARGIN
    return memory.peak * MARGIN_OF_SEVERAL + NCCL_BYTES


def fewest_layers(shape: ModelShape, layout: Layout, pack: Pack, room: float) -> int | None:
    """Return how many layers must at least be recomputed whole that a step fits in `room` bytes; None where none do.

    What `layout` says of checkpointing makes no difference.
    """

    def fits(count: int) -> bool:
        tried = recomputing(layout, count, shape)
        return needed(memory_of(shape, tried, pack), tried) <= room

    # More layers never take more: the last of them gives up as much as its own backward then takes.
    fewest = bisect.bisect_left(range(shape.layers + 1), True, key=fits)
    return fewest if fewest <= shape.layers else None


def recomputing(layout: Layout, count: int, shape: ModelShape) -> Layout:
    """Return the layout with `count` layers recomputed whole."""
    checkpointing, layers = _settings_of(count, shape)
    return dataclasses.replace(layout, checkpointing=checkpointing, recomputed_layers=layers)


def with_recomputation(config: RunConfig, count: int, shape: ModelShape) -> RunConfig:
    """Return the run with `count` layers recomputed whole."""
    checkpointing, layers = _settings_of(count, shape)
    model = dataclasses.replace(config.model, checkpointing=checkpointing, recomputed_layers=layers)
    return dataclasses.replace(config, model=model)


def check_count(config: RunConfig, shape: ModelShape) -> None:
    """Check that the model has as many layers as are to be recomputed.

    Raises:
        ConfigError: it has fewer.
    """
    if config.model.recomputed_layers > shape.layers:
        raise ConfigError(
            f"is {config.model.recomputed_layers}, and the model has {shape.layers} layers. Take at most so many, or "
            "leave it out for all.",
            flag="--model.recomputed-layers",
        )


def in_words(checkpointing: str, count: int, shape: ModelShape) -> str:
    """Return what is recomputed of a model: off, selective, full, or so many of its layers."""
    if checkpointing == "off" or count in (0, shape.layers):
        return checkpointing
    return f"{checkpointing}, {count} of {shape.layers} layers"


def _settings_of(count: int, shape: ModelShape) -> tuple[Literal["off", "full"], int]:
    """Return --model.checkpointing and --model.recomputed-layers for so many layers."""
    assert 0 <= count <= shape.layers, (count, shape.layers)
    return ("full" if count else "off"), (count if count < shape.layers else 0)
