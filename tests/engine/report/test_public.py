"""What is published keeps names and no folders."""

from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.report.public import without_folders, without_paths


def record(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    data = {"train": [f"{tmp_path}/rows.jsonl", "owner/set"], "eval": ["held/out.jsonl"], "chat_template": ""}
    run = {"model": {"path": "owner/model"}, "output": f"{tmp_path}/runs/it", "data": data}
    return {"run": run | changes, "data": {"files": data["train"]}}


def test_paths_become_names_and_hub_ids_stay(tmp_path: Path) -> None:
    text = f"owner/model on {tmp_path}/rows.jsonl:7 and owner/set, to {tmp_path}/runs/it/model; ./held/out.jsonl"
    assert without_folders(text, record(tmp_path)) == (
        "owner/model on rows.jsonl:7 and owner/set, to it/model; ./held/out.jsonl"
    )
    there = tmp_path / "a" / "b"
    there.mkdir(parents=True)
    local = record(tmp_path, model={"path": str(there)})
    assert without_folders(f"of {there}", local) == "of b"


def test_the_paths_of_earlier_starts_too(tmp_path: Path) -> None:
    starts = [{"paths": {"data.train": ["/x/old.jsonl"], "model.path": "/y/m", "data.chat_template": ""}}]
    kept = {**record(tmp_path), "starts": starts}
    assert without_folders("before /x/old.jsonl, /y/m", kept) == "before old.jsonl, m"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("at /home/ann/runs/7b/model, line 3", "at ~/runs/7b/model, line 3"),
        ("/home/ann", "~"),
        ("in /home/anne/x and (/home/bob/y.py:7)", "in x and (y.py:7)"),
        ("'/opt/a b/lib.so'", "'a b/lib.so'"),
        ("/data/one:/data/two/lib/", "one:lib"),
        ("a/b, 3/4, owner/set, and/or, ~/x/y, ./a/b, ../c/d", "a/b, 3/4, owner/set, and/or, ~/x/y, ./a/b, ../c/d"),
        ("see https://example.org/a/b and 1.0 TFLOP/s", "see https://example.org/a/b and 1.0 TFLOP/s"),
        ("cuda:/dev/nvidia0", "cuda:nvidia0"),
        ("/ and /tmp", "/ and /tmp"),
        ("file:///data/one/x", "file://x"),
    ],
)
def test_absolute_paths_become_their_last_names(text: str, public: str) -> None:
    assert without_paths(text, "/home/ann") == public


def test_a_home_that_is_the_root_hides_nothing() -> None:
    assert without_paths("a / b and /x/y", "/") == "a / b and y"
