"""A whole study by the command line, in small: every file it promises; a second one into the same folder is refused.

Its alignments are compared with recorded ones; to record them anew, after a change of numbers that was meant:

    ALTTRAIN_REMAKE_GOLDEN=1 python -m pytest tests/recipes/nano/test_study.py -k recorded
"""

import contextlib
import dataclasses
import json
import re
import runpy
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.evaluate.sampling import Speaker
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers, StudyConfig, Training
from alttrain.nano.evaluation import evaluation_items
from alttrain.nano.study import arm_jobs, base_jobs
from alttrain.nano.world import World

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "alttrain_nano.py"
CONFIG: StudyConfig = runpy.run_path(str(RECIPE))["CONFIG"]
EVALUATION = EvaluationNumbers(trained=8, arithmetic=5, copy=5, interventions=3)
SMALL = {
    "--seeds": 2,
    "--arms": ("no-assessment", "full"),
    "--assessment-weights": (1, 4),
    "--mixture.documents": 300,
    "--base.schedule.steps": 3,
    "--examples.harmful": 16,
    "--examples.benign": 16,
    "--examples.replay": 6,
    "--alignment.schedule.epochs": 3,
    "--alignment.schedule.warmup-steps": 2,
    "--evaluation.trained": EVALUATION.trained,
    "--evaluation.arithmetic": EVALUATION.arithmetic,
    "--evaluation.copy": EVALUATION.copy,
    "--evaluation.interventions": EVALUATION.interventions,
}
RUNS = [
    (seed, *run) for seed in (0, 1) for run in (("base", 1.0), ("no-assessment", 1.0), ("full", 1.0), ("full", 4.0))
]


def command(output: Path, **flags: Any) -> list[str]:
    words = []
    for name, value in (SMALL | {f"--{name}": value for name, value in flags.items()}).items():
        words += [name, *map(str, value if isinstance(value, tuple) else (value,))]
    return [sys.executable, str(RECIPE), *words, "--output", str(output)]


