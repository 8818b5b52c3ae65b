"""One run at a time holds a folder, and nothing of the hold is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ConfigError
from alttrain.engine.run import lock
from alttrain.engine.run.folder import LOCK, RunFolder
from alttrain.engine.run.lock import FolderLock, check_shared, hold_folder

WORLD = World(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
HOLDER = (
    "import sys\nfrom pathlib import Path\nfrom alttrain.engine.run.lock import FolderLock\n"
    "FolderLock(Path(sys.argv[1])).take()\nprint('held', flush=True)\nsys.stdin.readline()\n"
)


def hold_elsewhere(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    other = hold_elsewhere(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"^--output .+run: another run is writing to it at this moment\."):
        FolderLock(tmp_path / "run").take()
    other.kill()  # leaves the file, and not the hold
    other.wait()
    assert (tmp_path / "run" / LOCK).is_file()
    mine = FolderLock(tmp_path / "run")
    mine.take()
    mine.release()
    assert not (tmp_path / "run" / LOCK).exists()


def test_what_was_made_for_the_hold_goes_with_it(tmp_path: Path) -> None:
    mine = FolderLock(tmp_path / "a" / "b")
    mine.take()
    assert os.listdir(tmp_path / "a" / "b") == [LOCK]
    mine.release()
    assert list(tmp_path.iterdir()) == []
    mine.take()
    (tmp_path / "a" / "kept").touch()
    mine.release()
    mine.release()
    assert os.listdir(tmp_path / "a") == ["kept"]


def test_a_link_to_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there")
    FolderLock(tmp_path / "link").take()
    assert (tmp_path / "there" / LOCK).is_file()


def test_a_folder_is_held_for_the_time_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    calls: list[bool] = []
    with hold_folder(folder, WORLD, lambda: calls.append((folder.path / LOCK).exists())):
        assert calls == [False, True]  # asked before anything is made, and once nobody else can change it
        (folder.path / "config.json").touch()
    assert os.listdir(folder.path) == ["config.json"]

    def refuse() -> None:
        raise ConfigError("no", flag="--output")

    with pytest.raises(ConfigError, match=r"^--output no$"), hold_folder(RunFolder(tmp_path / "new"), WORLD, refuse):
        raise AssertionError
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_not_the_first_rank_s_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.3)
    for name in ("missing", "other"):
        with pytest.raises(ConfigError, match=r"^--output .+: the first rank's file run\.lock is not in it,"):
            check_shared(tmp_path / name, "token", WORLD)
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / LOCK).write_text("another\n")
    (tmp_path / "other" / LOCK).write_text("token\n")
    check_shared(tmp_path / "other", "token", WORLD)
