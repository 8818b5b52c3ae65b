"""Running a job: in a process of its own, with its output in a log and its results in its run folder.

A process can hold only one DeepSpeed engine, so every job gets a new process. It ends with the study's own process,
however that ends, so that a study that is gone on with finds nobody else at work in its folders.
"""

import json
import math
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from statistics import mean
from typing import Any

from alttrain.engine.evaluate.sampling import Speaker
from alttrain.engine.files import append_line, read_lines, write_whole
from alttrain.nano.alignment import alignment_rows
from alttrain.nano.config import run_config
from alttrain.nano.documents import pretraining_rows
from alttrain.nano.evaluation import Item, judge
from alttrain.nano.folder import write_model_folder
from alttrain.nano.interventions import intervene
from alttrain.nano.jobs import SHIPPED, ArmJob, BaseJob, Job, record_of, start_of
from alttrain.nano.rules import RULES

ANSWERED = "answers.partial"
"""File with a line for each answer so far, for the progress bar; deleted after the evaluation."""


def run(job: Job) -> dict[str, Any]:
    """Do the job and return its record for runs.jsonl and study.json, which is then in `record_of(job)` too."""
    _end_with_the_study()
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_what_a_killed_start_left(job)
    threads = job.threads if isinstance(job, BaseJob) else 1
    with _quiet(job.folder.with_name(f"{job.folder.name}.log"), threads):
        record = _run_base(job) if isinstance(job, BaseJob) else _run_arm(job)
        write_whole(record_of(job), json.dumps(record) + "\n")
    return record


def _remove_what_a_killed_start_left(job: Job) -> None:
    for folder in (job.folder, *([start_of(job)] if isinstance(job, BaseJob) else [])):
        if folder.exists():
            shutil.rmtree(folder)


def _end_with_the_study() -> None:
    """End this process when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a job has a process of its own"
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_base(job: BaseJob) -> dict[str, Any]:
    """Train or copy the base into `model/` of the run folder."""
    from alttrain.engine.model.weights import SafetensorsWeights
    from alttrain.engine.train.loop import train

    started = time.perf_counter()
    start, model = start_of(job), job.folder / "model"
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
    """Align the base, evaluate it and intervene; the answers are in the run folder afterwards."""
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
    mean_trace_tokens = ask(job, model)
    steps = read_lines(job.folder / "metrics.jsonl")
    return _of_run(job) | {
        "num_steps": len(steps),
        "num_tokens": sum(line["num_tokens"] for line in steps),
        "train_seconds": trained - started,
        "evaluation_seconds": time.perf_counter() - trained,
        "mean_trace_tokens": mean_trace_tokens,
        "nll": [{"step": line["step"], **line["nll"]} for line in steps],
    }


def _of_run(job: ArmJob) -> dict[str, Any]:
    return {"seed": job.world.seed, "arm": job.arm, "assessment_weight": job.weight}


def ask(job: ArmJob, model: Path) -> float:
    """Write items.jsonl and interventions.jsonl; return the mean number of words of a held-out trace."""
    speaker, items = Speaker(model), job.items
    judged: dict[int, dict[str, Any]] = {}
    for index, response in speaker.respond([item.prompt for item in items]):
        judged[index] = _of_run(job) | judge(items[index], response, RULES)
        append_line(job.folder / ANSWERED, {"answer": index})
    lines = [judged[index] for index in range(len(items))]
    write_rows(job.folder / "items.jsonl", lines)
    chosen = _chosen(items, lines, job.config.evaluation.interventions)
    written = []
    for line in intervene(speaker, job.world, chosen, RULES):
        written.append(_of_run(job) | line)
        append_line(job.folder / ANSWERED, {"answer": line["id"]})
    write_rows(job.folder / "interventions.jsonl", written)
    (job.folder / ANSWERED).unlink()
    return mean(len(line["think"].split()) for line in lines if line["setting"] == "held-out")


def _chosen(items: Sequence[Item], lines: Sequence[Mapping[str, Any]], count: int) -> list[tuple[Item, str]]:
    """Return the first held-out items of each label, with the traces of their responses."""
    chosen: list[tuple[Item, str]] = []
    for label in ("harmful", "benign"):
        pairs = zip(items, lines, strict=True)
        held_out = [(item, str(line["think"])) for item, line in pairs if item.setting == "held-out"]
        chosen += [(item, think) for item, think in held_out if item.label == label][:count]
    return chosen


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write each row as a line of JSON; the file is written whole or not at all."""
    write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def _quiet(log: Path, threads: int) -> Iterator[None]:
    """Limit torch to `threads` and send all output to `log`, also after this context: the process ends with the job."""
    import torch

    torch.set_num_threads(threads)
    with log.open("ab") as file:
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(file.fileno(), descriptor)
    yield
    sys.stdout.flush()
    sys.stderr.flush()
