"""What a study runs: where it lies, how long it takes, and that the arm with as many tokens gets as many."""

from pathlib import Path

import pytest

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.nano.alignment import alignment_rows, num_words
from alttrain.nano.arms import ARMS
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers, StudyConfig, Training
from alttrain.nano.jobs import SHIPPED, ArmJob, BaseJob
from alttrain.nano.world import World

WORLD = World(1)
BATCH = BatchConfig(examples=16)
CONFIG = StudyConfig(output="out", alignment=Training(BATCH, schedule=ScheduleConfig(epochs=3)))


def test_run_folders_are_told_apart() -> None:
    runs = Path("out/runs/1")
    assert BaseJob(CONFIG, WORLD, is_shipped=False, threads=1).folder == runs / "base"
    assert ArmJob(CONFIG, WORLD, "base", 1.0).folder == runs / "base-asked"
    assert ArmJob(CONFIG, WORLD, "full", 1.0).folder == runs / "full-w1"
    assert ArmJob(CONFIG, WORLD, "full", 2.5).folder == runs / "full-w2.5"


def test_a_base_that_is_shipped_takes_no_steps() -> None:
    config = StudyConfig(base=Training(schedule=ScheduleConfig(epochs=0, steps=7)))
    steps = [BaseJob(config, WORLD, is_shipped, threads=1).num_steps for is_shipped in (True, False)]
    assert steps == [0, 7]
    assert SHIPPED.is_file()


def test_steps_are_those_of_the_schedule() -> None:
    by_steps = StudyConfig(alignment=Training(BATCH, schedule=ScheduleConfig(epochs=0, steps=11)))
    assert ArmJob(by_steps, WORLD, "placebo", 1.0).num_steps == 11
    assert {ArmJob(CONFIG, WORLD, arm, 1.0).num_steps for arm in ARMS if arm != "no-assessment-tokens"} == {189}
    assert ArmJob(CONFIG, WORLD, "base", 1.0).num_steps == 0


def test_the_token_matched_control_sees_as_many_tokens() -> None:
    jobs = {arm: ArmJob(CONFIG, WORLD, arm, 1.0) for arm in ("full", "no-assessment", "no-assessment-tokens")}
    words = {arm: num_words(alignment_rows(WORLD, ExampleNumbers(), arm)) for arm in ARMS}
    tokens = {arm: job.num_steps * (words[arm] + 5 * 1000) for arm, job in jobs.items()}
    assert jobs["no-assessment"].num_steps == jobs["full"].num_steps == 189
    assert tokens["no-assessment-tokens"] == pytest.approx(tokens["full"], rel=0.005)
    assert tokens["no-assessment"] < 0.8 * tokens["full"]


def test_answers_are_the_items_and_four_an_intervention() -> None:
    config = StudyConfig(evaluation=EvaluationNumbers(trained=8, arithmetic=5, copy=5, interventions=3))
    job = ArmJob(config, WORLD, "full", 1.0)
    assert len(job.items) == 3 * len(WORLD.held_out_things) + 8 + len(WORLD.things) + 5 + 5
    assert job.num_answers == len(job.items) + 12
