"""Reading files of rows, and data sets of the hub, as JSON values with their `file:line`."""

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.errors import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Item:
    """One row of a source, not yet checked."""

    where: str
    """`file:line`; the line on which the row starts, or the number of the row where there are no lines."""
    number: int
    """The row's number in the source, from 1."""
    value: Any
    """The JSON value, or the DataError that says why it cannot be read."""


def read_source(name: str) -> Iterator[Item]:
    """Yield the rows of a .jsonl, .json (one array) or .parquet file, or of the train split of a hub data set.

    Raises:
        DataError: there is no such source, it cannot be read, or it is broken in a way that hides the rows after it.
    """
    path = Path(name)
    if path.is_dir():
        raise DataError("is a folder; name the .jsonl, .json or .parquet files in it.", where=name)
    if not path.exists():
        if _HUB_ID.fullmatch(name) and path.suffix not in _READERS:
            return _read_hub(name)
        raise DataError(
            "no such file. Give a .jsonl, .json or .parquet file, or a hub id as in owner/name.", where=name
        )
    if path.suffix not in _READERS:
        raise DataError(
            f"its name ends in {path.suffix!r}; rows are read from .jsonl, .json and .parquet files.", where=name
        )
    return _READERS[path.suffix](path, name)


def _read_jsonl(path: Path, name: str) -> Iterator[Item]:
    number = 0
    for line, raw in enumerate(_read_bytes(path, name).split(b"\n"), start=1):
        if raw.strip():
            number += 1
            where = f"{name}:{line}"
            yield Item(where, number, _parse_line(raw, where))


def _parse_line(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return DataError(f"not UTF-8 (byte {error.start + 1} of the line). Save the file as UTF-8.", where=where)
    except json.JSONDecodeError as error:
        return DataError(
            f"not JSON: {error.msg} (column {error.colno}). Each line of a .jsonl file is one JSON object.", where=where
        )
    except (RecursionError, ValueError):
        return DataError(
            "not JSON that can be read: nested too deeply, or too long a number. Mend the row.", where=where
        )


def _read_array(path: Path, name: str) -> Iterator[Item]:
    """Yield the items of one JSON array; where the array itself is broken, no row after that place can be read."""
    raw = _read_bytes(path, name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError("not UTF-8. Save the file as UTF-8.", where=f"{name}:{line}") from None
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise _broken(text, at, name, "a .json file is one array of rows; call it .jsonl if each line is a row")
    after_bracket = at = _skip(text, at + 1)
    line, counted, number = 1, 0, 0
    while text[at : at + 1] != "]" or at > after_bracket:
        line, counted, number = line + text.count("\n", counted, at), at, number + 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _broken(text, error.pos, name, error.msg) from None
        except (RecursionError, ValueError):
            raise _broken(text, at, name, "a row is nested too deeply, or has too long a number") from None
        yield Item(f"{name}:{line}", number, value)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise _broken(text, at, name, "a comma or the end of the array must stand after a row")
        at = _skip(text, at + 1)
    at = _skip(text, at + 1)
    if at < len(text):
        raise _broken(text, at, name, "more text stands after the end of the array")


def _broken(text: str, at: int, name: str, reason: str) -> DataError:
    line = text.count("\n", 0, at) + 1
    return DataError(f"not a JSON array of rows: {reason}. Mend the file.", where=f"{name}:{line}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _read_parquet(path: Path, name: str) -> Iterator[Item]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = [row for batch in file.iter_batches() for row in batch.to_pylist()]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(
            f"not a parquet file that can be read ({type(error).__name__}). Write it again.", where=name
        ) from None
    for number, row in enumerate(rows, start=1):
        yield Item(f"{name}:{number}", number, row)


def _read_hub(name: str) -> Iterator[Item]:
    from datasets import load_dataset

    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its six warnings about retries say no more than the one error below
    try:
        rows = load_dataset(name, split="train")
    except Exception as error:  # the hub's client fails in dozens of ways: any of them means that there are no rows
        raise DataError(
            f"no such file, and the hub does not hand out a data set of that name ({type(error).__name__}). "
            "Check name and network, or give a file.",
            where=name,
        ) from error
    finally:
        log.setLevel(level)
    for number, row in enumerate(rows, start=1):
        yield Item(f"{name}:{number}", number, row)


def _read_bytes(path: Path, name: str) -> bytes:
    """Return the file without the mark that some editors put before UTF-8."""
    try:
        return path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise DataError(f"cannot be read: {os.strerror(error.errno or 0)}.", where=name) from None


_READERS = {".jsonl": _read_jsonl, ".json": _read_array, ".parquet": _read_parquet}
