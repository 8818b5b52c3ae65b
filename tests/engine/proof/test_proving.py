"""The verdicts on every kernel: what is kept is not tried again, and what is tried is said in one line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from alttrain.engine.proof.kernels import TRIALS
from alttrain.engine.proof.proving import Proof, prove
from alttrain.engine.proof.shapes import SMALL_SHAPES, KernelShapes
from alttrain.engine.proof.trial import Verdict
from alttrain.engine.proof.trying import Say

CPU = torch.device("cpu")


class Attempts:
    """Stands for the trials: passes every kernel but those it is given verdicts of, and counts."""

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts, self.calls = verdicts, list[list[str]]()

    def __call__(self, names: Sequence[str], shapes: KernelShapes, device: str, say: Say) -> dict[str, Verdict]:
        assert (shapes, device) == (SMALL_SHAPES, "cpu")
        self.calls.append(list(names))
        for name in names:
            say(name)
        return {name: self.verdicts.get(name, Verdict("passed", "", 0.1)) for name in names}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_they_are_tried_once_and_progress_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    attempt = Attempts(rope=Verdict("wrong", "off", 0.2))
    first = prove(CPU, SMALL_SHAPES, attempt=attempt)
    assert list(first.verdicts) == list(TRIALS)
    assert first.verdicts["rope"].reason == "off"
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"trying {len(TRIALS)} kernels once on cpu: {' '.join(TRIALS)} (")
    assert errors.endswith(" s)\n")
    assert errors.count("\n") == 1
    assert prove(CPU, SMALL_SHAPES, attempt=attempt) == first
    assert capsys.readouterr() == ("", "")
    assert attempt.calls == [list(TRIALS)]


def test_only_what_raised_is_tried_again() -> None:
    prove(CPU, SMALL_SHAPES, attempt=Attempts(rope=Verdict("raised", "no memory"), adamw=Verdict("wrong", "off")))
    again = Attempts()
    verdicts = prove(CPU, SMALL_SHAPES, attempt=again).verdicts
    assert again.calls == [["rope"]]
    assert verdicts["rope"].passed
    assert not verdicts["adamw"].passed
    assert prove(CPU, SMALL_SHAPES, attempt=Attempts()).verdicts == verdicts, "all of them are kept, old and new"


def test_all_are_tried_anew_where_that_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    prove(CPU, SMALL_SHAPES, attempt=Attempts())
    capsys.readouterr()
    attempt = Attempts()
    prove(CPU, SMALL_SHAPES, anew=True, progress=False, attempt=attempt)
    assert attempt.calls == [list(TRIALS)]
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_said_and_nothing_more(cache: Path) -> None:
    cache.write_text("a file")
    attempt = Attempts()
    proof = prove(CPU, SMALL_SHAPES, attempt=attempt)
    assert all(verdict.passed for verdict in proof.verdicts.values())
    assert "are not kept" in proof.note
    prove(CPU, SMALL_SHAPES, attempt=attempt)
    assert len(attempt.calls) == 2
    assert Proof({}).note == ""
