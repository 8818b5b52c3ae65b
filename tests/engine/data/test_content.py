"""Files as they lie and compressed: the same bytes, or a sentence about what is wrong with them."""

import gzip
from pathlib import Path

import pyarrow
import pytest

from alttrain.engine.data.content import content_suffix, read_content
from alttrain.engine.errors import DataError

TEXT = "Straße\r\n".encode() * 500


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TEXT),
        ("a.csv.gz", gzip.compress(TEXT, mtime=0)),
        ("a.csv.GZ", gzip.compress(TEXT[:80], mtime=0) + gzip.compress(TEXT[80:], mtime=0)),
        ("a.csv.zst", zstd(TEXT)),
        ("b.csv.zst", zstd(TEXT[:80]) + zstd(TEXT[80:])),
    ],
)
def test_a_compressed_file_holds_the_same_bytes(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_content(tmp_path / name, name) == TEXT
    assert content_suffix(tmp_path / name) == ".csv"


@pytest.mark.parametrize(
    ("name", "suffix"), [("a", ""), ("a.gz", ""), ("a.TSV", ".tsv"), ("v1.2.jsonl.zst", ".jsonl"), ("gz/a.csv", ".csv")]
)
def test_the_suffix_that_says_what_a_file_holds(name: str, suffix: str) -> None:
    assert content_suffix(Path(name)) == suffix


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: cannot be read"),
        ("a.csv.gz", b"id,prompt\n", "a.csv.gz: not a whole .gz file"),
        ("a.csv.gz", gzip.compress(TEXT, mtime=0)[:-20], "a.csv.gz: not a whole .gz file"),
        ("a.csv.zst", b"id,prompt\n", "a.csv.zst: not a whole .zst file"),
        ("a.csv.zst", zstd(TEXT)[:-3], "a.csv.zst: not a whole .zst file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_content(tmp_path / name, name)
