"""Writing the trained model as a folder that transformers and inference servers load.

No rank ever holds the whole model: parameters are gathered one at a time, and each rank keeps and writes one shard of
every group of shards.
"""

import json
import os
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from alttrain.engine.config import RunConfig
from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.finite import FiniteCheck
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import DivergenceError
from alttrain.engine.files import write_whole
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.tokenizer_files import write_contents
from alttrain.engine.report.model_card import model_card
from alttrain.engine.run.folder import RunFolder

SHARD_BYTES = 4 * 2**30


def export_model(engine: Engine, backbone: Backbone, config: RunConfig, folder: RunFolder, world: World) -> None:
    """Write OUT/model; an older OUT/model is replaced only when the new one is whole. Collective.

    Raises:
        DivergenceError: a weight is NaN or infinite; then nothing is left of the new one, on no rank.
    """
    incoming = folder.path / ".model.incoming"
    if world.is_first:
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
    world.barrier()
    sizes = engine.parameter_bytes()
    shards = plan_shards(sizes, SHARD_BYTES)
    for first in range(0, len(shards), world.size):
        _write_shards(engine, shards, first, incoming, world)
    world.barrier()
    if world.is_first:
        if len(shards) > 1:
            _write_index(sizes, shards, incoming)
        _write_companions(backbone, config, folder, incoming)
        shutil.rmtree(folder.model, ignore_errors=True)
        os.replace(incoming, folder.model)
    world.barrier()


def plan_shards(sizes: dict[str, int], shard_bytes: int) -> list[list[str]]:
    """Split parameters, in order, into shards of at most `shard_bytes`; a larger parameter gets a shard of its own."""
    shards: list[list[str]] = []
    filled = 0
    for name, size in sizes.items():
        if not shards or filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def shard_name(index: int, count: int) -> str:
    """Return the file name that transformers expects of shard `index` of `count`."""
    return "model.safetensors" if count == 1 else f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def _write_shards(engine: Engine, shards: list[list[str]], first: int, folder: Path, world: World) -> None:
    """Gather as many shards as there are ranks, one for each, then write them all at the same time.

    A rank looks for NaN and infinity in what it keeps, and none writes before all have said what they found.
    """
    tensors: dict[str, Tensor] = {}
    check = FiniteCheck(world)
    for index in range(first, min(first + world.size, len(shards))):
        for name in shards[index]:
            with engine.gathered(name) as whole:
                is_kept = world.rank == index - first
                check.add(name, whole if is_kept else None)
                if is_kept:
                    tensors[name] = whole.to("cpu", copy=True).contiguous()
    unfit = check.found()
    if unfit:
        if world.is_first:
            shutil.rmtree(folder, ignore_errors=True)
        more = f", and so do {len(unfit) - 1} more tensors" if len(unfit) > 1 else ""
        raise DivergenceError(
            f"{unfit[0]} holds NaN or infinity after the last step{more}: no model is exported, and one that was "
            "exported before is left. Start a new run with a lower --optim.lr."
        )
    if tensors:
        file = folder / shard_name(first + world.rank, len(shards))
        save_file(tensors, file, metadata={"format": "pt"})
        file.chmod(0o644)  # safetensors makes it readable by its owner only, but a server often runs as another user


def _write_index(sizes: dict[str, int], shards: list[list[str]], folder: Path) -> None:
    weight_map = {name: shard_name(index, len(shards)) for index, names in enumerate(shards) for name in names}
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    write_whole(folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")


def _write_companions(backbone: Backbone, config: RunConfig, folder: RunFolder, incoming: Path) -> None:
    write_contents(incoming, backbone.companions)
    write_whole(incoming / "README.md", model_card(config, folder.path))
