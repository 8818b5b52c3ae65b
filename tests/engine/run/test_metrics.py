"""The lines of metrics.jsonl: when they are written, what is in them, and whose time they count."""

import json
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alttrain.engine.data.steps import DrawnStep
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import DivergenceError
from alttrain.engine.files import read_lines
from alttrain.engine.run import metrics
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.metrics import MetricsLog, StepStats, nll_by_role
from alttrain.engine.trace.roles import ROLES

CPU = torch.device("cpu")
FIRST = World(rank=0, local_rank=0, size=1, device=CPU)
DRAWN = DrawnStep(packs=[], num_tokens=150, num_packs=2, flops=6e9, epoch=1 / 3)
FIELDS = [
    "step", "epoch", "loss", "nll", "weight_sum", "num_tokens", "pack_fill", "grad_norm", "lr", "seconds",
    "tokens_per_second", "mfu", "peak_memory_gib",
]  # fmt: skip


class Clock:
    """Stands where the module looks for the time, and goes only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(metrics, "time", made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def log_of(folder: RunFolder, world: World = FIRST, dtype: str = "bfloat16") -> MetricsLog:
    return MetricsLog(folder, world, dtype=dtype, pack_tokens=100, first_step=0, num_steps=3)


def stats(loss: float = 2.5, grad_norm: float = 0.25) -> StepStats:
    nll_sums, token_counts = torch.zeros(len(ROLES)).double(), torch.zeros(len(ROLES)).double()
    for role, total, count in (("assessment", 6.0, 4.0), ("answer", 10.0, 40.0)):
        nll_sums[ROLES.index(role)], token_counts[ROLES.index(role)] = total, count
    return StepStats(
        torch.tensor(loss).double(),
        nll_sums,
        token_counts,
        torch.tensor(48.0).double(),
        torch.tensor(grad_norm).double(),
    )


def steps_written(folder: RunFolder) -> list[int]:
    return [line["step"] for line in read_lines(folder.metrics)]


def test_a_line_is_written_when_the_next_step_is_queued_and_the_last_at_the_end(folder: RunFolder) -> None:
    with log_of(folder) as log:
        for step, written in ((1, []), (2, [1]), (3, [1, 2])):
            log.add(step, 1e-5, DRAWN, stats())
            assert steps_written(folder) == written
    assert steps_written(folder) == [1, 2, 3]


def test_the_fields_of_a_line(folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_peak_memory_bytes", lambda device: 3 * 2**29)
    with log_of(folder) as log:
        clock.now += 0.5
        log.add(7, 3e-5, DRAWN, stats())
    (text,) = folder.metrics.read_text().splitlines()
    line = json.loads(text)
    assert list(line) == FIELDS
    assert line == {
        "step": 7, "epoch": 0.333333, "loss": 2.5, "nll": {"assessment": 1.5, "answer": 0.25}, "weight_sum": 48.0,
        "num_tokens": 150, "pack_fill": 0.75, "grad_norm": 0.25, "lr": 3e-5, "seconds": 0.5, "tokens_per_second": 300.0,
        "mfu": None, "peak_memory_gib": 1.5,
    }  # fmt: skip


def test_mfu_is_of_the_whole_worlds_peak_in_bfloat16_only(
    folder: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_peak_flops", lambda device: 1e9)
    monkeypatch.setattr(World, "max", lambda world, tensor: tensor)
    world = World(rank=0, local_rank=0, size=4, device=CPU)
    for dtype in ("bfloat16", "float32"):
        with log_of(folder, world, dtype) as log:
            clock.now += 2.0
            log.add(1, 1e-5, DRAWN, stats())
    assert [line["mfu"] for line in read_lines(folder.metrics)] == [6e9 / 2.0 / 4e9, None]


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("A card of tomorrow", None),
    ],
)
def test_the_peak_is_that_of_the_very_card(monkeypatch: pytest.MonkeyPatch, name: str, teraflops: int | None) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    wanted = None if teraflops is None else teraflops * 1e12
    assert metrics._peak_flops(torch.device("cuda", 0)) == wanted
    assert metrics._peak_flops(CPU) is None


def test_a_pause_is_no_steps_time(folder: RunFolder, clock: Clock) -> None:
    with log_of(folder) as log:
        clock.now += 2.0
        log.add(1, 1e-5, DRAWN, stats())
        clock.now += 1.0  # the step was queued, and goes on
        with log.paused():
            assert steps_written(folder) == [1], "no line waits while an evaluation runs"
            clock.now += 50.0
        clock.now += 4.0
        log.add(2, 1e-5, DRAWN, stats())
        clock.now += 0.5
    assert [line["seconds"] for line in read_lines(folder.metrics)] == [3.0, 4.5]


@pytest.mark.parametrize(("loss", "grad_norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))])
@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_not_finite_ends_the_run_on_every_rank_and_is_not_written(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, rank: int, loss: float, grad_norm: float
) -> None:
    monkeypatch.setattr(World, "max", lambda world, tensor: tensor)
    world = World(rank=rank, local_rank=rank, size=2, device=CPU)
    log = log_of(folder, world)
    log.add(1, 1e-5, DRAWN, stats())
    log.add(2, 1e-5, DRAWN, stats(loss, grad_norm))
    with pytest.raises(
        DivergenceError, match=rf"step 2: loss is {loss}, grad_norm is {grad_norm}; both must be finite"
    ):
        log.add(3, 1e-5, DRAWN, stats())
    assert steps_written(folder) == ([1] if rank == 0 else [])


def test_the_last_step_is_looked_at_too(folder: RunFolder) -> None:
    with pytest.raises(DivergenceError, match="step 1"), log_of(folder) as log:
        log.add(1, 1e-5, DRAWN, stats(loss=float("nan")))


def test_after_an_error_nothing_waits_for_the_device(folder: RunFolder) -> None:
    """The step that was queued may never end."""
    log = log_of(folder)
    log.add(1, 1e-5, DRAWN, stats())
    log.pending.copy.wait = lambda: pytest.fail("waited")  # type: ignore[union-attr, method-assign]
    with pytest.raises(KeyError), log:
        raise KeyError
    assert steps_written(folder) == []


def test_only_the_first_rank_writes_and_shows_its_progress(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(World, "max", lambda world, tensor: tensor)
    with log_of(folder, World(rank=1, local_rank=1, size=2, device=CPU)) as log:
        log.add(1, 1e-5, DRAWN, stats())
    assert not folder.metrics.exists()
    assert capfd.readouterr() == ("", "")


def test_a_role_without_tokens_has_no_mean() -> None:
    sums, counts = [0.0] * len(ROLES), [0.0] * len(ROLES)
    sums[3], counts[3] = 3.0, 4.0
    counts[5] = 2.0  # tokens that are predicted without any doubt
    assert nll_by_role(sums, counts) == {ROLES[3]: 0.75, ROLES[5]: 0.0}
    with pytest.raises(ValueError, match="argument"):
        nll_by_role(sums[1:], counts)


def test_the_peak_is_of_this_process_where_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = SimpleNamespace(ru_maxrss=5)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", "linux")
    assert metrics._peak_memory_bytes(CPU) == 5 * 1024  # Linux counts in KiB
