"""A study: every arm in every world, each run in a process of its own, and the answers of all runs in a few files.

OUT/design.json           what it is, from its start         OUT/study.json            the same, and seconds
OUT/items.jsonl           a line an answer                   OUT/interventions.jsonl   a line a written assessment
OUT/runs.jsonl            a line a run                       OUT/summary.json          every figure of the report
OUT/report.html           the report                         OUT/runs/SEED/ARM-wWEIGHT the engine's run folders
"""

import dataclasses
import hashlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alttrain.engine.errors import AlttrainError
from alttrain.engine.files import write_whole
from alttrain.engine.run.lock import FolderLock
from alttrain.nano.arms import BEFORE, TREATMENT
from alttrain.nano.config import StudyConfig
from alttrain.nano.design import begin, check_folder, read_design
from alttrain.nano.jobs import SHIPPED, SHIPPED_SEED, ArmJob, BaseJob, Job, record_of
from alttrain.nano.progress import Progress
from alttrain.nano.running import run
from alttrain.nano.world import World

# Modules that are imported once, in the process from which all others are forked.
PRELOADED = ("torch", "torch._dynamo", "transformers", "deepspeed", "alttrain.engine.train.loop")


def run_study(config: StudyConfig) -> dict[str, Any]:
    """Run what is not done yet of the study, and return its summary; the folder then holds all files named above.

    Raises:
        AlttrainError: a run failed for a reason that the user can mend, or the folder is in use.
    """
    folder = Path(config.output)
    lock = FolderLock(folder)
    lock.take()
    try:
        check_folder(config)  # once more, now that nobody else can change it
        begin(config)
        return _run_study(config, folder)
    finally:
        lock.release()


