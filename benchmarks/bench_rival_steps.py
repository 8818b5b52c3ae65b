"""Whole training steps of transformers' Trainer and TRL's SFTTrainer, over the documents of bench_train_step.py.

    python benchmarks/bench_rival_steps.py --out benchmarks/results/h200

Each trainer in each setting has a process of its own, in which its own train() runs, from the first step to the last:
one pack without padding a step, its own collator and loader, its own loss, clipping, optimizer and log. A step's time
is from its begin to the next one's; peak memory is the allocator's; MFU is by the engine's formula (the documents'
FLOPs, without recomputation, over the peak); the step after the timed ones runs under the profiler, as ours does. What
a trainer keeps, its attention and its loss stand in its row: none has our arithmetic or our weights for spans. Columns
`predicted_...` are of `harness/predictions.py`. What is not installed, or does not fit, is named under `absent`.
"""

import contextlib
import functools
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from alttrain.engine.run.metrics import GIB, PEAK_FLOPS
from harness.documents import plain_row, step_examples
from harness.kernel_times import KernelTimes
from harness.own_process import Send, rows_of
from harness.predictions import Work, predict, rival_layout, shape_of
from harness.record import is_null_device
from harness.rival_trainers import KEEPS, Rival, attention_of, build_model, build_trainer, labelled
from harness.rivals import Absent
from harness.running import Plan, run_plans
from harness.shapes import HEADLINE_TOKENS, PUBLISHED_TOKENS, R1_DISTILL, TINY, Model

WARMUP_STEPS, TIMED_STEPS = 2, 5
FIRST_SECONDS, MOST_SECONDS = 180.0, 90.0
# The smallest first: a size that does not fit ends the process, and takes nothing with it.
STEP_TOKENS = (PUBLISHED_TOKENS, HEADLINE_TOKENS, 2 * HEADLINE_TOKENS)
TRL = Rival("trl", has_liger=True, checkpointing=False)
TRAINER = Rival("transformers", has_liger=True, checkpointing=False)
# The most telling first: at their fastest, then as their defaults are, then without Liger, then without FlashAttention.
CASES = (
    ("R1-7B", TRL),
    ("R1-7B", TRAINER),
    ("R1-8B", TRL),
    ("R1-7B", TRL._replace(checkpointing=True)),
    ("R1-1.5B", TRL),
    ("R1-8B", TRAINER),
    ("R1-7B", TRAINER._replace(has_liger=False)),
    ("R1-1.5B", TRAINER),
    ("R1-7B", TRL._replace(checkpointing=True, is_dense=True)),
    ("R1-8B", TRL._replace(checkpointing=True)),
    ("R1-7B", TRAINER._replace(checkpointing=True)),
    ("R1-1.5B", TRL._replace(checkpointing=True)),
)


class Setting(NamedTuple):
    """One trainer over one model, and the tokens of the steps to time."""

    name: str
    model: Model
    rival: Rival
    tokens: tuple[int, ...]

    @property
    def label(self) -> str:
        """What an error calls it."""
        return f"{self.name} {self.rival.label}"


