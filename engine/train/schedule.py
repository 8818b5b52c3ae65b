"""The learning rate of each step: linear warm-up to the peak, then half a cosine down to zero."""

import math

from alttrain.engine.config import ScheduleConfig


def learning_rate(peak: float, schedule: ScheduleConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 1.

    Step k of the warm-up gets k / warmup_steps of the peak, so that no step is spent at rate zero (transformers'
    schedule starts there); the cosine reaches zero one step after the last.
    """
    assert 1 <= step <= num_steps, (step, num_steps)
    if step < schedule.warmup_steps:
        return peak * step / schedule.warmup_steps
    after_warmup = step - max(schedule.warmup_steps, 1)
    length = num_steps - max(schedule.warmup_steps, 1) + 1
    return peak * 0.5 * (1.0 + math.cos(math.pi * after_warmup / length))
