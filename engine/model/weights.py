"""Sources of a model's weights: safetensors files read slice by slice, or random numbers drawn from a seed.

Both return elements `start` to `stop` of the flattened tensor `name`, so that under ZeRO-3 each rank reads only its own
partition and no process ever holds the whole model.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open

from alttrain.engine.errors import ModelError
from alttrain.engine.model.weight_files import INDEX, Entry, Shape, named_tensors, read_entries, some, unread_files
from alttrain.engine.model.weight_names import EMBEDDING, HEAD, dropped_names, missing_tensor, unfit_shape

# Quantised files hold integers or 8-bit floats and cannot be trained as they are.
READABLE_DTYPES = ("F64", "F32", "F16", "BF16")
# So many elements at a time of head and embedding are compared.
_COMPARED = 1 << 24


class WeightSource(Protocol):
    """A source of the values of a model's parameters."""

    def read(self, name: str, shape: Shape, start: int, stop: int) -> torch.Tensor:
        """Return elements `start` to `stop` of the flattened parameter, 1-D, floating point, on the CPU."""
        ...

    def not_finite(self, names: list[str], dtype: torch.dtype) -> ModelError:
        """Return the error of a source from which these parameters were read with NaN or infinity, as `dtype`."""
        ...


@dataclass(frozen=True)
class SafetensorsWeights:
    """The safetensors files of a model folder; only their headers are read until a value is asked for."""

    folder: Path

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every tensor of the folder: its file, shape and dtype.

        Raises:
            ModelError: as `read_entries`.
        """
        return read_entries(self.folder)

    def check(self, expected: Mapping[str, Shape]) -> tuple[str, ...]:
        """Check that the files hold the parameters of `expected`, and that training these changes the whole model.

        Returns:
            Sentences about files and tensors of the folder that are not read.

        Raises:
            ModelError: a tensor is missing, has another shape, or is quantised; the files hold a further tensor of a
                module; or they hold a head of its own where config.json ties it to the embedding.
        """
        entries = self.entries
        for name in expected:
            if name not in entries:
                raise missing_tensor(name, expected, entries, self.folder)
        for name, shape in expected.items():
            entry = entries[name]
            if entry.dtype not in READABLE_DTYPES:
                raise ModelError(
                    f"{name} is stored as {entry.dtype}; full fine-tuning needs one of "
                    f"{', '.join(READABLE_DTYPES)}. Take the model's unquantised files.",
                    where=entry.file,
                )
            if entry.shape != shape:
                raise unfit_shape(name, shape, entry)
        self._check_index(expected)
        dropped = dropped_names(expected, entries)
        if HEAD in entries and HEAD not in expected:
            self._check_tied_head()
        return tuple(self._notes(dropped))

    def _check_index(self, expected: Mapping[str, Shape]) -> None:
        """Refuse an index without one of the parameters: transformers 4 then draws it at random."""
        named = named_tensors(self.folder)
        for name in expected:
            if named is not None and name not in named:
                raise ModelError(
                    f"does not name {name}, which {self.entries[name].file.name} holds: only some programs would read "
                    "it. Fetch the index again, or load the folder with transformers 5 and save it with "
                    "save_pretrained.",
                    where=self.folder / INDEX,
                )

    def _check_tied_head(self) -> None:
        """Refuse a head that is not the embedding, though config.json says so.

        transformers 5 keeps such a head, transformers 4 and inference servers take the embedding for it.
        """
        head, embedding = self.entries[HEAD], self.entries[EMBEDDING]
        size = math.prod(embedding.shape)
        is_comparable = head.shape == embedding.shape and head.dtype in READABLE_DTYPES
        if not is_comparable or not all(
            bool((self._piece(HEAD, start, size) == self._piece(EMBEDDING, start, size)).all())
            for start in range(0, size, _COMPARED)
        ):
            raise ModelError(
                f"{HEAD} is not {EMBEDDING}, though config.json ties them (tie_word_embeddings is true): some programs "
                "keep this head, others drop it. Set tie_word_embeddings to false in config.json to train both, or "
                f"take {HEAD} out of the file.",
                where=head.file,
            )

    def _piece(self, name: str, start: int, size: int) -> torch.Tensor:
        return self.read(name, self.entries[name].shape, start, min(start + _COMPARED, size))

    def _notes(self, dropped: list[str]) -> list[str]:
        notes = []
        files = unread_files(self.folder)
        if files:
            read = sorted({entry.file.name for entry in self.entries.values()})
            notes.append(f"weights: read from {some(read)}; beside it, not read: {some(files)}.")
        if dropped:
            notes.append(
                f"weights: the files hold {some(dropped)}, for which this model has no place: neither trained nor "
                "exported."
            )
        return notes

    def read(self, name: str, shape: Shape, start: int, stop: int) -> torch.Tensor:
        """Return elements `start` to `stop` of the flattened tensor; only the rows they lie in are read."""
        row = math.prod(shape[1:])
        first_row, last_row = start // row, -(-stop // row)
        with safe_open(self.entries[name].file, framework="pt") as file:
            rows: torch.Tensor = file.get_slice(name)[first_row:last_row]
        return rows.reshape(-1)[start - first_row * row : stop - first_row * row]

    def not_finite(self, names: list[str], dtype: torch.dtype) -> ModelError:
        """Return the error; the first of the tensors is read again to say whether it is so in the file."""
        name, entry = names[0], self.entries[names[0]]
        more = f" ({len(names) - 1} more tensors likewise)" if len(names) > 1 else ""
        values = self.read(name, entry.shape, 0, math.prod(entry.shape))
        bad = int((~values.isfinite()).sum())
        if bad:
            reason = (
                f"{bad} of the {values.numel()} numbers of {name} are NaN or infinite{more}. "
                "Fetch the model again, or take an earlier state of it: these weights cannot be trained."
            )
        elif not bool(values.to(dtype).isfinite().all()):
            kind = str(dtype).removeprefix("torch.")
            reason = f"{name} holds {float(values.double().abs().max()):.4g}, which is infinite in {kind}{more}. " + (
                "Give --model.dtype float32, if the model is meant to have such weights."
                if dtype != torch.float32 and bool(values.float().isfinite().all())
                else "No dtype that is trained can hold it: take an earlier state of the model."
            )
        else:
            reason = f"{name} was read as NaN or infinite on another rank{more}. Compare the folders of the nodes."
        return ModelError(reason, where=entry.file)


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

    def not_finite(self, names: list[str], dtype: torch.dtype) -> ModelError:
        """Return the error: the numbers are as large as the standard deviation makes them."""
        return ModelError(
            f"initializer_range is {self.standard_deviation}: weights drawn with it are infinite in "
            f"{str(dtype).removeprefix('torch.')}. Give a smaller one in config.json."
        )
