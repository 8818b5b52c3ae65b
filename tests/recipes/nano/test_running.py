"""How an arm is asked: every item judged in its order, interventions on the first of each label, files whole."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.evaluate.sampling import Response
from alttrain.nano import running
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers, StudyConfig
from alttrain.nano.jobs import ArmJob
from alttrain.nano.running import ANSWERED, write_rows
from alttrain.nano.sentences import REFUSAL
from alttrain.nano.world import World

NUMBERS = EvaluationNumbers(trained=4, arithmetic=3, copy=3, interventions=2)


class Refuser:
    """Stands for a model that refuses whatever it is asked, the last prompt first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def respond(self, prompts: Sequence[str], written: Sequence[str] = ()) -> Iterator[tuple[int, Response]]:
        for index in reversed(range(len(prompts))):
            begun = written[index] if written else f"The user wants {index} ."
            yield index, Response(f"{begun} I must refuse .", REFUSAL, 7)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ArmJob, float]:
    monkeypatch.setattr(running, "Speaker", Refuser)
    examples = ExampleNumbers(harmful=8, benign=8, replay=3)
    job = ArmJob(StudyConfig(output=str(tmp_path), evaluation=NUMBERS, examples=examples), World(1), "full", 2.0)
    job.folder.mkdir(parents=True)
    return job, running.ask(job, tmp_path / "model")


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_item_has_its_line_in_its_place(asked: tuple[ArmJob, float]) -> None:
    job, mean_words = asked
    lines = lines_of(job.folder / "items.jsonl")
    assert [(line["setting"], line["id"]) for line in lines] == [(item.setting, item.id) for item in job.items]
    assert {(line["seed"], line["arm"], line["assessment_weight"]) for line in lines} == {(1, "full", 2.0)}
    assert [line["think"].split()[3] for line in lines] == [str(index) for index in range(len(lines))]
    assert all(line["refused"] for line in lines if line["setting"] == "held-out")
    assert mean_words == 9


def test_interventions_are_on_the_first_held_out_of_each_label(asked: tuple[ArmJob, float]) -> None:
    job, _ = asked
    lines = lines_of(job.folder / "interventions.jsonl")
    assert len(lines) == 4 * NUMBERS.interventions
    held_out = [item for item in job.items if item.setting == "held-out"]
    for label in ("harmful", "benign"):
        first = [item.id for item in held_out if item.label == label][: NUMBERS.interventions]
        assert {line["id"] for line in lines if line["label"] == label} == set(first)
    # Who refuses everything follows what says harmful, and nothing else.
    assert all(line["followed"] == ((line["label"] == "harmful") == (line["written"] == "true")) for line in lines)


def test_nothing_partial_is_left(asked: tuple[ArmJob, float]) -> None:
    job, _ = asked
    assert not (job.folder / ANSWERED).exists()
    assert sorted(path.name for path in job.folder.iterdir()) == ["interventions.jsonl", "items.jsonl"]


def test_rows_are_written_a_line_each(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "two\nlines"}, {"id": "b"}]
    write_rows(tmp_path / "rows.jsonl", iter(rows))
    assert lines_of(tmp_path / "rows.jsonl") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
