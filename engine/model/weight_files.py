"""Which files of a folder hold the model's weights, and which tensors stand in them.

transformers decides by names: model.safetensors, and without it the shards of model.safetensors.index.json. The same
is read here. A folder from which two programs would load two models is refused.
"""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from alttrain.engine.errors import ModelError

Shape = tuple[int, ...]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"

# What transformers saves of a model that is spread over processes; its newest versions load it before anything else.
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_OTHER_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.gguf")
_SAFETENSORS_ONLY = (
    "Weights are read from safetensors only: convert the model with save_pretrained, or give --model.random-init to "
    "draw them."
)


@dataclass(frozen=True)
class Entry:
    """Where a tensor stands, its shape, and its dtype as safetensors names it (BF16)."""

    file: Path
    shape: Shape
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers would load the model's weights from.

    Raises:
        ModelError: there are none, one is missing, or another program would load other files.
    """
    _refuse_other_models(folder)
    single, index = folder / WEIGHTS, folder / INDEX
    for file in (single, index):
        if file.is_symlink() and not file.exists():
            raise ModelError("a link to a file that does not exist. Fetch the model again.", where=file)
    if not index.is_file():
        if not single.is_file():
            raise _no_weights(folder)
        return [single]
    shards = _shards(index)
    if single.is_file() and shards != [single]:
        raise ModelError(
            f"stands beside {INDEX}, which names {some([shard.name for shard in shards])}: some programs load the "
            f"one, others the other. Delete the older of the two: {WEIGHTS}, or {INDEX} and what it names.",
            where=single,
        )
    for shard in shards:
        if not shard.is_file():
            raise ModelError(f"no such file, but {INDEX} names it. Fetch the model again.", where=shard)
    return shards


def named_tensors(folder: Path) -> set[str] | None:
    """Return the tensors that the index names; None where the weights stand in one file, which needs none."""
    if (folder / WEIGHTS).is_file():
        return None
    return set(_weight_map(folder / INDEX))


def unread_files(folder: Path) -> list[str]:
    """Return the names of the files that look like weights and are not read."""
    read = set(weight_files(folder))
    return sorted({file.name for pattern in _OTHER_WEIGHTS for file in folder.glob(pattern) if file not in read})


def read_entries(folder: Path) -> dict[str, Entry]:
    """Return every tensor of the folder's weights; only the headers of the files are read.

    Raises:
        ModelError: as `weight_files`; a file is cut short or not of the format, or two hold a tensor of one name.
    """
    entries: dict[str, Entry] = {}
    for file in weight_files(folder):
        for name, item in read_header(file)[1].items():
            if name in entries:
                raise ModelError(
                    f"holds {name}, as {entries[name].file.name} does: only one of them can be trained. Load the "
                    "folder with transformers and save it to another with save_pretrained, if the later is meant.",
                    where=file,
                )
            entries[name] = Entry(file, tuple(item["shape"]), item["dtype"])
    return entries


def read_header(file: Path) -> tuple[int, dict[str, Any]]:
    """Return where the data of a safetensors file begin, and its header: 8 bytes of length, JSON, then the data.

    Raises:
        ModelError: the file cannot be read, is cut short, or is not of that format.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            text = stream.read(length) if 8 + length <= size else b""
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror}). Mend its permissions.", where=file) from error
    if prefix == b"version ":
        raise ModelError("a pointer of Git LFS, not the file itself. Run git lfs pull in its folder.", where=file)
    try:
        header: dict[str, Any] = json.loads(text)
        header.pop("__metadata__", None)
        end = 8 + length + max((item["data_offsets"][1] for item in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"not a whole safetensors file ({size} bytes). Fetch it again.", where=file) from error
    if end != size:
        raise ModelError(f"{size} bytes, but its header describes {end}: the file is cut. Fetch it again.", where=file)
    try:
        with safe_open(file, framework="pt"):  # checks that the tensors fill the file, and that dtypes are known
            pass
    except SafetensorError as error:
        raise ModelError("its header is not that of a safetensors file. Fetch it again.", where=file) from error
    return 8 + length, header


def _refuse_other_models(folder: Path) -> None:
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"an adapter, which transformers would put on top of the folder's weights or pass over, as peft is "
            "installed or not. Merge it into the model (merge_and_unload of peft) and save that, or move "
            f"{ADAPTER} away to train the weights without it.",
            where=folder / ADAPTER,
        )
    for file in sorted(folder.glob("shard-*.safetensors")):
        if _DISTRIBUTED.fullmatch(file.name):
            raise ModelError(
                "a part of a distributed checkpoint, which some versions of transformers load before all else. Load "
                f"the model with transformers and save_pretrained it as {WEIGHTS}, or move these parts away.",
                where=file,
            )


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names, in order of their names."""
    names = set(_weight_map(index).values())
    if not names:
        raise ModelError("names no file of weights. Fetch it again.", where=index)
    return [index.parent / name for name in sorted(names)]


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if all(isinstance(name, str) for name in weight_map.values()):
            return weight_map
        error: Exception | None = None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        error = failure
    raise ModelError("not an index of safetensors files. Fetch it again.", where=index) from error


def _no_weights(folder: Path) -> ModelError:
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if not others:
        return ModelError(f"no .safetensors file. {_SAFETENSORS_ONLY}", where=folder)
    if any(name.startswith("adapter_model") for name in others):
        return ModelError(
            "holds an adapter and no model. Merge it into its model (merge_and_unload of peft) and save that.",
            where=folder,
        )
    if len(others) == 1:
        return ModelError(
            f"no {WEIGHTS}, by which transformers knows the weights, but {others[0]}. If that is the model, rename it "
            f"to {WEIGHTS}.",
            where=folder,
        )
    return ModelError(
        f"{some(others)}, but neither {WEIGHTS} nor {INDEX}, by which transformers knows the weights. "
        "Fetch the missing one.",
        where=folder,
    )


def some(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
