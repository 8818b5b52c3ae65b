"""What is published is whole: names, retention, and what is said of a checkpoint that is not there or not ours."""

import json
from pathlib import Path

import pytest

from alttrain.engine.errors import CheckpointError
from alttrain.engine.run import checkpoint as checkpoints
from alttrain.engine.run.folder import RunFolder


def published(folder: RunFolder, step: int) -> Path:
    """Write and publish a checkpoint as `save_checkpoint` does, without an engine."""
    incoming, name = folder.checkpoints / checkpoints.INCOMING, f"step-{step:06d}"
    (incoming / name).mkdir(parents=True)
    (incoming / name / "state.json").write_text(json.dumps({"step": step}))
    checkpoints._publish(incoming, name, folder.checkpoints)
    return folder.checkpoints / name


def test_newest_is_what_latest_names(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert checkpoints.newest_checkpoint(folder) is None
    for step in (50, 100):
        published(folder, step)
    assert checkpoints.newest_checkpoint(folder) == folder.checkpoints / "step-000100"
    assert not (folder.checkpoints / checkpoints.INCOMING).exists()


def test_a_folder_that_latest_does_not_name_is_not_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    published(folder, 50)
    unnamed = folder.checkpoints / "step-000100"  # killed between the rename and LATEST
    unnamed.mkdir()
    assert checkpoints.newest_checkpoint(folder) == folder.checkpoints / "step-000050"
    published(folder, 100)  # the resumed run comes by the same step again
    assert (unnamed / "state.json").is_file()


def test_retention_keeps_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (5, 10, 15, 20):
        published(folder, step)
    checkpoints._retain(folder.checkpoints, "step-000020", keep=2)
    assert sorted(path.name for path in folder.checkpoints.glob("step-*")) == ["step-000015", "step-000020"]


def test_retention_drops_what_a_run_has_gone_back_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (10, 20, 30, 15):  # resumed from 10, with other steps between checkpoints
        published(folder, step)
    checkpoints._retain(folder.checkpoints, "step-000015", keep=2)
    assert sorted(path.name for path in folder.checkpoints.glob("step-*")) == ["step-000010", "step-000015"]
    assert checkpoints.newest_checkpoint(folder) == folder.checkpoints / "step-000015"


def test_checkpoint_that_is_gone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    path = published(folder, 50)
    (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match="names step-000050, which is not there or not whole"):
        checkpoints.newest_checkpoint(folder)
