"""Who may write to a run folder, and which lines survive a resume."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.config import BatchConfig, CheckpointConfig, DataConfig, RunConfig
from alttrain.engine.errors import CheckpointError, ConfigError
from alttrain.engine.files import append_line
from alttrain.engine.run.folder import RunFolder

CONFIG = RunConfig(output="o")
FACTS: dict[str, Any] = {
    "world_size": 2,
    "num_steps": 10,
    "data": {"files": ["a.jsonl"], "train": {"sha256": "abc"}, "eval": {}},
    "model": {"sha256": "m", "chat_template_sha256": "t"},
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.check(CONFIG, FACTS)
    assert not made.path.exists(), "checking must not write"
    made.create(CONFIG, FACTS)
    return made


def test_config_holds_the_resolved_run(folder: RunFolder) -> None:
    record = json.loads((folder.path / "config.json").read_text())
    assert record["run"]["optim"]["lr"] == CONFIG.optim.lr
    assert record["versions"]["torch"]
    assert record["world_size"] == 2


def test_a_machine_without_git(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    folder.create(CONFIG, FACTS)
    assert json.loads((folder.path / "config.json").read_text())["git_commit"] is None


def test_another_run_is_refused(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="holds another run"):
        folder.check(CONFIG, FACTS)


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="not empty"):
            RunFolder(tmp_path).check(dataclasses.replace(CONFIG, resume=resume), FACTS)
    with pytest.raises(ConfigError, match="a file"):
        RunFolder(tmp_path / "notes.txt").check(CONFIG, FACTS)


def test_resume_needs_the_same_run(folder: RunFolder) -> None:
    resumed = dataclasses.replace(CONFIG, resume=True, output="elsewhere", checkpoint=CheckpointConfig(every=7))
    folder.check(resumed, FACTS)
    with pytest.raises(CheckpointError, match=r"--batch\.examples 16, this one 8"):
        folder.check(dataclasses.replace(resumed, batch=BatchConfig(examples=8)), FACTS)
    with pytest.raises(CheckpointError, match="world size 2, this one 4"):
        folder.check(resumed, {**FACTS, "world_size": 4})
    with pytest.raises(CheckpointError, match=r"the rows of --data\.train are others"):
        folder.check(resumed, {**FACTS, "data": {"train": {"sha256": "other"}, "eval": {}}})


def test_each_start_is_kept(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume adds its versions to those of the starts before it and returns what is not as it was."""
    first = json.loads((folder.path / "config.json").read_text())
    (start,) = first["starts"]
    assert (start["step"], start["changes"], start["paths"]["data.train"]) == (0, [], [])
    later = {**first["versions"], "torch": "9.9"}
    monkeypatch.setattr("alttrain.engine.run.folder.library_versions", lambda: later)
    moved = dataclasses.replace(CONFIG, resume=True, data=DataConfig(train=("elsewhere/rows.jsonl",)))
    folder.check(moved, FACTS)
    changes = folder.create(moved, FACTS, 7)
    torch = first["versions"]["torch"]
    assert changes == [
        "--data.train elsewhere/rows.jsonl, before none (the same rows)",
        f"torch 9.9, before {torch}",
    ]
    record = json.loads((folder.path / "config.json").read_text())
    assert [start["step"] for start in record["starts"]] == [0, 7]
    assert [start["versions"]["torch"] for start in record["starts"]] == [torch, "9.9"]
    assert record["starts"][1]["changes"] == changes
    assert record["starts"][1]["paths"]["data.train"] == ["elsewhere/rows.jsonl"]
    assert folder.create(moved, FACTS, 7) == [], "nothing differs from the start before"


def test_a_folder_moved_to_another_place_goes_on(folder: RunFolder, tmp_path: Path) -> None:
    moved = RunFolder(folder.path.rename(tmp_path / "other disk"))
    resumed = dataclasses.replace(CONFIG, resume=True, output=str(moved.path))
    moved.check(resumed, FACTS)
    assert moved.create(resumed, FACTS, 3) == []


def test_lines_beyond_the_checkpoint_are_cut(folder: RunFolder) -> None:
    for step in range(1, 6):
        append_line(folder.metrics, {"step": step})
    for step in (0, 3, 5):
        append_line(folder.evaluations, {"step": step})
    with folder.metrics.open("a") as stream:
        stream.write('{"step": 6, "lo')  # killed while writing
    folder.cut(3)
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [1, 2, 3]
    assert [json.loads(line)["step"] for line in folder.evaluations.read_text().splitlines()] == [0, 3]
    folder.cut(0)
    assert folder.metrics.read_text() == ""
    assert folder.evaluations.read_text() == ""
