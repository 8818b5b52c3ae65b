"""What is said while many prompts are answered: how many, how fast, how long it will go on."""

import pytest

from alttrain.engine.evaluate import progress
from alttrain.engine.evaluate.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose last number is the time."""
    times = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_what_is_said(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    said = Progress(6, num_kept=3)
    assert capsys.readouterr().err == "3 prompts are answered already and kept\n"
    clock.append(5.0)
    said.tick(10)
    assert capsys.readouterr().err == "", "not at every step"
    clock.append(20.0)
    said.tick(10)
    assert capsys.readouterr().err == "0 of 6 prompts answered, 1 tokens a second\n"
    said.answered(2)
    assert capsys.readouterr().err == "2 of 6 prompts answered, 1 tokens a second, about 40 s left\n"
    clock.append(6000.0)
    said.answered(1)
    assert "about 1.7 h left" in capsys.readouterr().err
    clock.append(36000.0)
    said.tick(1)
    assert "about 10.0 h left" in capsys.readouterr().err
