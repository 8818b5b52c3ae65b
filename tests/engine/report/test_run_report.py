"""The report of a run, from the files of its folder: every figure and fact, and names that do nothing."""

import json
import math
import re
import runpy
from pathlib import Path
from typing import Any

from alttrain.engine.report.run_report import render, write_report

HTML = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))
Reader, HOSTILE, assert_stands_alone = HTML["Reader"], HTML["HOSTILE"], HTML["assert_stands_alone"]
RECORD = {
    "run": {"model": {"path": "some/model"}, "data": {"train": ["rows.jsonl"]}, "zero": {"stage": 2}},
    "world_size": 4,
    "num_steps": 3,
    "data": {
        "files": ["rows.jsonl"],
        "train": {"rows": 30, "placed": {"listed": 28, "rule": 2}, "skipped": ["rows.jsonl:3: bad"], "tokens": {}},
    },
}
TITLES = [
    "Loss",
    "Training nll by role",
    "Held-out nll by role",
    "Gradient norm",
    "Learning rate",
    "Throughput",
    "Model FLOPs utilisation",
    "Peak memory",
    "Pack fill",
]


def step(number: int, **changes: Any) -> dict[str, Any]:
    """Return a line of metrics.jsonl."""
    return {
        "step": number,
        "loss": 4.0 / number,
        "nll": {"assessment": 3.0 / number, "answer": 5.0 / number},
        "num_tokens": 1000,
        "pack_fill": 0.9,
        "grad_norm": 1.0,
        "lr": 1e-5 / number,
        "seconds": 0.5,
        "tokens_per_second": 2000.0,
        "mfu": 0.4,
        "peak_memory_gib": 12.5,
    } | changes


STEPS = [step(1), step(2), step(3)]
EVALUATIONS = [{"step": number, "nll": {"answer": 5.0 - number}} for number in (0, 3)]


def facts(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def titles(page: str) -> list[str]:
    return re.findall(r"<figcaption>([^<]*)", page)


def test_the_folder_alone_makes_the_report(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(RECORD), encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in STEPS), encoding="utf-8")
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in EVALUATIONS), encoding="utf-8")
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == render(RECORD, STEPS, EVALUATIONS)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "eval.jsonl",
        "metrics.jsonl",
        "report.html",
    ]


def test_facts_and_figures() -> None:
    page = render(RECORD, STEPS, EVALUATIONS)
    assert_stands_alone(page)
    assert facts(page) == {
        "steps": "3 of 3",
        "ranks": "4",
        "ZeRO stage": "2",
        "tokens": "3,000",
        "seconds in steps": "1.5",
        "tokens per second": "2,000",
        "loss": "4.0000 at step 1, 1.3333 at the last",
        "data: rows": "30",
        "data: placed": "listed 28, rule 2",
        "data: skipped": "1",
        "data: tokens": "none",
    }
    assert titles(page) == TITLES
    assert Reader(page).elements["svg"] == len(TITLES)
    assert "<h1>alttrain: some/model</h1>" in page
    assert json.dumps(RECORD["run"], indent=2) in Reader(page).text


def test_a_figure_says_where_its_lines_begin_and_end() -> None:
    page = render(RECORD, STEPS, EVALUATIONS)
    assert "<desc>loss: 4 at step 1, 1.33333 at step 3.</desc>" in page
    assert "<desc>assessment: 3 at step 1, 1 at step 3; answer: 5 at step 1, 1.66667 at step 3.</desc>" in page
    assert "<desc>answer: 5 at step 0, 2 at step 3.</desc>" in page


def test_what_was_not_measured_has_no_figure() -> None:
    page = render(RECORD, [step(1, mfu=None), step(2, mfu=None)], [])
    assert titles(page) == [
        title for title in TITLES if title not in ("Held-out nll by role", "Model FLOPs utilisation")
    ]


def test_a_run_without_a_step_is_a_short_page() -> None:
    page = render(RECORD, [], [])
    assert titles(page) == []
    assert facts(page)["steps"] == "0 of 3"
    assert facts(page)["loss"] == facts(page)["tokens per second"] == ""
    assert "Step by step" not in page


def test_a_run_that_diverged_can_be_shown() -> None:
    page = render(RECORD, [step(1), step(2, loss=math.nan, grad_norm=math.inf), step(3, loss=math.nan)], [])
    assert facts(page)["loss"] == "4.0000 at step 1, nan at the last"
    assert "Loss" in titles(page)


def test_names_do_nothing() -> None:
    record = json.loads(json.dumps(RECORD))
    record["run"]["model"]["path"] = f"{HOSTILE} model"
    record["run"]["data"]["train"] = [f"{HOSTILE} file"]
    record["data"]["train"]["placed"] = {f"{HOSTILE} rule": 1}
    steps = [step(number, nll={f"{HOSTILE} role": 1.0 / number, "answer": 2.0}) for number in (1, 2)]
    page = render(record, steps, EVALUATIONS)
    assert_stands_alone(page)
    assert Reader(page).elements.keys() == Reader(render(RECORD, STEPS, EVALUATIONS)).elements.keys()
    for where in ("model", "file", "rule", "role"):
        assert f"{HOSTILE} {where}" in Reader(page).text
