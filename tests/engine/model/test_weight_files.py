"""Which files are read, and what is no safetensors file; whole folders are in test_weights_as_transformers.py."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alttrain.engine.errors import ModelError
from alttrain.engine.model.weight_files import read_entries, read_header, unread_files, weight_files

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
NEXT = {**ONE, "data_offsets": [4, 8]}


def write(file: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


def test_a_header_is_read_with_where_its_data_begin(tmp_path: Path) -> None:
    file = write(tmp_path / "a", {"__metadata__": {"format": "pt"}, "x": ONE}, bytes(4))
    assert read_header(file) == (file.stat().st_size - 4, {"x": ONE})


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"x": NEXT}, bytes(8)),
        (b'{"x": %s, "x": %s}' % tuple(json.dumps(item).encode() for item in (ONE, NEXT)), bytes(8)),
        ({"x": {**ONE, "dtype": "X9"}}, bytes(4)),
        ({"x": {**ONE, "shape": [2]}}, bytes(4)),
        ({"x": ONE, "y": ONE}, bytes(4)),
        ({"x": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
        ({"x": {**ONE, "data_offsets": ["0", "4"]}}, bytes(4)),
        ({"x": 3}, b""),
        ([], b""),
        (b"[" * 100_000, b""),
    ],
    ids=["hole", "name twice", "dtype", "size", "overlap", "no shape", "text", "number", "list", "deep"],
)  # fmt: skip
def test_a_header_of_another_kind_is_refused(tmp_path: Path, header: object, data: bytes) -> None:
    file = write(tmp_path / "model.safetensors", header, data)
    with pytest.raises(ModelError, match=r"(not a whole|its header is not that of a) safetensors file"):
        read_header(file)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a", {"x": ONE}, bytes(4))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match=r"a: cannot be read \(Permission denied\)"):
        read_header(file)


def test_the_file_comes_before_its_shards(tmp_path: Path) -> None:
    single, index = tmp_path / "model.safetensors", tmp_path / "model.safetensors.index.json"
    save_file({"x": torch.ones(1)}, single)
    assert weight_files(tmp_path) == [single]
    index.write_text(json.dumps({"weight_map": {"x": "model.safetensors"}}))
    assert weight_files(tmp_path) == [single]
    for name in ("a", "b", "c"):
        save_file({name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    index.write_text(json.dumps({"weight_map": {"b": "b.safetensors", "a": "a.safetensors"}}))
    with pytest.raises(ModelError, match="stands beside"):
        weight_files(tmp_path)
    single.unlink()
    assert weight_files(tmp_path) == [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert unread_files(tmp_path) == ["c.safetensors"]
    assert {name: entry.file.name for name, entry in read_entries(tmp_path).items()} == {
        "a": "a.safetensors",
        "b": "b.safetensors",
    }


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match=r"^[^:]*: "):
        weight_files(tmp_path)
