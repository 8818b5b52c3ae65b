"""Where rows come from: places are exact, and a broken file gets a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from alttrain.engine.data.sources import Item, read_source
from alttrain.engine.errors import DataError


def items(path: Path) -> list[Item]:
    return list(read_source(str(path)))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        items(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_jsonl_counts_lines_and_rows_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"a": "\u2028"}\r\n\n  \n{"a": 2}'.encode())
    assert items(path) == [Item(f"{path}:1", 1, {"a": "\u2028"}), Item(f"{path}:4", 2, {"a": 2})]


def test_a_bad_line_does_not_hide_those_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": \n\xff\xfe\n' + b"[" * 100_000 + b'\n{"a": 2}\n')
    values = [str(item.value) for item in items(path)]
    assert values[0].startswith(f"{path}:1: not JSON: Expecting value (column ")
    assert values[1].startswith(f"{path}:2: not UTF-8 (byte 1 of the line).")
    assert values[2].startswith(f"{path}:3: not JSON")
    assert values[3] == "{'a': 2}"


@pytest.mark.parametrize("indent", [None, 4])
def test_array_items_know_their_line(tmp_path: Path, indent: int | None) -> None:
    rows = [{"a": "x\ny"}, {"a": [1, 2]}, 3]
    path = tmp_path / "a.json"
    text = json.dumps(rows, indent=indent)
    path.write_text(f"\n{text}\n", encoding="utf-8")
    found = items(path)
    assert [item.value for item in found] == rows
    lines = f"\n{text}".split("\n")
    for item, start in zip(found, ("{", "{", "3"), strict=True):
        assert start in lines[int(item.where.rpartition(":")[2]) - 1]
    assert [item.number for item in found] == [1, 2, 3]


def test_an_empty_array_has_no_items(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[ ]")
    assert items(path) == []


@pytest.mark.parametrize(
    ("raw", "line", "reason"),
    [
        (b'{"a": 1}', 1, "a .json file is one array of rows; call it .jsonl if each line is a row"),
        (b"", 1, "a .json file is one array of rows; call it .jsonl if each line is a row"),
        (b'[{"a": 1},\n]', 2, "Expecting value"),
        (b'[{"a": 1}\n{"a": 2}]', 2, "a comma or the end of the array must stand after a row"),
        (b'[{"a": 1}\n', 2, "a comma or the end of the array must stand after a row"),
        (b"[1]\n\n[2]", 3, "more text stands after the end of the array"),
        (b"[\n" + b"[" * 100_000, 2, "a row is nested too deeply, or has too long a number"),
    ],
)
def test_a_broken_array(tmp_path: Path, raw: bytes, line: int, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    assert refusal(path) == f"{path}:{line}: not a JSON array of rows: {reason}. Mend the file."


def test_an_array_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[1,\n"\xff"]')
    assert refusal(path) == f"{path}:2: not UTF-8. Save the file as UTF-8."


def test_parquet(tmp_path: Path) -> None:
    rows = [{"id": "a", "spans": [{"role": "answer", "text": "x"}]}, {"id": "b", "spans": None}]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert items(path) == [Item(f"{path}:1", 1, rows[0]), Item(f"{path}:2", 2, rows[1])]
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith(f"{path}: not a parquet file that can be read (")


def test_what_is_no_file(tmp_path: Path) -> None:
    way_out = "Give a .jsonl, .json or .parquet file, or a hub id as in owner/name."
    assert refusal(tmp_path / "a.jsonl") == f"{tmp_path}/a.jsonl: no such file. {way_out}"
    assert refusal(Path("data/rows.jsonl")) == f"data/rows.jsonl: no such file. {way_out}"
    assert refusal(Path("rows")) == f"rows: no such file. {way_out}"
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; name the .jsonl, .json or .parquet files in it."
    (tmp_path / "a.csv").touch()
    assert refusal(tmp_path / "a.csv").startswith(f"{tmp_path}/a.csv: its name ends in '.csv'; rows are read from")


def test_a_hub_id_without_network_gets_one_sentence(tmp_path: Path) -> None:
    code = (
        "from alttrain.engine.errors import DataError\nfrom alttrain.engine.data.sources import read_source\n"
        "try:\n    list(read_source('nobody/nothing'))\nexcept DataError as error:\n    print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nobody/nothing: no such file, and the hub does not hand out a data set of that name")
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
