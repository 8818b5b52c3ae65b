"""Delimited tables: every cell as it was written, at its line; and no row lost, merged or shifted in silence."""

import csv
import gzip
import io
import random
import time
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.data.tables import DELIMITERS, Table, read_table, table_rows
from alttrain.engine.errors import DataError


def read(tmp_path: Path, content: str | bytes, name: str = "a.csv") -> Table:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(tmp_path / name, name)


def cells(table: Table) -> list[list[str]]:
    return [row.cells for row in table.rows]


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_a_writer_wrote_is_read_back(tmp_path: Path, delimiter: str, line_end: str, quoting: Any) -> None:
    """Cells of every character that matters, by a writer that is not ours; some 4,000 cells a case."""
    draw = random.Random(f"{delimiter}{line_end}{quoting}")
    alphabet = ["a", "b c", ",", ";", "|", '"', '""', "\n", "\0", "é", "\u2028", "\\", "'", " ", "1,5"]
    rows = [["id", "prompt", "note"]]
    rows += [[f"r{n}", *("".join(draw.choices(alphabet, k=draw.randint(1, 8))) for _ in range(2))] for n in range(1300)]
    sink = io.StringIO(newline="")
    csv.writer(sink, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(rows)
    table = read(tmp_path, sink.getvalue())
    # A cell that begins with spaces and a quote is read as a quoted one; a writer puts every such cell into quotes.
    assert cells(table) == rows
    assert table.delimiter == delimiter


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("id,prompt\n1,Say a; b; c\n2,Say d\n", ","),
        ("id;prompt\n1;Hello, you\n2;Well, well, well\n", ";"),
        ("id;price;unit\n1;2,5;kg\n2;3,5;g\n", ";"),
        ("id;name;price,net\n1;x;2,5\n2;y;7,5\n", ";"),
        ("id\tprompt\n1\tHello, you\n", "\t"),
        ("id|prompt|a,b\n1|Hello, you|x\n2|no|y,z\n", "|"),
        ('"a;b","c;d"\n"1;2","3;4"\n', ","),
        ('"a,b";c\n"1,2";3\n', ";"),
        ("prompt\nHello, you; there | here\nAnother, one\n", ""),
        ("prompt\n", ""),
        ("", ""),
        ("sep=;\nid;a,b\n1;2,3\n", ";"),
        ("id,prompt\r1,two\r2,three\r", ","),
    ],
)
def test_the_delimiter_is_found_from_the_rows(tmp_path: Path, content: str, delimiter: str) -> None:
    table = read(tmp_path, content)
    assert table.delimiter == delimiter
    assert len({len(row.cells) for row in table.rows}) <= 1


def test_a_table_of_tabs_is_one_whatever_its_cells_hold(tmp_path: Path) -> None:
    content = "a,b\tc,d\n1,2\t3,4\n"
    assert cells(read(tmp_path, content, "a.tsv")) == [["a,b", "c,d"], ["1,2", "3,4"]]


def test_one_text_a_line_is_not_cut_at_its_commas(tmp_path: Path) -> None:
    content = 'Write a poem, please.\n"Quoted" and more, and more\nNo comma\n'
    assert cells(read(tmp_path, content, "a.txt")) == [[line] for line in content.splitlines()]
    assert read(tmp_path, "id,prompt\n1,two\n", "a.txt").delimiter == ","


@pytest.mark.parametrize("content", ['t\n1\tHe said "no\n2\tend"\n', 't\n1\t"start\n2\tend"\n', 't\n1\t"a" b\n2\tc\n'])
def test_in_a_table_of_tabs_quotes_that_do_not_pair_are_characters(tmp_path: Path, content: str) -> None:
    content = content.replace("t\n", "id\ttext\n", 1)
    assert cells(read(tmp_path, content, "a.tsv")) == [line.split("\t") for line in content.splitlines()]


def test_in_a_table_of_tabs_quotes_that_pair_are_quotes(tmp_path: Path) -> None:
    content = 'id\ttext\n1\t"He said ""no"""\n2\t"two\nlines"\n'
    assert cells(read(tmp_path, content, "a.tsv")) == [["id", "text"], ["1", 'He said "no"'], ["2", "two\nlines"]]


