"""What a run takes of its disk: predicted as it is written, said, and refused where it does not fit."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from alttrain.engine.config import CheckpointConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.errors import ConfigError
from alttrain.engine.run import space
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.space import GIB, Space, check_space, space_of

SEVEN = 7_000_000_000


def config(stage: int = 2, every: int = 10, keep: int = 2, dtype: str = "bfloat16") -> RunConfig:
    return RunConfig(
        model=ModelConfig(dtype=dtype),  # type: ignore[arg-type]
        zero=ZeroConfig(stage=stage),  # type: ignore[arg-type]
        checkpoint=CheckpointConfig(every=every, keep=keep),
        optim=OptimConfig(moments="float32"),
    )


def test_those_kept_and_the_next_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "not" / "there")
    assert [space_of(config(), folder, 1000, steps, 2).num_checkpoints for steps in (1, 10, 11, 20, 30, 99)] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert space_of(config(every=0), folder, 1000, 99, 2).num_checkpoints == 0


def test_a_parameter_of_a_checkpoint_by_what_the_optimizer_holds(tmp_path: Path) -> None:
    def size(world_size: int, stage: int = 1, dtype: str = "bfloat16", **optim: str) -> int:
        run = replace(config(stage, dtype=dtype), optim=OptimConfig(**{"moments": dtype, **optim}))  # type: ignore[arg-type]
        return space_of(run, RunFolder(tmp_path), 1, 1, world_size).checkpoint

    assert [size(1), size(1, moments="float32"), size(1, master="bfloat16"), size(1, dtype="float32")] == [8, 12, 6, 12]
    assert [size(2), size(2, 3), size(2, moments="float32"), size(2, 0, "float32")] == [10, 8, 14, 12]


def test_what_a_resumed_run_holds_is_not_needed_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = space_of(config(), folder, 1000, 99, 2)
    (folder.checkpoints / "step-000010").mkdir(parents=True)
    (folder.checkpoints / "step-000010" / "part").write_bytes(b"x" * 14_000)
    after = space_of(config(), folder, 1000, 99, 2)
    assert (before.needed, after.needed) == (3 * 14_000 + 2_000, 2 * 14_000 + 2_000)
    (folder.checkpoints / "step-000010" / "part").write_bytes(b"x" * 99_000)
    assert space_of(config(), folder, 1000, 99, 2).needed == 2_000


def test_it_is_said(tmp_path: Path) -> None:
    found = replace(space_of(config(), RunFolder(tmp_path), SEVEN, 99, 2), free=500 * GIB)
    assert found.sentence() == (
        "on disk: 3 checkpoints of 91.3 GiB at most at once, and a model of 13.0 GiB; 500.0 GiB are free"
    )
    none = replace(space_of(config(every=0), RunFolder(tmp_path), SEVEN, 99, 2), free=None)
    assert none.sentence() == "on disk: no checkpoint, and a model of 13.0 GiB"


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    one = Space(checkpoint=90 * GIB, num_checkpoints=3, model=10 * GIB, written=0, free=280 * GIB)
    check_space(one, folder)
    check_space(replace(one, free=None), folder)
    with pytest.raises(ConfigError) as error:
        check_space(replace(one, free=280 * GIB - 1), folder)
    assert str(error.value) == (
        f"--output {tmp_path}: 280.0 GiB are free on its disk, and the run writes 280.0 GiB (3 checkpoints of 90.0 "
        "GiB at most at once, and a model of 10.0 GiB). Take fewer checkpoints (--checkpoint.keep, --checkpoint.every "
        "0 for none) or name a folder on a larger one."
    )
    with pytest.raises(ConfigError, match=r"\. Make room, or name a folder on a larger one\.$"):
        check_space(replace(one, num_checkpoints=0, free=GIB), folder)


def test_a_file_system_that_does_not_say_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=0))
    assert space.space_of(config(), RunFolder(tmp_path), SEVEN, 99, 2).free is None
