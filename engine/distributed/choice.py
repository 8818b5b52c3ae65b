"""What a world of a given size makes of a run: the settings that it decides, and the engine that trains it."""

import dataclasses
from typing import TYPE_CHECKING, Literal

from alttrain.engine.config import OptimConfig, RunConfig
from alttrain.engine.errors import ConfigError

if TYPE_CHECKING:  # a plan decides settings too, and answers without torch
    from alttrain.engine.distributed.engine import Engine
    from alttrain.engine.distributed.world import World
    from alttrain.engine.model.backbone import Backbone


def settled(config: RunConfig, world_size: int) -> tuple[RunConfig, list[str]]:
    """Return the run with every setting that depends on the world decided, and a sentence for each that was changed.

    One process has nothing to partition: ZeRO 2 would hold and move more, and ZeRO 3 would wait at every weight, so
    that it takes stage 1 whatever was asked for. With --zero.offload the stage stays, as it says what leaves the GPU.
    Decided again, a settled run stays as it is.

    Raises:
        ConfigError: --optim asks for what several ranks, or offloading, do not do.
    """
    stays_here = config.zero.offload == "none"
    notes = []
    if world_size == 1 and stays_here and config.zero.stage > 1:
        notes.append(f"--zero.stage {config.zero.stage} -> 1: one process has nothing to partition")
        config = dataclasses.replace(config, zero=dataclasses.replace(config.zero, stage=1))
    if not (world_size == 1 and stays_here):
        where = f"with {world_size} ranks" if stays_here else f"with --zero.offload {config.zero.offload}"
        _check_several(config.optim, where)
    dtype = config.model.dtype
    moments = _either(config.optim.moments, dtype if stays_here else "float32")
    gradients = _either(config.optim.gradients, dtype if world_size == 1 and stays_here else "float32")
    return dataclasses.replace(
        config, optim=dataclasses.replace(config.optim, moments=moments, gradients=gradients)
    ), notes


def build_engine(config: RunConfig, backbone: "Backbone", world: "World") -> "Engine":
    """Build the engine that trains a settled run; collective over the world.

    Raises:
        ModelError: a weight that was read is NaN or infinite; on every rank.
    """
    if world.size == 1 and config.zero.offload == "none":
        from alttrain.engine.distributed.one_process import OneProcessEngine

        return OneProcessEngine(config, backbone, world)
    from alttrain.engine.distributed.zero import ZeroEngine  # takes a second, which one process need not wait for

    return ZeroEngine(config, backbone, world)


def _check_several(optim: OptimConfig, where: str) -> None:
    if optim.master == "bfloat16":
        raise ConfigError(
            f"is bfloat16 {where}: ZeRO keeps a float32 master there. Use float32, or one process without offloading.",
            flag="--optim.master",
        )
    if optim.gradients == "bfloat16":
        raise ConfigError(
            f"is bfloat16 {where}: ZeRO sums gradients in float32 there. Use auto, or one process without offloading.",
            flag="--optim.gradients",
        )


def _either(asked: str, otherwise: str) -> Literal["bfloat16", "float32"]:
    chosen = otherwise if asked == "auto" else asked
    return "bfloat16" if chosen == "bfloat16" else "float32"