@pytest.mark.parametrize(
    "encoded",
    [
        "utf-8",
        "utf-8-sig",
        pytest.param("utf-16", id="utf-16 with its mark"),
        pytest.param("utf-32", id="utf-32 with its mark"),
    ],
)
def test_encodings_with_their_marks(tmp_path: Path, encoded: str) -> None:
    table = read(tmp_path, "id;prompt\r\n1;Straße 数\r\n".encode(encoded))
    assert cells(table) == [["id", "prompt"], ["1", "Straße 数"]]


def test_big_endian_and_compressed(tmp_path: Path) -> None:
    content = b"\xfe\xff" + "id,prompt\n1,two\n".encode("utf-16-be")
    assert cells(read(tmp_path, content)) == [["id", "prompt"], ["1", "two"]]
    assert cells(read(tmp_path, gzip.compress(b"id,prompt\n1,two\n"), "a.csv.gz")) == [["id", "prompt"], ["1", "two"]]


def test_line_numbers_are_those_where_rows_begin(tmp_path: Path) -> None:
    content = 'id,prompt\r\n\r\n1,"a\r\nb\n\nc"\r\n2,d\n3,"e"\n'
    assert [row.line for row in read(tmp_path, content).rows] == [1, 3, 7, 8]
    assert [row.line for row in read(tmp_path, "sep=,\r\nid,prompt\n1,d").rows] == [2, 3]


def test_spaces_around_quotes_and_quotes_inside_cells(tmp_path: Path) -> None:
    content = 'id, prompt\n1, "a, b" \n2, "a" b\n3,5" pipe\n'
    assert cells(read(tmp_path, content))[1:] == [["1", "a, b"], ["2", ' "a" b'], ["3", '5" pipe']]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('id,prompt\n1,two\n2,"open\n3,four\n', 3),
        ('id,prompt\n1,"two"x\n', 2),
        ('id,prompt\n1,"say \\"hi\\", now"\n', 2),
        ('prompt\n"two" x\n', 2),
        ('id,prompt\n1,"a\nb"\n2,"open', 4),
    ],
)
def test_a_quote_that_does_not_close_is_an_error_at_its_line(tmp_path: Path, content: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"^a.csv:{line}: a cell begins with a quote that does not close"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"goal\nb\xff\xfe\n", "a.csv:2: not UTF-8"),
        ("goal\nx\n".encode("utf-16-le"), "a.csv: looks like UTF-16 without its byte order mark"),
        (b"\xff\xfea", "a.csv:1: not UTF-16-LE"),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_rows_by_the_names_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffid, prompt ,,note\n1,"x\ny",,\n,,,\n2,z,0,n\n', encoding="utf-8")
    rows = list(table_rows(tmp_path / "a.csv", "a.csv"))
    assert rows == [
        (2, {"id": "1", "prompt": "x\ny", "column 3": None, "note": None}),
        (5, {"id": "2", "prompt": "z", "column 3": "0", "note": "n"}),
    ]


def test_a_row_of_another_width_is_the_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,prompt\n1,Say a, b\n2\n3,c\n", encoding="utf-8")
    more, fewer, right = table_rows(tmp_path / "a.csv", "a.csv")
    assert str(more[1]).startswith("a.csv:2: has 3 cells and the first row 2 (delimiter ','). Put cells")
    assert str(fewer[1]).startswith("a.csv:3: has 1 cells and the first row 2")
    assert (more[0], fewer[0], right) == (2, 3, (4, {"id": "3", "prompt": "c"}))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,prompt,prompt\n1,a,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"^a.csv:1: two columns are called 'prompt'"):
        list(table_rows(tmp_path / "a.csv", "a.csv"))


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n\n", encoding="utf-8")
    assert list(table_rows(tmp_path / "a.csv", "a.csv")) == []


@pytest.mark.parametrize(
    "piece", ["a", '"', '""', ' "', ' """, ', ",", "\r", "a\n", '"a"\n', '"a,', ",\n", ' "a'], ids=ascii
)
def test_time_is_linear_in_the_file(tmp_path: Path, piece: str) -> None:
    """150 kB of any piece are read, or refused, in a second or two; a pattern that goes back takes minutes."""
    started = time.perf_counter()
    for head in ("", "id,prompt\n", 'id,prompt\n1,"'):
        try:
            read(tmp_path, head + piece * (150_000 // len(piece)))
        except DataError:
            continue
    assert time.perf_counter() - started < 30