def _run_study(config: StudyConfig, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    bases = base_jobs(config)
    arms = {base: arm_jobs(config, base.world) for base in bases}
    jobs: list[Job] = []
    for base in bases:
        jobs += [base, *arms[base]]
    records = {job: json.loads(record_of(job).read_text(encoding="utf-8")) for job in jobs if record_of(job).is_file()}
    kept = [job.folder.relative_to(folder).as_posix() for job in records]
    if kept:
        sys.stderr.write(f"{len(kept)} of {len(jobs)} runs are done already and kept\n")
    if len(kept) == len(jobs) and (folder / "study.json").is_file():
        return conclude(folder)
    with processes(folder / "processes.log") as pool, Progress(jobs) as progress:
        progress.look(list(records))
        ready: list[Job] = []
        for base in bases:
            ready += [base] if base not in records else [arm for arm in arms[base] if arm not in records]
        running: dict[Future[dict[str, Any]], Job] = {pool.submit(run, job): job for job in ready}
        while running:
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            finished = [running.pop(future) for future in done]
            records |= {job: _result(future, job) for future, job in zip(done, finished, strict=True)}
            progress.look(finished)
            for job in finished:
                following = arms[job] if isinstance(job, BaseJob) else []
                running |= {pool.submit(run, arm): arm for arm in following}
    seconds = {"runs": time.perf_counter() - started} | {f"base {b.world.seed}": records[b]["seconds"] for b in bases}
    facts = {"seconds": seconds, "kept": kept, "num_parameters": records[bases[0]]["num_parameters"]}
    answered = [arm for base in bases for arm in arms[base]]
    _gather(folder, answered, [records[arm] for arm in answered])
    write_whole(folder / "study.json", json.dumps(facts | _design(config, folder), indent=1) + "\n")
    return conclude(folder)


def _gather(folder: Path, arms: Sequence[ArmJob], records: Sequence[Mapping[str, Any]]) -> None:
    """Write what all arms answered, and their records, into the study's own files."""
    for name in ("items.jsonl", "interventions.jsonl"):
        write_whole(folder / name, "".join((arm.folder / name).read_text(encoding="utf-8") for arm in arms))
    write_whole(folder / "runs.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def _result(future: Future[dict[str, Any]], job: Job) -> dict[str, Any]:
    """Return the record of a finished job.

    Raises:
        AlttrainError: the process of the job was killed.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        log = job.folder.with_name(f"{job.folder.name}.log")
        raise AlttrainError(
            f"a process of the study was ended from outside, for want of memory perhaps; see {log}. "
            "Free some memory, or give it fewer cores with taskset.",
            where=job.folder,
        ) from error


def conclude(folder: Path) -> dict[str, Any]:
    """Write summary.json and report.html from the other files of a study, and return the summary."""
    from alttrain.nano.report import write_report
    from alttrain.nano.summary import summarise

    summary = summarise(folder)
    write_whole(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_report(folder)
    return summary


def remake_base(config: StudyConfig) -> None:
    """Train the base of seed 0 and replace the shipped weights, and the record of their training, by it."""
    config = dataclasses.replace(config, seeds=1, first_seed=SHIPPED_SEED, from_scratch=True)
    (base,) = base_jobs(config)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    with processes(Path(config.output) / "processes.log") as pool, Progress([base]) as progress:
        future = pool.submit(run, base)
        while not future.done():
            wait([future], timeout=0.2)
            progress.look()
        record = _result(future, base)
    shutil.copyfile(base.folder / "model" / "model.safetensors", SHIPPED)
    SHIPPED.chmod(0o644)
    digest = hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    facts = {
        "command": "python recipes/alttrain_nano.py --remake-base",
        "sha256": digest,
        "numbers": _base_numbers(config),
        **record,
    }
    write_whole(SHIPPED.with_suffix(".json"), json.dumps(facts) + "\n")


def base_jobs(config: StudyConfig) -> list[BaseJob]:
    """Return the jobs of the bases: a single one gets two threads; several run in parallel with one thread each."""
    worlds = [World(seed, config.world) for seed in range(config.first_seed, config.first_seed + config.seeds)]
    threads = min(2, _cores()) if len(worlds) == 1 else 1
    return [
        BaseJob(config, world, is_shipped=_ships(config, world) and not config.from_scratch, threads=threads)
        for world in worlds
    ]


def _ships(config: StudyConfig, world: World) -> bool:
    """Return whether the shipped base is that of `world`: it has the same seed and was made with the same settings."""
    shipped_numbers = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))["numbers"]
    return world.seed == SHIPPED_SEED and json.loads(json.dumps(_base_numbers(config))) == shipped_numbers


def _base_numbers(config: StudyConfig) -> dict[str, Any]:
    design = dataclasses.asdict(config)
    return {name: design[name] for name in ("world", "mixture", "shape", "base")}


def arm_jobs(config: StudyConfig, world: World) -> list[ArmJob]:
    """Return the jobs that follow a base: its own evaluation, then the arms."""
    first, *others = config.weights
    jobs = [ArmJob(config, world, BEFORE, first)]
    jobs += [ArmJob(config, world, arm, first) for arm in config.chosen_arms]
    return jobs + [ArmJob(config, world, TREATMENT, weight) for weight in others if TREATMENT in config.chosen_arms]


def _design(config: StudyConfig, folder: Path) -> dict[str, Any]:
    design, numbers = read_design(folder), dataclasses.asdict(config)
    return {
        "arms": [BEFORE, *config.chosen_arms],
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "assessment_weights": list(config.weights),
        "from_scratch": config.from_scratch,
        "versions": design["versions"],
        "commit": design["commit"],
        "code": design["code"],
        "world": numbers["world"],
        "base": {name: numbers[name] for name in ("mixture", "shape", "base")},
        "alignment": {name: numbers[name] for name in ("examples", "alignment")},
        "evaluation": numbers["evaluation"],
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def processes(log: Path) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose processes do one job each, forked from one that has imported everything.

    They compute on the CPU. Threads spin only some 50 microseconds when they wait for each other: on a busy machine,
    two threads that spun for long ran at a hundredth of their speed; on an idle one, two that do not spin take twice as
    long.
    """
    os.environ.update(CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu", TOKENIZERS_PARALLELISM="false")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with _redirected(log):
        multiprocessing.forkserver.ensure_running()
    pool = ProcessPoolExecutor(_cores(), mp_context=context, max_tasks_per_child=1)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # the jobs under way end with this process
        raise
    pool.shutdown()


@contextmanager
def _redirected(log: Path) -> Iterator[None]:
    """In this context, processes started from here write to `log`, so that their output does not break the bar."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with log.open("ab") as file:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        yield
    finally:
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
