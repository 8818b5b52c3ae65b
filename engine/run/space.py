"""How much a run will write, and whether the disk of its folder holds it: said at the start, refused before it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alttrain.engine.config import RunConfig
from alttrain.engine.errors import ConfigError
from alttrain.engine.run.folder import RunFolder

GIB = 2**30


@dataclass(frozen=True)
class Space:
    """The disk that a run takes, in bytes."""

    checkpoint: int
    """A whole checkpoint: the parts of all ranks."""
    num_checkpoints: int
    """How many there are at most: those that are kept, and the next while it is written."""
    model: int
    """The exported model."""
    written: int
    """What the folder holds already of checkpoints, which new ones take the place of."""
    free: int | None
    """What the disk has left; None where its file system does not say."""

    @property
    def needed(self) -> int:
        """What is to be written still."""
        return max(0, self.num_checkpoints * self.checkpoint - self.written) + self.model

    def sentence(self) -> str:
        """Return what is said at the start of a run."""
        checkpoints = (
            f"{self.num_checkpoints} checkpoint{'s' * (self.num_checkpoints > 1)} of {_gib(self.checkpoint)} at most "
            "at once, and "
            if self.num_checkpoints
            else "no checkpoint, and "
        )
        free = "" if self.free is None else f"; {_gib(self.free)} are free"
        return f"on disk: {checkpoints}a model of {_gib(self.model)}{free}"


def space_of(config: RunConfig, folder: RunFolder, num_parameters: int, num_steps: int, world_size: int) -> Space:
    """Return what a run, settled for its world, takes of the disk of its folder, which need not be there yet."""
    every, keep = config.checkpoint.every, config.checkpoint.keep
    num_saves = -(-num_steps // every) if every else 0
    bytes_a_weight = 2 if config.model.dtype == "bfloat16" else 4
    nearest = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    disk = shutil.disk_usage(nearest)
    return Space(
        checkpoint=num_parameters * _checkpoint_bytes(config, world_size),
        num_checkpoints=min(keep + 1, num_saves),
        model=num_parameters * bytes_a_weight,
        written=sum(_sizes(folder.checkpoints)),
        free=disk.free if disk.total else None,
    )


def check_space(space: Space, folder: RunFolder) -> None:
    """Check that the disk holds what the run will write.

    Raises:
        ConfigError: it does not.
    """
    if space.free is None or space.needed <= space.free:
        return
    fewer = "Take fewer checkpoints (--checkpoint.keep, --checkpoint.every 0 for none) or"
    raise ConfigError(
        f"{folder.path}: {_gib(space.free)} are free on its disk, and the run writes {_gib(space.needed)} "
        f"({space.sentence().removeprefix('on disk: ').partition(';')[0]}). "
        f"{fewer if space.num_checkpoints else 'Make room, or'} name a folder on a larger one.",
        flag="--output",
    )


def _checkpoint_bytes(config: RunConfig, world_size: int) -> int:
    """Return the bytes of a parameter in a checkpoint: master weights, two moments, and the model's own weights.

    One process writes its weights and, where these are bfloat16, the low halves of their masters. Several write float32
    masters; at stage 0 these are the model's own weights, and stage 3 writes no others.
    """
    weight = 2 if config.model.dtype == "bfloat16" else 4
    moments = 2 * (2 if config.optim.moments == "bfloat16" else 4)
    if world_size == 1 and config.zero.offload == "none":
        return moments + (4 if config.optim.master == "float32" else weight)
    return moments + 4 + (0 if config.zero.stage in (0, 3) else weight)


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.stat().st_size


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.1f} GiB"
