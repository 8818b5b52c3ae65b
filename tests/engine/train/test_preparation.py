"""What a run reads before its first step, and what it records of it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alttrain.engine.config import DataConfig, ModelConfig, RunConfig, ScheduleConfig
from alttrain.engine.errors import DataError
from alttrain.engine.model.identity import model_digest, text_digest
from alttrain.engine.train import preparation
from alttrain.engine.train.preparation import prepare


def test_rows_model_and_plan_are_read_and_known_by_what_they_hold(
    tmp_path: Path, write_model: Callable[..., Path]
) -> None:
    model, rows, same, other = write_model(tmp_path / "m"), *(tmp_path / f"{name}.jsonl" for name in "abc")
    line = '{"prompt": "Hello?", "spans": [{"role": "answer", "text": "%s"}]}\n'
    for path, text in ((rows, "Yes."), (same, "Yes."), (other, "No.")):
        path.write_text(line % text)

    def run(train: Path, held_out: tuple[str, ...] = ()) -> RunConfig:
        data = DataConfig(train=(str(train),), eval=held_out)
        return RunConfig(model=ModelConfig(path=str(model)), data=data, schedule=ScheduleConfig(epochs=3), output="o")

    first, moved = prepare(run(rows)), prepare(run(same))
    assert first.plan.num_steps == first.facts["num_steps"] == 3
    assert first.facts["model"] == moved.facts["model"]
    assert first.facts["data"]["train"]["sha256"] == moved.facts["data"]["train"]["sha256"]
    assert first.facts["data"]["eval"] == {}
    held_out = prepare(run(rows, (str(other),)))
    assert held_out.facts["data"]["eval"]["sha256"] != first.facts["data"]["train"]["sha256"]
    with pytest.raises(DataError, match="no such file"):
        prepare(run(tmp_path / "none.jsonl"))


def test_a_model_and_its_template_are_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 8}')
    drawn = RunConfig(model=ModelConfig(path="p", random_init=True))
    backbone: Any = SimpleNamespace(folder=tmp_path, tokenizer=SimpleNamespace(chat_template="{{ messages }}"))
    found = preparation._model_facts(drawn, backbone)
    assert found == {
        "sha256": model_digest(tmp_path, with_weights=False),
        "chat_template_sha256": text_digest("{{ messages }}"),
    }
    backbone.tokenizer.chat_template = {"default": "{{ messages }}"}
    assert preparation._model_facts(drawn, backbone)["chat_template_sha256"] != found["chat_template_sha256"]