class Clock:
    """Times the steps of a trainer by its callbacks, and sends a row when those of one size have been taken."""

    def __init__(self, setting: Setting, attention: str, send: Send) -> None:
        self.setting, self.attention, self.send = setting, attention, send
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.begun: list[float] = []  # seconds, at the begin of each timed step of this size, and of the one after
        self.kernels: KernelTimes | None = None
        self.loss: torch.Tensor | None = None
        self.done = 0  # sizes
        self.step = 0

    def begin(self, step: int) -> None:
        """Note that step `step`, from 0, begins."""
        self.step = step
        place = step % STEPS_OF_A_SIZE
        if place == 0 and self.device.type == "cuda":
            torch.cuda.empty_cache()  # what an earlier size left behind is not this one's
        if place == WARMUP_STEPS:
            _wait()
            self.begun = []
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
        if place == STEPS_OF_A_SIZE - 1:
            _wait()
        if place >= WARMUP_STEPS:
            self.begun.append(time.perf_counter())
        if place == STEPS_OF_A_SIZE - 1:
            self.peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0
            self.kernels = KernelTimes(self.device)
            self.kernels.__enter__()

    def end(self, step: int) -> None:
        """Note that step `step` has ended."""
        if step % STEPS_OF_A_SIZE == STEPS_OF_A_SIZE - 1:
            assert self.kernels is not None
            self.kernels.__exit__(None, None, None)
            self.send(self.row())
            self.done += 1

    def give_up(self, reason: str) -> None:
        """Send the reason for every size whose steps have not been taken."""
        while self.done < len(self.setting.tokens):
            self.send(self.head() | {"reason": reason})
            self.done += 1

    def row(self) -> dict[str, Any]:
        """Return the figures of the size whose steps have been taken."""
        assert self.kernels is not None
        setting = self.setting
        milliseconds = sorted(1e3 * (end - begin) for begin, end in zip(self.begun, self.begun[1:], strict=False))
        tokens, median = setting.tokens[self.done], statistics.median(milliseconds)
        work = Work.of_examples(step_examples(tokens, setting.model.vocabulary, 1))
        flops = shape_of(setting.model).work.flops(work.lengths)
        peak_flops = _peak_flops()
        figures = {
            "samples": len(milliseconds),
            "median_ms": median,
            "low_ms": milliseconds[0],
            "high_ms": milliseconds[-1],
            "tokens_per_second": 1e3 * tokens / median,
            "mfu": 1e3 * flops / median / peak_flops if peak_flops else None,
            "loss": None if self.loss is None else self.loss.item(),
            "peak_memory_gib": self.peak / GIB or None,
            "reserved_memory_gib": torch.cuda.max_memory_reserved() / GIB if self.device.type == "cuda" else None,
            "note": "plain loss, no weights for spans",
        }
        layout = rival_layout(checkpointing=setting.rival.checkpointing, fuses_layers=setting.rival.has_liger)
        predicted = predict(setting.model, layout, work, loss=setting.rival.loss, is_dense=setting.rival.is_dense)
        return self.head() | figures | self.kernels.summary() | predicted

    def head(self) -> dict[str, Any]:
        """Return what tells the row of this size from others."""
        sizes = {
            "model": self.setting.name,
            "tokens": self.setting.tokens[self.done],
            "checkpointing": "full" if self.setting.rival.checkpointing else "off",
            "keeps": KEEPS,
            "attention": self.attention,
            "allocator": os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        }
        return {"case": "train_step", "sizes": sizes, "implementation": self.setting.rival.name}


STEPS_OF_A_SIZE = WARMUP_STEPS + TIMED_STEPS + 1


def callback_of(clock: Clock) -> Any:
    """Return transformers' callback that tells the clock when steps begin and end."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.begin(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.end(state.global_step - 1)

    return Steps()


def measure_setting(send: Send, setting: Setting) -> None:
    """Send a row for each number of tokens, or the reason why there is none."""
    clock = Clock(setting, "", send)
    reason = ""
    try:
        attention, clock.attention = attention_of(setting.rival)
        _train(setting, attention, clock)
    except Absent as error:
        reason = str(error)
    except torch.OutOfMemoryError as error:
        reason = f"does not fit: {str(error).strip()[:300]}"
    clock.give_up(reason)


def _train(setting: Setting, attention: str, clock: Clock) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = [
        plain_row(step_examples(tokens, setting.model.vocabulary, step))
        for tokens in setting.tokens
        for step in range(1, STEPS_OF_A_SIZE + 1)
    ]
    with tempfile.TemporaryDirectory() as folder, _values(lambda: labelled(rows[clock.step])):
        model = build_model(setting.model, attention, device)
        trainer = build_trainer(setting.rival, model, rows, Path(folder), callback_of(clock))
        step = trainer.training_step

        def training_step(*args: Any, **options: Any) -> Any:
            clock.loss = step(*args, **options)
            return clock.loss

        trainer.training_step = training_step
        gc.collect()
        trainer.train()


def _values(labelled_tokens: Callable[[], int]) -> contextlib.AbstractContextManager[None]:
    """Return a context that gives the null device, which has no values, those that steer TRL's loss."""
    if not is_null_device():
        return contextlib.nullcontext()
    from null_device.values import masks_select

    return masks_select(labelled_tokens)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_flops() -> float | None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return the trainers of this device, the most telling first."""
    if tiny or device == "cpu":
        here = Rival("transformers", has_liger=False, checkpointing=True, is_dense=True)
        chosen = (here, here._replace(trainer="trl"), TRL, TRAINER)
        settings = [Setting("tiny", TINY["tiny"], rival, (48, 96)) for rival in chosen]
    else:
        settings = [Setting(name, R1_DISTILL[name], rival, STEP_TOKENS) for name, rival in CASES]
    return [Plan(setting.label, functools.partial(measured, setting), setting.rival.name) for setting in settings]


def measured(setting: Setting) -> Iterable[dict[str, Any]]:
    """Return the rows of a setting, measured in a process of its own, or at once the reason why there are none."""
    reason = setting.rival.missing()
    if reason:
        rows: list[dict[str, Any]] = []
        Clock(setting, "", rows.append).give_up(reason)
        return rows
    limits = {"most_seconds": MOST_SECONDS, "first_seconds": FIRST_SECONDS}
    return rows_of(measure_setting, setting, name=setting.label, **limits)


if __name__ == "__main__":
    sys.exit(run_plans("rival_steps", __doc__, plans, seconds=0.0))
