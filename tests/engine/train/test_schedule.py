"""The learning rate: warm-up reaches the peak at its last step, the cosine never rises and ends near zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.config import ScheduleConfig
from alttrain.engine.train.schedule import learning_rate


def test_published_schedule() -> None:
    schedule = ScheduleConfig(warmup_steps=5)
    rates = [learning_rate(1e-5, schedule, step, 100) for step in range(1, 101)]
    assert rates[:5] == pytest.approx([2e-6, 4e-6, 6e-6, 8e-6, 1e-5])
    assert rates[5] < 1e-5
    assert 0 < rates[-1] < 1e-8


@given(st.integers(1, 300), st.integers(0, 350))
def test_rises_then_falls(num_steps: int, warmup_steps: int) -> None:
    schedule = ScheduleConfig(warmup_steps=warmup_steps)
    rates = [learning_rate(1.0, schedule, step, num_steps) for step in range(1, num_steps + 1)]
    assert all(0 < rate <= 1 for rate in rates)
    top = min(max(warmup_steps, 1), num_steps) - 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
