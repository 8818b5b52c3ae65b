"""The file of a model's responses while it grows, and by what it knows that a later start asks the same model the same.

A row is appended as soon as it is there. When all are, the file is written once more in the order of the prompts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alttrain.engine.data.model_folder import HUB_FILES
from alttrain.engine.errors import ConfigError
from alttrain.engine.files import append_line, write_output

# Of each file of weights so many bytes at both ends are hashed.
_END_BYTES = 1 << 20

WAY_OUT = "Name another file, or ask all anew with --overwrite."


class Answers:
    """The rows of an output file, by id."""

    def __init__(self, file: Path, asked_with: Mapping[str, Any]) -> None:
        """Remember the file, which may be there from a start that was killed, and what its rows must be asked with."""
        self.file = file
        self._asked_with = json.loads(json.dumps(dict(asked_with)))
        self._rows: dict[str, dict[str, Any]] = {}

    @property
    def ids(self) -> set[str]:
        """The ids that have a response."""
        return set(self._rows)

    def begin(self, asked: Mapping[str, Mapping[str, Any]], *, overwrite: bool) -> None:
        """Keep the rows that the file holds; a last line that was cut off is dropped.

        Args:
            asked: by id, what the output repeats of each prompt.
            overwrite: begin with an empty file instead.

        Raises:
            ConfigError: the file cannot be written; or a row of it is no response to one of the prompts, or was asked
                of another model or with other settings.
        """
        kept: list[str] = []
        if self.file.exists() and not overwrite:
            for number, line in enumerate(self._lines(), start=1):
                row = self._checked(line, f"{self.file}:{number}", asked)
                self._rows[row["id"]] = row
                kept.append(line)
        write_output(self.file, "".join(f"{line}\n" for line in kept))

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one response."""
        self._rows[row["id"]] = {**row, "asked_with": self._asked_with}
        append_line(self.file, self._rows[row["id"]])

    def finish(self, order: Sequence[str]) -> None:
        """Write the rows whole, in the order of the ids."""
        lines = (json.dumps(self._rows[id_], ensure_ascii=False) for id_ in order)
        write_output(self.file, "".join(f"{line}\n" for line in lines))

    def outcomes(self) -> list[str]:
        """Return the outcome of each row."""
        return [row["outcome"] for row in self._rows.values()]

    def _lines(self) -> list[str]:
        try:
            text = self.file.read_bytes().decode("utf-8", errors="replace")
        except OSError as error:
            raise ConfigError(f"{self.file}: cannot be read ({error.strerror}). {WAY_OUT}", flag="--output") from error
        return [line for line in text.split("\n")[:-1] if line.strip()]

    def _checked(self, line: str, where: str, asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("asked_with"), dict) or "outcome" not in row:
            raise ConfigError(f"{where}: no response that this program wrote. {WAY_OUT}", flag="--output")
        for name, value in self._asked_with.items():
            old = row["asked_with"].get(name)
            if old != value:
                what = name.replace("_", " ")
                raise ConfigError(f"{where}: was asked with {what} {old}, now {value}. {WAY_OUT}", flag="--output")
        prompt = asked.get(str(row.get("id")))
        if prompt is None or any(row.get(name) != value for name, value in prompt.items()):
            raise ConfigError(f"{where}: answers no prompt that is asked now. {WAY_OUT}", flag="--output")
        return row


def model_fingerprint(folder: Path) -> str:
    """Return a short hash of a folder's configuration, tokenizer and, by their sizes and ends, weights."""
    digest = hashlib.sha256()
    for file in sorted(path for pattern in HUB_FILES for path in folder.glob(pattern)):
        size = file.stat().st_size
        digest.update(f"{file.name}\n{size}\n".encode())
        with file.open("rb") as stream:
            if file.suffix != ".safetensors" or size <= 2 * _END_BYTES:
                digest.update(stream.read())
            else:
                digest.update(stream.read(_END_BYTES))
                stream.seek(-_END_BYTES, 2)
                digest.update(stream.read())
    return digest.hexdigest()[:16]
