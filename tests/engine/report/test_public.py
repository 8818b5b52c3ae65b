"""What is published keeps names and no folders."""

from pathlib import Path
from typing import Any

from alttrain.engine.report.public import without_folders


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
