"""What a model folder holds, as one hash that does not depend on where the folder lies or how its files are split.

A run that is resumed must go on from the same model, wherever that now lies. Hashing 64 GB at each start would take
minutes, so of a large tensor only samples are read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from alttrain.engine.model.weight_files import read_header
from alttrain.engine.model.weights import SafetensorsWeights

FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
"""The files beside the weights that decide what a run computes or exports."""

# What a program that saves a model notes about itself, and no computation depends on.
_NOTES = ("_name_or_path", "transformers_version")

WHOLE_BYTES = 1 << 20
"""A tensor of at most so many bytes is hashed whole."""
SAMPLES, SAMPLE_BYTES = 8, 1 << 15
"""Of a larger tensor so many evenly spaced pieces, each of so many bytes, are hashed: its ends are among them."""


def model_digest(folder: Path, *, with_weights: bool = True) -> str:
    """Return a SHA-256 of the model in `folder`: its configuration, tokenizer and, unless left out, its weights.

    Equal for copies of one model, also where the copy is split into other files or reached by a link. Another model of
    the same shapes has another digest, as does one whose training has changed a tensor throughout; a change of single
    numbers of a large tensor may lie between the samples and is not seen.

    Raises:
        ModelError: the weights cannot be read.
    """
    digest = hashlib.sha256()
    for name in FILES:
        file = folder / name
        if file.is_file():
            digest.update(f"{name}\n".encode() + hashlib.sha256(_content(file)).digest())
    if with_weights:
        _hash_weights(digest, folder)
    return digest.hexdigest()


def text_digest(text: str | None) -> str:
    """Return a SHA-256 of a text, such as a chat template."""
    return hashlib.sha256((text or "").encode()).hexdigest()


def _content(file: Path) -> bytes:
    """Return what a file says: of a JSON object the keys in order, without notes of the program that saved it."""
    raw = file.read_bytes()
    if file.name == "tokenizer.json":
        return raw
    try:
        value = json.loads(raw)
    except ValueError:
        return raw
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in _NOTES}
    return json.dumps(value, sort_keys=True).encode()


def _hash_weights(digest: Any, folder: Path) -> None:
    entries = SafetensorsWeights(folder).entries
    places: dict[str, tuple[Path, int, int]] = {}
    for file in {entry.file for entry in entries.values()}:
        data_start, header = read_header(file)
        for name, item in header.items():
            start, stop = item["data_offsets"]
            places[name] = (file, data_start + start, stop - start)
    for name in sorted(entries):
        entry = entries[name]
        file, start, size = places[name]
        digest.update(f"{name}\n{entry.dtype}\n{entry.shape}\n".encode())
        with file.open("rb") as stream:
            for offset, length in _pieces(size):
                stream.seek(start + offset)
                digest.update(stream.read(length))


def _pieces(size: int) -> list[tuple[int, int]]:
    """Return (offset, length) of the pieces that are hashed of a tensor of `size` bytes."""
    if size <= WHOLE_BYTES:
        return [(0, size)]
    last = size - SAMPLE_BYTES
    return [(last * index // (SAMPLES - 1), SAMPLE_BYTES) for index in range(SAMPLES)]
