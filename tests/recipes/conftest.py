"""A recipe that is expected to refuse: what the command line runs, inside this process, and what it may not leave."""

import os
import re
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "alttrain_7b.py"
Refusal = Callable[..., str]


class Exited(BaseException):
    """Stands for the end of the process, with its exit code."""


class Started(BaseException):
    """The run got to where it builds its engine: nothing was refused."""


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refusal:
    """Return a function that runs the recipe with flags, and gives the sentence with which it is refused.

    The run exits with 2, has said that one sentence and nothing else, and has written nothing under `tmp_path`.
    """

    def run(flags: Mapping[str, object], *switches: str, world_size: int = 1) -> str:
        _pretend(monkeypatch, world_size)
        before = _contents(tmp_path)
        capfd.readouterr()
        with pytest.raises(Exited) as left:
            _run_recipe(monkeypatch, flags, switches)
        assert left.value.args == (2,)
        assert _contents(tmp_path) == before
        output, errors = capfd.readouterr()
        assert output == ""
        return the_sentence(errors)

    return run


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs the recipe on `world_size` ranks until its run folder is made, and then ends it."""

    def run(flags: Mapping[str, object], *switches: str, world_size: int) -> None:
        from alttrain.engine.distributed import world
        from alttrain.engine.train import loop

        _pretend(monkeypatch, world_size)
        monkeypatch.setattr(world.World, "barrier", lambda _: None)
        engine = SimpleNamespace(kernels=SimpleNamespace(reason="none", backend="torch"), layout="on no engine")
        monkeypatch.setattr(loop, "build_engine", lambda *_: engine)
        monkeypatch.setattr(loop, "MetricsLog", lambda *_, **__: _raise(Started()))
        with pytest.raises(Started):
            _run_recipe(monkeypatch, flags, switches)

    return run


def _pretend(monkeypatch: pytest.MonkeyPatch, world_size: int) -> None:
    """Make this process the first of `world_size` ranks that all find the same."""
    import torch

    from alttrain.engine.distributed import world
    from alttrain.engine.train import loop

    ranks = world.World(rank=0, local_rank=0, size=world_size, device=torch.device("cpu"))
    monkeypatch.setattr(world.World, "from_environment", lambda: ranks)
    monkeypatch.setattr(world.World, "gather", lambda _, value: [value] * world_size)
    monkeypatch.setattr(loop, "build_engine", lambda *_: _raise(Started()))
    monkeypatch.setattr(os, "_exit", lambda code: _raise(Exited(code)))


def _run_recipe(monkeypatch: pytest.MonkeyPatch, flags: Mapping[str, object], switches: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "argv", [str(RECIPE), *command_line(flags), *switches])
    runpy.run_path(str(RECIPE), run_name="__main__")


def command_line(flags: Mapping[str, object]) -> list[str]:
    """Return {"data__train": (a, b)} as --data.train a b."""
    words = []
    for name, value in flags.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('__', '.').replace('_', '-')}", *map(str, values)]
    return words


def the_sentence(errors: str) -> str:
    """Return what was said, which is one or two sentences on one line, of a length that a person reads."""
    assert errors.endswith(".\n"), errors
    sentence = errors.removesuffix("\n")
    assert "\n" not in sentence
    assert len(re.findall(r"[.!?](?= [A-Z]|$)", sentence)) <= 2, sentence
    assert len(sentence) < 500
    return sentence


def _raise(error: BaseException) -> None:
    raise error


def _contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return what each file holds and when it was written, and which folders there are."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else (0, b"")
        for path in sorted(folder.rglob("*"))
    }
