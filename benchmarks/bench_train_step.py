"""Whole training steps of the engine as it stands: tokens a second, MFU, memory, and where a step's time goes.

    python benchmarks/bench_train_step.py --out benchmarks/results/h200

Ours alone so far, on one GPU. Each model is built in a process of its own, from its shape and numbers drawn on the
device; documents are of AltTrain's lengths, three quarters of their tokens have weight. Seconds, tokens a second, MFU
and peak memory are the engine's own (`engine/run/metrics.py`), medians over the steps after the warm-up; forward,
backward and optimizer are timed by events in the same steps; then one more step runs under the profiler, and its
kernels are counted and summed by what they do. On CUDA the allocator has expandable segments, unless
PYTORCH_CUDA_ALLOC_CONF says otherwise.
"""

import functools
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alttrain.engine.config import BatchConfig, LossConfig, ModelConfig, RunConfig, ZeroConfig
from alttrain.engine.data.batch import Collator
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.steps import DrawnStep
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.metrics import GIB, MetricsLog
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.engine.train.loop import train_step
from harness.kernel_times import KernelTimes
from harness.running import Plan, run_plans
from harness.shapes import HEADLINE_TOKENS, R1_DISTILL, TINY, Model

WARMUP_STEPS, TIMED_STEPS = 2, 6
# Tokens of 8 examples of AltTrain: the published batch.
PUBLISHED_TOKENS = 1340
# Of one model's process, its build and its compilations included.
MOST_SECONDS = 240.0
CASES = (("R1-1.5B", "off"), ("R1-7B", "full"))
PROMPT, ASSESSMENT, REASONING = (ROLES.index(role) for role in ("prompt", "assessment", "reasoning"))


class Setting(NamedTuple):
    """One engine to build, and the tokens of the steps to time."""

    name: str
    model: Model
    checkpointing: str
    kernels: str
    tokens: tuple[int, ...]


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
    """Return a backbone of the Qwen2 family in the shape of `model`, without a folder and without a tokenizer."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        max_position_embeddings=131_072,
        tie_word_embeddings=False,
    )
    return Backbone(Path(), config, None, DrawnWeights(device))  # type: ignore[arg-type]


def draw_examples(num_tokens: int, vocabulary: int, draw: random.Random) -> list[Example]:
    """Return documents of AltTrain's lengths, about 167, that are `num_tokens` together."""
    lengths: list[int] = []
    while (left := num_tokens - sum(lengths)) > 0:
        lengths.append(min(left, max(20, int(draw.lognormvariate(5.06, 0.35)))))
    examples = []
    for length in lengths:
        spans = [PROMPT] * (length // 4) + [ASSESSMENT] * (length // 4)
        spans += [REASONING] * (length - len(spans))
        examples.append(Example("", [draw.randrange(vocabulary) for _ in range(length)], spans, ""))
    return examples


class Steps:
    """Steps of one engine, each over examples of its own."""

    def __init__(self, setting: Setting, config: RunConfig, world: World) -> None:
        self.setting, self.world = setting, world
        self.config, _ = settled(config, world.size)
        self.backbone = make_backbone(setting.model, world.device)
        self.engine = build_engine(self.config, self.backbone, world)
        self.collator = Collator(config.loss, world.device, backend=self.engine.kernels.backend)
        self.draw = random.Random(0)
        self.marks: list[list[torch.cuda.Event]] = []  # of each step: begin, forward, backward and optimizer done
        if world.device.type == "cuda":
            self._mark_phases()

    def take(self, num_tokens: int, log: MetricsLog, step: int) -> None:
        """Draw, pack, collate, train and log one step, as the training loop does."""
        examples = draw_examples(num_tokens, self.setting.model.vocabulary, self.draw)
        lengths = [len(example.input_ids) for example in examples]
        packs = pack_step(lengths, self.config.batch.pack_tokens, 1, self.backbone.work)
        drawn = DrawnStep(packs, num_tokens, len(packs[0]), self.backbone.work.flops(lengths), 0.0)
        self.marks.append([])
        self._mark()
        batch = self.collator.collate([[examples[index] for index in pack] for pack in packs[0]])
        log.add(step, 1e-6, drawn, train_step(self.engine, batch, self.world, 1e-6))

    def measure(self, num_tokens: int) -> dict[str, Any]:
        """Return what steps of `num_tokens` take."""
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
            figures = _figures(lines) | self._phases()
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
        "reserved_memory_gib": torch.cuda.max_memory_reserved() / GIB if torch.cuda.is_available() else None,
    }


def measure_setting(setting: Setting) -> list[dict[str, Any]]:
    """Return a row for each number of tokens, measured in a process of its own, which takes its memory with it.

    Raises:
        RuntimeError: the process failed, was killed, or took longer than MOST_SECONDS.
    """
    if torch.cuda.is_available():
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure_here, args=(sender, setting))
    child.start()
    sender.close()
    rows: list[dict[str, Any]] = []
    try:
        while len(rows) < len(setting.tokens):
            if not receiver.poll(MOST_SECONDS):
                raise RuntimeError(f"{setting.name}: no figure within {MOST_SECONDS:.0f} s.")
            rows.append(receiver.recv())
    except EOFError:
        if not rows:
            raise RuntimeError(f"{setting.name}: its process ended early; its error stands above.") from None
    finally:
        child.kill()
        child.join()
    return rows


def _measure_here(sender: Any, setting: Setting) -> None:
    world = World.from_environment()
    config = RunConfig(
        model=ModelConfig(checkpointing=setting.checkpointing, kernels=setting.kernels),  # type: ignore[arg-type]
        loss=LossConfig(assessment=2.0),
        batch=BatchConfig(pack_tokens=max(setting.tokens)),
        zero=ZeroConfig(stage=1),
    )
    steps = Steps(setting, config, world)
    for num_tokens in setting.tokens:
        sizes = {
            "model": setting.name, "tokens": num_tokens, "checkpointing": setting.checkpointing, "zero_stage": 1,
            "kernels": steps.engine.kernels.reason, "allocator": os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        }  # fmt: skip
        row = {"case": "train_step", "sizes": sizes, "implementation": "ours"} | steps.measure(num_tokens)
        print(json.dumps(row), flush=True)
        sender.send(row)
    os._exit(0)  # as the command line does


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return the models of this device, the smallest first."""
    if tiny or device == "cpu":
        settings = [Setting("tiny", TINY["tiny"], "off", "auto", (96, 48))]
    else:
        tokens = (HEADLINE_TOKENS, PUBLISHED_TOKENS)
        settings = [Setting(name, R1_DISTILL[name], how, "triton", tokens) for name, how in CASES]
    return [
        Plan(f"{setting.name} {setting.checkpointing}", functools.partial(measure_setting, setting))
        for setting in settings
    ]


if __name__ == "__main__":
    sys.exit(run_plans("train_step", __doc__, plans, seconds=0.0))
