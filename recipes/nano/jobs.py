"""What runs in a process of its own: a training run, and the questions that its model is asked afterwards.

A process holds one DeepSpeed engine, so every run gets a fresh one.
"""

import dataclasses
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from alttrain.engine.evaluate.sampling import Speaker
from alttrain.engine.files import append_line, read_lines, write_whole
from alttrain.nano.arms import alignment_rows, num_words
from alttrain.nano.config import Arm, StudyConfig, Training, run_config
from alttrain.nano.documents import pretraining_rows
from alttrain.nano.evaluation import Item, evaluation_items, judge
from alttrain.nano.folder import write_model_folder
from alttrain.nano.interventions import intervene
from alttrain.nano.rules import RULES
from alttrain.nano.world import World

# Tokens of a row that are no words of it: user, assistant, the two tags of the reasoning, the end.
NUM_MARKS = 5
ANSWERED = "answers.partial"
"""A line an answer, while a run's model is asked."""
SHIPPED = Path(__file__).with_name("base.safetensors")
SHIPPED_SEED = 0


@dataclass(frozen=True)
class BaseJob:
    """Pre-train the base of a world, or take its weights from the file that is shipped."""

    config: StudyConfig
    world: World
    is_shipped: bool
    threads: int

    @property
    def folder(self) -> Path:
        """The run folder; the model folder that the run starts from stands beside it."""
        return Path(self.config.output) / "runs" / str(self.world.seed) / "base"

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""
        return 0 if self.is_shipped else self.config.base.schedule.steps

    @property
    def num_answers(self) -> int:
        """Answers given."""
        return 0


