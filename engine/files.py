"""Writing files whole or line by line, so that neither a reader nor a killed process leaves or sees half a file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alttrain.engine.errors import ConfigError

PARTIAL = ".partial"
"""The suffix of a file that is still being written."""


def append_line(file: Path, record: Mapping[str, Any]) -> None:
    """Append `record` as one line of JSON."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the records of a file that `append_line` wrote; an empty list where there is no file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def write_whole(file: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never part of it."""
    partial = file.with_name(file.name + PARTIAL)
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)


def write_output(output: Path, text: str) -> None:
    """Write `text` whole to the file that --output names, or to one beside it; missing folders are made.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, text)
    except OSError as error:
        raise ConfigError(
            f"{output}: cannot be written ({error.strerror}); name another place.", flag="--output"
        ) from error