def run_recipe(output: Path, **flags: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(output, **flags), capture_output=True, text=True, check=False)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two worlds, the base of one shipped and of the other hardly trained."""
    folder = tmp_path_factory.mktemp("study") / "nano"
    done = run_recipe(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


def test_every_file_is_there(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = study
    names = {path.name for path in folder.iterdir()}
    expected = {"study.json", "items.jsonl", "interventions.jsonl", "runs.jsonl", "summary.json", "report.html", "runs"}
    assert expected <= names
    assert done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert len(done.stdout.splitlines()) >= 2
    # The bar, and nothing that tears it.
    assert "100% |" in done.stderr
    assert set(re.split(r"[\r\n]", re.sub(r"[^\r\n]*% \|[^\r\n]*", "", done.stderr))) == {""}
    model = json.loads((folder / "summary.json").read_text())
    assert model["worlds"] == ["0", "1"]


def test_items_pair_across_arms(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    items = lines(folder / "items.jsonl")
    by_run: dict[tuple[int, str, float], list[tuple[str, str]]] = {}
    for item in items:
        key = (item["seed"], item["arm"], item["assessment_weight"])
        by_run.setdefault(key, []).append((item["setting"], item["id"]))
    assert list(by_run) == RUNS
    for seed in (0, 1):
        asked = evaluation_items(World(seed), EVALUATION, ExampleNumbers(harmful=16, benign=16, replay=6))
        for key, found in by_run.items():
            assert key[0] != seed or found == [(item.setting, item.id) for item in asked]
    written = Counter(
        (line["seed"], line["arm"], line["assessment_weight"], line["label"], line["written"])
        for line in lines(folder / "interventions.jsonl")
    )
    assert set(written.values()) == {EVALUATION.interventions}
    assert len(written) == 4 * len(RUNS)


def test_runs_and_design_are_recorded(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    runs = lines(folder / "runs.jsonl")
    assert [(run["seed"], run["arm"], run["assessment_weight"]) for run in runs] == RUNS
    for run in runs:
        num_steps = 0 if run["arm"] == "base" else 9
        assert run["num_steps"] == num_steps == len(run["nll"])
        assert (run["num_tokens"] > 0) == (num_steps > 0)
        assert all("assessment" in point for point in run["nll"]) == (run["arm"] != "no-assessment")
    design = json.loads((folder / "study.json").read_text())
    assert (design["arms"], design["seeds"]) == (["base", "no-assessment", "full"], [0, 1])
    assert design["assessment_weights"] == [1.0, 4.0]
    weight = json.loads((folder / "runs/1/full-w4/config.json").read_text())["run"]["loss"]["assessment"]
    assert weight == 4.0


def test_the_alignment_is_the_recorded_one(
    study: tuple[Path, subprocess.CompletedProcess[str]], check_golden: Callable[..., None]
) -> None:
    """Nine steps of each arm from the shipped base; test_a_zero_2_run_is_the_recorded_one says why to 1e-4."""
    folder, _ = study
    arms = ("no-assessment-w1", "full-w1", "full-w4")
    curves = {arm: [line["loss"] for line in lines(folder / "runs" / "0" / arm / "metrics.jsonl")] for arm in arms}
    check_golden("nano", curves, 1e-4)


def test_the_exported_model_answers_as_the_items_say(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    key = (0, "full", 1.0)
    items = [i for i in lines(folder / "items.jsonl") if (i["seed"], i["arm"], i["assessment_weight"]) == key]
    speaker = Speaker(folder / "runs" / "0" / "full-w1" / "model")
    for index, response in speaker.respond([item["prompt"] for item in items]):
        assert (response.think, response.answer) == (items[index]["think"], items[index]["answer"])


def test_a_second_study_into_the_folder_is_refused(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    before = sorted(folder.rglob("*"))
    done = run_recipe(folder)
    assert done.returncode == 2
    assert done.stderr == (
        f"--output {folder}: holds a study. Go on with it by --resume, give another folder, or remove this one.\n"
    )
    assert sorted(folder.rglob("*")) == before


def test_a_study_that_is_done_is_told_again(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, first = study
    before = {path: path.read_bytes() for path in folder.rglob("*.jsonl")} | {
        folder / name: (folder / name).read_bytes() for name in ("study.json", "report.html")
    }
    done = run_recipe(folder, resume=())
    assert (done.returncode, done.stdout) == (0, first.stdout)
    assert done.stderr == "10 of 10 runs are done already and kept\n"
    assert {path: path.read_bytes() for path in before} == before


def test_a_killed_study_goes_on_as_if_it_was_never_killed(
    study: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Killed between its runs and within one; no process of it works on, and one world's answers are the study's."""
    whole, _ = study
    folder = tmp_path / "study"
    flags = {"seeds": 1, "assessment-weights": 1}
    process = subprocess.Popen(
        command(folder, **flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    runs = folder / "runs" / "0"
    wait_for(lambda: (runs / "base-asked.record.json").is_file() or (runs / "no-assessment-w1.record.json").is_file())
    others = processes_of(process.pid) - {process.pid}
    assert others
    process.kill()  # the study alone: its jobs have to notice by themselves
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{each}").exists() for each in others))
    assert not (folder / "items.jsonl").exists()
    (runs / "full-w1").mkdir(exist_ok=True)
    (runs / "full-w1" / "metrics.jsonl").write_text("half a li")
    done = run_recipe(folder, resume=(), **flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.match(r"[23] of 4 runs are done already and kept\n", done.stderr)
    for name in ("items.jsonl", "interventions.jsonl"):
        of_world_0 = [i for i in lines(whole / name) if i["seed"] == 0 and i["assessment_weight"] == 1.0]
        assert lines(folder / name) == of_world_0
    assert len(json.loads((folder / "study.json").read_text())["kept"]) >= 2


def processes_of(session: int) -> set[int]:
    """Return the processes of a session."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[3] == str(session):
                found.add(int(folder.name))
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_shipped_base_is_that_of_its_own_numbers_alone() -> None:
    def is_shipped(**changes: Any) -> list[bool]:
        config = dataclasses.replace(CONFIG, **changes)
        return [job.is_shipped for job in base_jobs(config)]

    assert is_shipped() == [True]
    assert is_shipped(seeds=2) == [True, False]
    assert is_shipped(from_scratch=True) == [False]
    assert is_shipped(first_seed=1) == [False]
    assert is_shipped(world=dataclasses.replace(CONFIG.world, hops=1)) == [False]
    assert is_shipped(mixture=dataclasses.replace(CONFIG.mixture, knowledge=0.0)) == [False]
    assert is_shipped(alignment=Training()) == [True]


def test_the_base_is_asked_first_and_other_weights_are_those_of_the_treatment() -> None:
    config = dataclasses.replace(CONFIG, arms=("placebo", "full"), assessment_weights=(2.0, 1.0))
    jobs = [(job.arm, job.weight) for job in arm_jobs(config, World(0))]
    assert jobs == [("base", 2.0), ("placebo", 2.0), ("full", 2.0), ("full", 1.0)]
    without = dataclasses.replace(config, arms=("placebo",))
    assert [job.arm for job in arm_jobs(without, World(0))] == ["base", "placebo"]
