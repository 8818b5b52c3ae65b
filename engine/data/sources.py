"""Reading files of rows, and data sets of the hub, as JSON values with their `file:line`."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.data.content import COMPRESSIONS, content_suffix, read_content
from alttrain.engine.data.tables import table_rows
from alttrain.engine.errors import DataError

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w.-]+))?(?:@(.+))?")
_SPACE = re.compile(r"[ \t\r\n]*")
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


class _RepeatedKeyError(ValueError):
    """An object has one key twice; Python's reader would take the last value in silence."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _RepeatedKeyError
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_source(name: str) -> Iterator[Item]:
    """Yield the rows of a file, or of a hub data set: owner/name:configuration@split, by default the train split.

    A file is .jsonl, .json (one array), .csv or .tsv, each also as .gz or .zst, or .parquet.

    Raises:
        DataError: there is no such source, it cannot be read, or it is broken in a way that hides the rows after it.
    """
    path = Path(name)
    suffix = content_suffix(path)
    if path.is_dir():
        raise DataError(f"is a folder; name the files in it: {_ENDINGS}.", where=name)
    if not path.exists():
        if suffix not in _READERS and _HUB_ID.fullmatch(name):
            return _read_hub(name)
        raise DataError(
            f"no such file. Give a file ({_ENDINGS}), or a hub id as in owner/name or owner/name:configuration@split.",
            where=name,
        )
    if suffix not in _READERS or (suffix == ".parquet" and path.suffix.lower() != suffix):
        raise DataError(f"its name ends in {path.suffix!r}; rows are read from {_ENDINGS} files.", where=name)
    return _READERS[suffix](path, name)


def source_stem(name: str) -> str:
    """Return the source's name without folders and endings: `rows` for a/rows.jsonl.gz."""
    path = Path(name)
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSIONS else path.stem


def _read_jsonl(path: Path, name: str) -> Iterator[Item]:
    number = 0
    for line, raw in enumerate(read_content(path, name).removeprefix(_BOM).split(b"\n"), start=1):
        if raw.strip():
            number += 1
            where = f"{name}:{line}"
            yield Item(where, number, _parse_line(raw, where))


def _parse_line(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return DataError(f"not UTF-8 (byte {error.start + 1} of the line). Save the file as UTF-8.", where=where)
    except json.JSONDecodeError as error:
        return DataError(
            f"not JSON: {error.msg} (column {error.colno}). Each line of a .jsonl file is one JSON object.", where=where
        )
    except _RepeatedKeyError:
        return DataError("an object has one key twice, and only one value can be read. Mend the row.", where=where)
    except (RecursionError, ValueError):
        return DataError(
            "not JSON that can be read: nested too deeply, or too long a number. Mend the row.", where=where
        )


def _read_array(path: Path, name: str) -> Iterator[Item]:
    """Yield the items of one JSON array; where the array itself is broken, no row after that place can be read."""
    raw = read_content(path, name).removeprefix(_BOM)
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
        except _RepeatedKeyError:
            raise _broken(text, at, name, "an object of the row that begins here has one key twice") from None
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


def _read_table(path: Path, name: str) -> Iterator[Item]:
    for number, (line, row) in enumerate(table_rows(path, name), start=1):
        yield Item(f"{name}:{line}", number, row)


def _read_parquet(path: Path, name: str) -> Iterator[Item]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    broken = (OSError, ValueError, pyarrow.ArrowException)
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for index in range(batch.num_rows):
                    number += 1
                    yield Item(f"{name}:{number}", number, _parquet_row(batch, index, f"{name}:{number}", broken))
    except broken as error:
        raise DataError(
            f"not a parquet file that can be read ({type(error).__name__}). Write it again.", where=name
        ) from None


def _parquet_row(batch: Any, index: int, where: str, broken: tuple[type[Exception], ...]) -> Any:
    """Return one row, or why it cannot be read: a bad cell hides its own row alone."""
    try:
        return _without_nulls(dict(zip(batch.schema.names, (c[index].as_py() for c in batch.columns), strict=True)))
    except broken as error:
        reason = "a text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else type(error).__name__
        return DataError(f"a cell of it cannot be read ({reason}). Write the row again.", where=where)


def _without_nulls(value: Any) -> Any:
    """Return `value` without the keys that are null: tables give every object of a column the keys of all."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _read_hub(name: str) -> Iterator[Item]:
    from datasets import load_dataset

    found = _HUB_ID.fullmatch(name)
    assert found, "only names of this form come here"
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its six warnings about retries say no more than the one error below
    try:
        rows = load_dataset(found[1], found[2], split=found[3] or "train")
    except Exception as error:  # the hub's client fails in dozens of ways: any of them means that there are no rows
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"no such file, and the hub does not hand out a data set of that name ({type(error).__name__}: {reason}). "
            "Check name, configuration, split and network (owner/name:configuration@split), or give a file.",
            where=name,
        ) from error
    finally:
        log.setLevel(level)
    for number, row in enumerate(rows, start=1):
        yield Item(f"{name}:{number}", number, _without_nulls(row))


_READERS = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_array,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
}
_ENDINGS = ".jsonl, .json, .csv, .tsv (also .gz, .zst) or .parquet"
