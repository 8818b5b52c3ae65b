"""Whole training steps of the engine as it stands: tokens a second, MFU, memory, and where a step's time goes.

    python benchmarks/bench_train_step.py --out benchmarks/results/h200

Ours alone, on one GPU; bench_rival_steps.py takes the same documents through the trainers of others. Each model is
built in a process of its own, from its shape and numbers drawn on the device; documents are of AltTrain's lengths,
three quarters of their tokens have weight. Seconds, tokens a second, MFU and peak memory are the engine's own
(`engine/run/metrics.py`), medians over the steps after the warm-up; forward, backward and optimizer are timed by events
in the same steps; then one more step runs under the profiler, and its kernels are counted and summed by what they do.
Columns `predicted_...` are the engine's own plan (`engine/train/time_model.py`, `memory_model.py`), for the same
documents. On CUDA the allocator has expandable segments, unless PYTORCH_CUDA_ALLOC_CONF says otherwise.
"""

import functools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alttrain.engine.config import BatchConfig, LossConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.data.batch import Collator
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.steps import DrawnStep
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.metrics import GIB, MetricsLog
from alttrain.engine.train.fitting import layout_of
from alttrain.engine.train.loop import train_step
from harness.documents import step_examples
from harness.kernel_times import KernelTimes
from harness.own_process import Send, rows_of
from harness.predictions import Work, predict
from harness.running import Plan, run_plans
from harness.shapes import HEADLINE_TOKENS, PUBLISHED_TOKENS, R1_DISTILL, TINY, Model, transformers_config

WARMUP_STEPS, TIMED_STEPS = 2, 6
# Until the first row of a model's process: its build and its compilations; and between two rows.
FIRST_SECONDS, MOST_SECONDS = 240.0, 90.0
# The headline first: claims are about the 7B at 8,192 tokens. One process holds 10 bytes a parameter, so that none of
# these recomputes anything; the last has weights without a master, as the trainers of others do (8 bytes).
CASES = (("R1-7B", "float32"), ("R1-8B", "float32"), ("R1-1.5B", "float32"), ("R1-7B", "bfloat16"))
# The largest last, so that if it does not fit the others have their rows.
STEP_TOKENS = (HEADLINE_TOKENS, PUBLISHED_TOKENS, 2 * HEADLINE_TOKENS)


class Setting(NamedTuple):
    """One engine to build, and the tokens of the steps to time."""

    name: str
    model: Model
    checkpointing: str
    kernels: str
    tokens: tuple[int, ...]
    master: str = "float32"