@dataclass(frozen=True)
class ArmJob:
    """Align the base with one arm; or, for `base`, leave it as it is; then ask it everything."""

    config: StudyConfig
    world: World
    arm: Arm | Literal["base"]
    weight: float

    @property
    def folder(self) -> Path:
        """The run folder."""
        name = "base-asked" if self.arm == "base" else f"{self.arm}-w{self.weight:g}"
        return Path(self.config.output) / "runs" / str(self.world.seed) / name

    @property
    def items(self) -> list[Item]:
        """What the model is asked."""
        return evaluation_items(self.world, self.config.evaluation, self.config.examples)

    @property
    def training(self) -> Training:
        """The alignment's, longer for the arm that gets as many tokens as AltTrain."""
        training = self.config.alignment
        if self.arm != "no-assessment-tokens":
            return training
        mine, full = (self._num_tokens(arm) for arm in ("no-assessment", "full"))
        steps = round(self._num_steps(training) * full / mine)
        return dataclasses.replace(training, schedule=dataclasses.replace(training.schedule, epochs=0, steps=steps))

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""
        return 0 if self.arm == "base" else self._num_steps(self.training)

    def _num_steps(self, training: Training) -> int:
        rows = len(alignment_rows(self.world, self.config.examples, "no-assessment"))
        return training.schedule.steps or training.schedule.epochs * -(-rows // training.batch.examples)

    def _num_tokens(self, arm: Arm) -> int:
        rows = alignment_rows(self.world, self.config.examples, arm)
        return num_words(rows) + NUM_MARKS * len(rows)

    @property
    def num_answers(self) -> int:
        """Answers given, the written-into ones too."""
        return len(self.items) + 4 * self.config.evaluation.interventions


Job = BaseJob | ArmJob


def run(job: Job) -> dict[str, Any]:
    """Do the job and return what is to be recorded of it."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    threads = job.threads if isinstance(job, BaseJob) else 1
    with _quiet(job.folder.with_name(f"{job.folder.name}.log"), threads):
        return _run_base(job) if isinstance(job, BaseJob) else _run_arm(job)


def _run_base(job: BaseJob) -> dict[str, Any]:
    """Make the base, so that the run folder holds `model/`."""
    from alttrain.engine.model.weights import SafetensorsWeights
    from alttrain.engine.train.loop import train

    started = time.perf_counter()
    start, model = job.folder.with_name("base-start"), job.folder / "model"
    start.mkdir(parents=True)
    write_model_folder(start, job.world, job.config.shape)
    if job.is_shipped:
        shutil.copytree(start, model)
        shutil.copyfile(SHIPPED, model / "model.safetensors")
    else:
        rows = start / "documents.jsonl"
        write_rows(rows, pretraining_rows(job.world, job.config.mixture))
        train(run_config(job.config.base, start, rows, job.folder, job.world.seed, is_base=True))
    shapes = [entry.shape for entry in SafetensorsWeights(model).entries.values()]
    return {
        "seed": job.world.seed,
        "seconds": time.perf_counter() - started,
        "num_parameters": sum(map(math.prod, shapes)),
        "losses": [line["loss"] for line in read_lines(job.folder / "metrics.jsonl")],
    }


def _run_arm(job: ArmJob) -> dict[str, Any]:
    """Align, ask and intervene; what was said is left in the run folder."""
    from alttrain.engine.train.loop import train

    started = time.perf_counter()
    model = job.folder.with_name("base") / "model"
    if job.arm != "base":
        rows = job.folder.with_name(f"{job.folder.name}.jsonl")
        write_rows(rows, alignment_rows(job.world, job.config.examples, job.arm))
        seed, weight = job.world.seed, job.weight
        train(run_config(job.training, model, rows, job.folder, seed, is_base=False, assessment_weight=weight))
        model = job.folder / "model"
    trained = time.perf_counter()
    job.folder.mkdir(exist_ok=True)
    mean_trace_tokens = _ask(job, model)
    steps = read_lines(job.folder / "metrics.jsonl")
    return _facts(job) | {
        "num_steps": len(steps),
        "num_tokens": sum(line["num_tokens"] for line in steps),
        "train_seconds": trained - started,
        "evaluation_seconds": time.perf_counter() - trained,
        "mean_trace_tokens": mean_trace_tokens,
        "nll": [{"step": line["step"], **line["nll"]} for line in steps],
    }


def _facts(job: ArmJob) -> dict[str, Any]:
    return {"seed": job.world.seed, "arm": job.arm, "assessment_weight": job.weight}


def _ask(job: ArmJob, model: Path) -> float:
    """Write items.jsonl and interventions.jsonl; return the mean words of a trace where nothing was seen before."""
    speaker, items = Speaker(model), job.items
    judged: dict[int, dict[str, Any]] = {}
    for index, response in speaker.respond([item.prompt for item in items]):
        judged[index] = _facts(job) | judge(items[index], response, RULES)
        append_line(job.folder / ANSWERED, {"answer": index})
    lines = [judged[index] for index in range(len(items))]
    write_rows(job.folder / "items.jsonl", lines)
    chosen = _chosen(items, lines, job.config.evaluation.interventions)
    written = []
    for line in intervene(speaker, job.world, chosen, RULES):
        written.append(_facts(job) | line)
        append_line(job.folder / ANSWERED, {"answer": line["id"]})
    write_rows(job.folder / "interventions.jsonl", written)
    (job.folder / ANSWERED).unlink()
    return mean(len(line["think"].split()) for line in lines if line["setting"] == "held-out")


def _chosen(items: Sequence[Item], lines: Sequence[Mapping[str, Any]], count: int) -> list[tuple[Item, str]]:
    """Return the first held-out items of each label, with the traces that they got."""
    chosen: list[tuple[Item, str]] = []
    for label in ("harmful", "benign"):
        pairs = zip(items, lines, strict=True)
        held_out = [(item, str(line["think"])) for item, line in pairs if item.setting == "held-out"]
        chosen += [(item, think) for item, think in held_out if item.label == label][:count]
    return chosen


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a line of JSON a row, whole or not at all."""
    write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def _quiet(log: Path, threads: int) -> Iterator[None]:
    """Within it, torch keeps to its threads; what is said from here on goes to a file, for good: the process ends."""
    import torch

    torch.set_num_threads(threads)
    with log.open("ab") as file:
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(file.fileno(), descriptor)
    yield
    sys.stdout.flush()
    sys.stderr.flush()
