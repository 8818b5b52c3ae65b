"""Sources of a model's weights: safetensors files read slice by slice, or random numbers drawn from a seed.

Both return elements `start` to `stop` of the flattened tensor `name`, so that under ZeRO-3 each rank reads only its own
partition and no process ever holds the whole model.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open

from alttrain.engine.errors import ModelError

Shape = tuple[int, ...]

# Quantised files hold integers or 8-bit floats and cannot be trained as they are.
READABLE_DTYPES = ("F64", "F32", "F16", "BF16")


class WeightSource(Protocol):
    """A source of the values of a model's parameters."""

    def read(self, name: str, shape: Shape, start: int, stop: int) -> torch.Tensor:
        """Return elements `start` to `stop` of the flattened parameter, 1-D, floating point, on the CPU."""
        ...


@dataclass(frozen=True)
class _Entry:
    file: Path
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class SafetensorsWeights:
    """The safetensors files of a model folder; only their headers are read until a value is asked for."""

    folder: Path

    @cached_property
    def entries(self) -> dict[str, _Entry]:
        """Every tensor of the folder: its file, shape and dtype.

        Raises:
            ModelError: there is no safetensors file, or one is cut short or not in that format.
        """
        entries: dict[str, _Entry] = {}
        for file in self._files():
            for name, item in read_header(file)[1].items():
                entries[name] = _Entry(file, tuple(item["shape"]), item["dtype"])
        return entries

    def _files(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                files = [self.folder / name for name in names]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ModelError("not an index of safetensors files. Fetch it again.", where=index) from error
        else:
            files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise ModelError(
                "no .safetensors file. Weights are read from safetensors only: convert the model with "
                "save_pretrained, or give --model.random-init to draw them.",
                where=self.folder,
            )
        for file in files:
            if not file.is_file():
                raise ModelError(f"no such file, but {index.name} names it. Fetch the model again.", where=file)
        return files

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Check that the files hold every tensor of `expected`, in its shape, and no tensor of a layer besides.

        Raises:
            ModelError: a tensor is missing, has another shape, or is quantised; or the files hold a
                further tensor of a layer.
        """
        entries = self.entries
        for name, shape in expected.items():
            entry = entries.get(name)
            if entry is None:
                raise ModelError(
                    f"no tensor {name}, which its config.json calls for. Fetch the model again.", where=self.folder
                )
            if entry.shape != shape:
                raise ModelError(
                    f"{name} has shape {entry.shape}, config.json calls for {shape}. "
                    "Weights and config must be of one model.",
                    where=entry.file,
                )
            if entry.dtype not in READABLE_DTYPES:
                raise ModelError(
                    f"{name} is stored as {entry.dtype}; full fine-tuning needs one of "
                    f"{', '.join(READABLE_DTYPES)}. Take the model's unquantised files.",
                    where=entry.file,
                )
        for name in sorted(entries.keys() - expected.keys()):
            if name.startswith("model.layers.") and not name.endswith("rotary_emb.inv_freq"):
                raise ModelError(
                    f"holds {name}, which config.json does not call for, so it would be lost. "
                    "Weights and config must be of one model.",
                    where=entries[name].file,
                )

    def read(self, name: str, shape: Shape, start: int, stop: int) -> torch.Tensor:
        """Return elements `start` to `stop` of the flattened tensor; only the rows they lie in are read."""
        row = math.prod(shape[1:])
        first_row, last_row = start // row, -(-stop // row)
        with safe_open(self.entries[name].file, framework="pt") as file:
            rows: torch.Tensor = file.get_slice(name)[first_row:last_row]
        return rows.reshape(-1)[start - first_row * row : stop - first_row * row]


def read_header(file: Path) -> tuple[int, dict[str, Any]]:
    """Return where the data of a safetensors file begin, and its header: 8 bytes of length, JSON, then the data.

    Raises:
        ModelError: the file is cut short, or not in that format.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        text = stream.read(length) if 8 + length <= size else b""
    try:
        header: dict[str, Any] = json.loads(text)
        header.pop("__metadata__", None)
        end = 8 + length + max((item["data_offsets"][1] for item in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"not a whole safetensors file ({size} bytes). Fetch it again.", where=file) from error
    if end != size:
        raise ModelError(f"{size} bytes, but its header describes {end}: the file is cut. Fetch it again.", where=file)
    return 8 + length, header


@dataclass(frozen=True)
class RandomWeights:
    """Weights drawn from a seed: a parameter's values depend on seed and name alone, never on ranks or ZeRO stage."""

    seed: int
    standard_deviation: float

    def read(self, name: str, shape: Shape, start: int, stop: int) -> torch.Tensor:
        """Return ones for norms, zeros for biases, normal numbers for matrices."""
        if name.endswith("norm.weight"):
            return torch.ones(stop - start)
        if name.endswith(".bias"):
            return torch.zeros(stop - start)
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        values = torch.empty(math.prod(shape)).normal_(0.0, self.standard_deviation, generator=generator)
        return values[start:stop]
