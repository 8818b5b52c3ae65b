"""Saving checkpoints, which are either whole or absent, and loading them.

DeepSpeed writes a checkpoint's files in place, so a killed run would leave truncated files in a folder that looks like
a checkpoint. Here it writes into a folder that nothing reads. When every rank has finished and every file is on disk,
the folder is renamed, and then LATEST is replaced by a file with its name. The files are pickles: resume only from
folders you trust.
"""

import json
import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import torch

from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import CheckpointError
from alttrain.engine.files import write_whole
from alttrain.engine.run.folder import RunFolder

INCOMING = ".incoming"


def save_checkpoint(engine: Engine, folder: RunFolder, world: World, step: int, keep: int) -> None:
    """Publish the state after `step` as checkpoints/step-NNNNNN and keep the `keep` newest. Collective."""
    incoming, name = folder.checkpoints / INCOMING, f"step-{step:06d}"
    if world.is_first:
        shutil.rmtree(incoming, ignore_errors=True)
        (incoming / name).mkdir(parents=True)
    world.barrier()
    engine.save(incoming, name)
    torch.save(_random_state(world), incoming / name / f"random-rank-{world.rank:03d}.pt")
    world.barrier()
    if world.local_rank == 0:  # once a node: on a network file system each node has to flush what it wrote itself
        for path in (incoming / name).rglob("*"):
            _fsync(path)
    world.barrier()
    if world.is_first:
        for path in (folder.metrics, folder.evaluations):
            if path.is_file():
                _fsync(path)
        write_whole(incoming / name / "state.json", json.dumps({"step": step}) + "\n")
        _publish(incoming, name, folder.checkpoints)
        _retain(folder.checkpoints, name, keep)
    world.barrier()


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """Return the folder that LATEST names, or None where no checkpoint was ever published.

    Raises:
        CheckpointError: LATEST names a folder that is gone.
    """
    latest = folder.checkpoints / "LATEST"
    if not latest.is_file():
        return None
    checkpoint = folder.checkpoints / latest.read_text(encoding="utf-8").strip()
    if not (checkpoint / "state.json").is_file():
        raise CheckpointError(
            f"names {checkpoint.name}, which is not there or not whole. "
            "Write the name of another checkpoint into it, or start a new run.",
            where=latest,
        )
    return checkpoint


def load_checkpoint(engine: Engine, checkpoint: Path, world: World) -> int:
    """Restore weights, optimizer and random state as they were after the checkpoint's step; return that step."""
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    try:
        engine.load(checkpoint.parent, checkpoint.name)
        random_state = torch.load(checkpoint / f"random-rank-{world.rank:03d}.pt", weights_only=True)
    except (OSError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"damaged since it was published ({type(error).__name__}). "
            "Write the name of another checkpoint into LATEST beside it, or start a new run.",
            where=checkpoint,
        ) from error
    _restore_random_state(random_state, world)
    return int(state["step"])


def _publish(incoming: Path, name: str, checkpoints: Path) -> None:
    _fsync(incoming / name)
    shutil.rmtree(checkpoints / name, ignore_errors=True)  # left by a run that was interrupted after this step
    os.replace(incoming / name, checkpoints / name)
    _fsync(checkpoints)
    write_whole(checkpoints / "LATEST", name + "\n")
    _fsync(checkpoints)
    shutil.rmtree(incoming)


def _retain(checkpoints: Path, newest: str, keep: int) -> None:
    """Delete all checkpoints but `newest` and the `keep` - 1 before it.

    Steps after `newest` are left from before the run was resumed at an earlier checkpoint, and are deleted too.
    """
    published = sorted(path for path in checkpoints.glob("step-*") if path.is_dir())
    kept = [path for path in published if path.name <= newest][-keep:]
    for path in published:
        if path not in kept:
            shutil.rmtree(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _random_state(world: World) -> dict[str, Any]:
    state: dict[str, Any] = {"python": list(random.getstate()[1]), "torch": torch.get_rng_state()}
    if world.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(world.device)
    return state


def _restore_random_state(state: dict[str, Any], world: World) -> None:
    random.setstate((3, tuple(state["python"]), None))
    torch.set_rng_state(state["torch"])
    if world.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], world.device)
