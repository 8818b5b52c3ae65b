"""The bytes of a file, with a compression undone that its name tells: rows.jsonl.gz holds what rows.jsonl would."""

import gzip
import os
import zlib
from pathlib import Path

from alttrain.engine.errors import DataError

COMPRESSIONS = (".gz", ".zst")
"""The endings of names of compressed files."""


def content_suffix(path: Path) -> str:
    """Return the ending that says what the file holds, in lower case: `.csv` for table.csv and for table.CSV.gz."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return inner.suffix.lower()


def read_content(path: Path, name: str) -> bytes:
    """Return the bytes of a file after decompression.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        DataError: the file cannot be read, or is not compressed as its name says.
    """
    suffix = path.suffix.lower()
    try:
        content = path.read_bytes()
        if suffix == ".gz":
            return gzip.decompress(content)
        return _decompress_zstd(content) if suffix == ".zst" else content
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"not a whole {suffix} file ({type(error).__name__}). Fetch or write it again.", where=name
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot be read ({os.strerror(error.errno or 0)}); name an existing file.", where=name
        ) from error


def _decompress_zstd(content: bytes) -> bytes:
    """Return what a file of one or more Zstandard frames holds."""
    import pyarrow  # type: ignore[import-untyped]

    try:
        with pyarrow.input_stream(pyarrow.py_buffer(content), compression="zstd") as stream:
            return bytes(stream.read())
    except (OSError, pyarrow.ArrowException) as error:
        raise EOFError from error
