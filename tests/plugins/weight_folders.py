"""Changes of a small model's folder, each in what it says of the weights: other names, files, tensors and settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM

Change = Callable[[Path], object]
Tensors = dict[str, Tensor]
FILE, INDEX, SHARD = "model.safetensors", "model.safetensors.index.json", "model-00001-of-00001.safetensors"
HEAD, EMBEDDING, NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"


def tensors_of(change: Callable[[Tensors], object]) -> Change:
    """Return the change of a folder by which `change` is made to the tensors of its file."""

    def changed(folder: Path) -> None:
        tensors = load_file(folder / FILE)
        made = change(tensors)
        save_file(made if isinstance(made, dict) else tensors, folder / FILE, metadata={"format": "pt"})

    return changed


def adding(**tensors: Tensor) -> Change:
    return tensors_of(lambda held: held.update({name.replace("__", "."): value for name, value in tensors.items()}))


def renaming(rename: Callable[[str], str]) -> Change:
    return tensors_of(lambda held: {rename(name): tensor for name, tensor in held.items()})


def casting(dtype_of: Callable[[int], torch.dtype]) -> Change:
    return tensors_of(lambda held: {name: held[name].to(dtype_of(index)) for index, name in enumerate(held)})


def configured(**values: Any) -> Change:
    def changed(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | values
        config = {key: value for key, value in config.items() if value != "absent"}
        (folder / "config.json").write_text(json.dumps(config))

    return changed


def after(*changes: Change) -> Change:
    def changed(folder: Path) -> None:
        for change in changes:
            change(folder)

    return changed


def renamed(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def removed(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def holding(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def sharded(*, keeps: Callable[[int, str], bool] = lambda shard, name: True, count: int = 2) -> Change:
    """Split the file into shards with an index; each holds its share of the tensors, and `keeps` takes some away."""

    def changed(folder: Path) -> None:
        tensors = load_file(folder / FILE)
        (folder / FILE).unlink()
        names = sorted(tensors)
        weight_map = {}
        for shard in range(count):
            file = f"model-{shard + 1:05d}-of-{count:05d}.safetensors"
            held = {name: tensors[name] for name in names[shard::count] if keeps(shard, name)}
            save_file(held, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(held, file)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return changed


def older(name: str) -> Change:
    """Put a file `name` of other weights beside the model's."""

    def changed(folder: Path) -> None:
        source = folder / FILE if (folder / FILE).exists() else sorted(folder.glob("model-*.safetensors"))[0]
        save_file({key: value + 1 for key, value in load_file(source).items()}, folder / name, {"format": "pt"})

    return changed


def resaved(folder: Path) -> None:
    """Do what the sentence says: load with transformers, save the model to another folder, and take that."""
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder / "saved")
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        file.unlink()
    for name in (FILE, "config.json"):
        (folder / "saved" / name).rename(folder / name)


def linked(folder: Path) -> None:
    (folder / FILE).rename(folder / "blob")
    (folder / FILE).symlink_to("blob")


def indexed(*tensors: str, file: str = SHARD) -> Change:
    return holding(INDEX, json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors or [EMBEDDING], file)}))


def without_head(folder: Path) -> None:
    AutoModel.from_pretrained(folder).save_pretrained(folder)
