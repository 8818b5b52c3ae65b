"""The bar counts the lines that runs have written, never more than their work, and what is finished as whole."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.nano.config import EvaluationNumbers, StudyConfig, Training
from alttrain.nano.jobs import ArmJob, BaseJob, Job
from alttrain.nano.progress import ANSWER, STEP, Progress
from alttrain.nano.running import ANSWERED
from alttrain.nano.world import World

WORLD = World(0)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    steps = Training(BatchConfig(examples=16), schedule=ScheduleConfig(epochs=0, steps=10))
    few = EvaluationNumbers(trained=2, arithmetic=2, copy=2, interventions=1)
    config = StudyConfig(output=str(tmp_path), base=steps, alignment=steps, evaluation=few)
    made: list[Job] = [
        BaseJob(config, WORLD, is_shipped=False, threads=1),
        ArmJob(config, WORLD, "full", 1.0),
    ]
    for job in made:
        job.folder.mkdir(parents=True)
    return made


def done_after(progress: Progress, finished: Sequence[Job] = ()) -> float:
    progress.look(finished)
    return float(progress._bar.n)


def test_lines_are_counted_as_they_come(jobs: list[Job]) -> None:
    base, arm = jobs
    with Progress(jobs) as progress:
        assert progress._bar.total == STEP * 20 + ANSWER * arm.num_answers
        assert done_after(progress) == 0
        (base.folder / "metrics.jsonl").write_text("{}\n" * 4)
        (arm.folder / "metrics.jsonl").write_text("{}\n" * 2)
        (arm.folder / ANSWERED).write_text("{}\n" * 3)
        assert done_after(progress) == STEP * 6 + ANSWER * 3


def test_what_is_finished_is_whole_and_nothing_goes_back(jobs: list[Job]) -> None:
    base, arm = jobs
    with Progress(jobs) as progress:
        (arm.folder / ANSWERED).write_text("{}\n" * 3)
        assert done_after(progress) == ANSWER * 3
        (arm.folder / ANSWERED).unlink()  # as a run does when it has answered everything
        assert done_after(progress) == ANSWER * 3
        assert done_after(progress, [base]) == STEP * 10 + ANSWER * 3
        assert done_after(progress, [arm]) == progress._bar.total


def test_more_lines_than_work_do_not_overfill_the_bar(jobs: list[Job]) -> None:
    with Progress(jobs) as progress:
        (jobs[0].folder / "metrics.jsonl").write_text("{}\n" * 50)
        assert done_after(progress) == STEP * 10


def test_the_runs_under_way_are_named(jobs: list[Job]) -> None:
    with Progress(jobs) as progress:
        progress.look()
        assert progress._bar.desc == "starting"
        jobs[1].folder.with_name("full-w1.log").write_text("")
        progress.look()
        assert progress._bar.desc == "seed 0: full-w1"
        progress.look(jobs)
        assert progress._bar.desc == "all runs done"
