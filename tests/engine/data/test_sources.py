"""Where rows come from: places are exact, and a broken file gets a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from alttrain.engine.data.sources import Item, read_source, source_stem
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
    assert items(path) == [Item(f"{path}:1", 1, rows[0]), Item(f"{path}:2", 2, {"id": "b"})]
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith(f"{path}: not a parquet file that can be read (")


def test_what_is_no_file(tmp_path: Path) -> None:
    endings = ".jsonl, .json, .csv, .tsv (also .gz, .zst) or .parquet"
    way_out = f"Give a file ({endings}), or a hub id as in owner/name or owner/name:configuration@split."
    assert refusal(tmp_path / "a.jsonl") == f"{tmp_path}/a.jsonl: no such file. {way_out}"
    assert refusal(Path("data/rows.jsonl")) == f"data/rows.jsonl: no such file. {way_out}"
    assert refusal(Path("rows")) == f"rows: no such file. {way_out}"
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; name the files in it: {endings}."
    for name, ending in (("a.xlsx", ".xlsx"), ("a.gz", ".gz"), ("a.parquet.gz", ".gz")):
        (tmp_path / name).touch()
        assert (
            refusal(tmp_path / name)
            == f"{tmp_path}/{name}: its name ends in {ending!r}; rows are read from {endings} files."
        )


def test_a_bad_cell_hides_its_own_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = pyarrow.array([b"a", b"\xff", b"c"]).cast(pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"prompt": texts}), path)
    first, second, third = items(path)
    assert (first.value, third.value) == ({"prompt": "a"}, {"prompt": "c"})
    assert str(second.value) == (
        f"{path}:2: a cell of it cannot be read (a text that is not UTF-8). Write the row again."
    )


def test_objects_of_a_table_have_their_own_keys_alone(tmp_path: Path) -> None:
    """A column of objects gives each of them the keys of all."""
    path = tmp_path / "a.parquet"
    rows = [{"tools": [{"a": {"b": 1}}, {"c": "x"}]}, {"tools": [{"a": {"d": 0}}]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [item.value for item in items(path)] == rows


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
def test_files_may_be_compressed(tmp_path: Path, ending: str, compression: str) -> None:
    text = {".jsonl": b'{"a": "1"}\n', ".json": b'[{"a": "1"}]', ".csv": b"a\n1\n"}[ending]
    path = tmp_path / f"a.b{ending}{'.gz' if compression == 'gzip' else '.zst'}"
    with pyarrow.output_stream(str(path), compression=compression) as file:
        file.write(b"\xef\xbb\xbf" + text)
    assert [item.value for item in items(path)] == [{"a": "1"}]
    assert source_stem(str(path)) == "a.b"
    path.write_bytes(path.read_bytes()[:-3])
    assert refusal(path).startswith(f"{path}: not a whole {path.suffix} file")


@pytest.mark.parametrize("row", ['{"a": 1, "a": 2}', '{"b": [{"a": 1, "c": 0, "a": 1}]}'])
def test_a_key_that_stands_twice_is_no_row(tmp_path: Path, row: str) -> None:
    """Python's reader would take the last value and say nothing."""
    lines, array = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text('{"a": 0}\n' + row)
    assert str(items(lines)[1].value).startswith(f"{lines}:2: an object has one key twice")
    array.write_text(f'[{{"a": 0}},\n{row}]')
    assert refusal(array).startswith(f"{array}:2: not a JSON array of rows: an object of the row that begins here")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("owner/name", ("owner/name", None, "train")),
        ("owner/name:deepseek", ("owner/name", "deepseek", "train")),
        ("owner/name@test", ("owner/name", None, "test")),
        ("o/n.v1:reasoning-flash@train[:10]", ("o/n.v1", "reasoning-flash", "train[:10]")),
    ],
)
def test_a_hub_set_has_a_configuration_and_a_split(
    monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str | None, str]
) -> None:
    import datasets

    calls = []

    def load_dataset(path: str, configuration: str | None, split: str) -> Any:
        calls.append((path, configuration, split))
        return datasets.Dataset.from_list([{"a": {"b": 1, "c": None}}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_source(name)) == [Item(f"{name}:1", 1, {"a": {"b": 1}})]
    assert calls == [asked]


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