class DrawnWeights:
    """Weights drawn where they are used: a CPU takes 40 seconds for the 7B's."""

    def __init__(self, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(0)

    def read(self, name: str, shape: tuple[int, ...], start: int, stop: int) -> Tensor:
        """Return ones for norms, zeros for biases, normal numbers for matrices."""
        values = torch.empty(stop - start, device=self.generator.device)
        if name.endswith("norm.weight"):
            return values.fill_(1.0)
        return values.zero_() if name.endswith(".bias") else values.normal_(0.0, 0.02, generator=self.generator)


def make_backbone(model: Model, device: torch.device) -> Backbone:
    """Return a backbone in the shape of `model`, without a folder and without a tokenizer."""
    return Backbone(Path(), transformers_config(model), None, DrawnWeights(device))  # type: ignore[arg-type]


class Steps:
    """Steps of one engine, each over examples of its own."""

    def __init__(self, setting: Setting, config: RunConfig, world: World) -> None:
        self.setting, self.world = setting, world
        self.config, _ = settled(config, world.size)
        self.backbone = make_backbone(setting.model, world.device)
        self.engine = build_engine(self.config, self.backbone, world)
        self.collator = Collator(config.loss, world.device, backend=self.engine.kernels.paths.span_weights)
        self.marks: list[list[torch.cuda.Event]] = []  # of each step: begin, forward, backward and optimizer done
        if world.device.type == "cuda":
            self._mark_phases()

    def take(self, num_tokens: int, log: MetricsLog, step: int) -> None:
        """Draw, pack, collate, train and log one step, as the training loop does."""
        examples = step_examples(num_tokens, self.setting.model.vocabulary, step)
        lengths = [len(example.input_ids) for example in examples]
        packs = pack_step(lengths, self.config.batch.pack_tokens, 1, self.backbone.work)
        drawn = DrawnStep(packs, num_tokens, len(packs[0]), self.backbone.work.flops(lengths), 0.0)
        self.marks.append([])
        self._mark()
        batch = self.collator.collate([[examples[index] for index in pack] for pack in packs[0]])
        log.add(step, 1e-6, drawn, train_step(self.engine, batch, self.world, 1e-6))

    def measure(self, num_tokens: int) -> dict[str, Any]:
        """Return what steps of `num_tokens` take."""
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()  # what an earlier size left behind is not this one's
        steps = WARMUP_STEPS + TIMED_STEPS
        sizes = {"pack_tokens": self.config.batch.pack_tokens, "first_step": 0, "num_steps": steps}
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            with MetricsLog(run, self.world, dtype=self.config.model.dtype, **sizes) as log:
                log.bar.disable = True
                for step in range(1, steps + 1):
                    if step == WARMUP_STEPS + 1:
                        with log.paused():
                            self.marks.clear()
                            _reset_peak(self.world.device)
                    self.take(num_tokens, log, step)
            lines = [json.loads(line) for line in run.metrics.read_text().splitlines()][WARMUP_STEPS:]
            figures = _figures(lines) | self._phases() | _memory(self.world.device)
            with MetricsLog(run, self.world, dtype=self.config.model.dtype, **sizes) as log:
                log.bar.disable = True
                with KernelTimes(self.world.device) as kernels:
                    self.take(num_tokens, log, steps + 1)
        return figures | kernels.summary()

    def _mark_phases(self) -> None:
        for name in ("loss_sums", "backward", "step"):
            setattr(self.engine, name, self._marked(getattr(self.engine, name)))

    def _marked(self, method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            self._mark()
            return result

        return call

    def _mark(self) -> None:
        if self.world.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks[-1].append(event)

    def _phases(self) -> dict[str, float]:
        """Return the median milliseconds of forward (with the batch), backward and optimizer, for steps of one pack."""
        whole = [marks for marks in self.marks if len(marks) == 4]
        if not whole:
            return {}
        torch.cuda.synchronize()
        names = ("forward_ms", "backward_ms", "optimizer_ms")
        return {
            name: statistics.median(marks[place].elapsed_time(marks[place + 1]) for marks in whole)
            for place, name in enumerate(names)
        }


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _figures(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the engine's own lines."""
    milliseconds = sorted(1e3 * line["seconds"] for line in lines)
    figures = {name: statistics.median(line[name] for line in lines) for name in ("tokens_per_second", "loss")}
    mfu = [line["mfu"] for line in lines if line["mfu"] is not None]
    return figures | {
        "samples": len(lines),
        "median_ms": statistics.median(milliseconds),
        "low_ms": milliseconds[0],
        "high_ms": milliseconds[-1],
        "mfu": statistics.median(mfu) if mfu else None,
        "peak_memory_gib": max(line["peak_memory_gib"] for line in lines),
    }


def _memory(device: torch.device) -> dict[str, float]:
    """Return the allocator's own peaks, which the null device does not turn into zeros; on CPU nothing."""
    if device.type != "cuda":
        return {}
    return {
        "peak_memory_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_memory_gib": torch.cuda.max_memory_reserved() / GIB,
    }


def measure_setting(send: Send, setting: Setting) -> None:
    """Send a row for each number of tokens."""
    world = World.from_environment()
    config = RunConfig(
        model=ModelConfig(checkpointing=setting.checkpointing, kernels=setting.kernels),  # type: ignore[arg-type]
        loss=LossConfig(assessment=2.0),
        batch=BatchConfig(pack_tokens=max(setting.tokens)),
        optim=OptimConfig(master=setting.master),  # type: ignore[arg-type]
        zero=ZeroConfig(stage=1),
    )
    steps = Steps(setting, config, world)
    layout = layout_of(steps.config, 1, fuses_layers=steps.config.model.kernels != "torch")
    for num_tokens in setting.tokens:
        sizes = {
            "model": setting.name, "tokens": num_tokens, "checkpointing": setting.checkpointing,
            "master": setting.master, "kernels": steps.engine.kernels.reason, "layout": steps.engine.layout,
            "allocator": os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        }  # fmt: skip
        row = {"case": "train_step", "sizes": sizes, "implementation": "ours"} | steps.measure(num_tokens)
        work = Work.of_examples(step_examples(num_tokens, setting.model.vocabulary, 1))
        send(row | predict(setting.model, layout, work))


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return the models of this device, the most telling first."""
    if tiny or device == "cpu":
        settings = [Setting("tiny", TINY["tiny"], "off", "auto", (96, 48))]
    else:
        settings = [
            Setting(name, R1_DISTILL[name], "off", "triton", STEP_TOKENS[: 1 if master == "bfloat16" else 3], master)
            for name, master in CASES
        ]
    return [Plan(_label(setting), functools.partial(measured, setting)) for setting in settings]


def measured(setting: Setting) -> Any:
    """Return an iterator over the rows of a setting, measured in a process of its own."""
    limits = {"most_seconds": MOST_SECONDS, "first_seconds": FIRST_SECONDS}
    return rows_of(measure_setting, setting, name=_label(setting), **limits)


def _label(setting: Setting) -> str:
    master = "" if setting.master == "float32" else f", master {setting.master}"
    return f"{setting.name} {setting.checkpointing}{master}"


if __name__ == "__main__":
    sys.exit(run_plans("train_step", __doc__, plans, seconds=0.0))
