"""The rates of this machine: work over the median time, of random inputs."""

import pytest
import torch

from alttrain.engine.doctor import ceilings


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "SECONDS", 0.0)
    monkeypatch.setattr(ceilings, "SIZES", {"cpu": (64, 1 << 20), "cuda": (64, 1 << 20)})


def test_both_rates_are_measured_here() -> None:
    (product, reached), (copy, copied) = ceilings.ceiling_rows("cpu")
    assert (product, copy) == ("float32 product, 64 cubed", "copy of 1 MiB")
    assert reached.endswith(" GFLOP/s")
    assert copied.endswith(" GB/s")
    assert all(float(told.split()[0].replace(",", "")) > 0 for told in (reached, copied))


def test_a_rate_is_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_seconds", lambda run, kind: 1e-3)
    rows = ceilings.ceiling_rows("cpu")
    assert [told for _, told in rows] == ["0.52 GFLOP/s", "2.1 GB/s"], "2 * 64^3 / 1 ms, and 2 MiB read and written"


def test_inputs_are_not_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []
    multiply = torch.mm

    def spy(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        given.extend((left, right))
        return multiply(left, right, out=out)

    monkeypatch.setattr(torch, "mm", spy)
    ceilings.ceiling_rows("cpu")
    assert all(bool((tensor != 0).float().mean() > 0.99) for tensor in given)


def test_what_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    monkeypatch.setattr(torch, "mm", no_memory)
    rows = ceilings.ceiling_rows("cpu")
    assert rows[0][1] == "not measured: CUDA out of memory."
    assert rows[1][1].endswith("GB/s")
    monkeypatch.setattr(ceilings, "_seconds", lambda run, kind: 0.0)
    assert ceilings.ceiling_rows("cpu")[1][1] == "not measured: it took no time at all"
