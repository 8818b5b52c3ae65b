"""From a file of prompts to a file of responses and back into the project; one prompt; what is refused at once."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.data.rows import read_rows
from alttrain.engine.errors import AlttrainError, ConfigError, DataError
from alttrain.engine.evaluate.ask import ask, check_settings, response_record
from alttrain.engine.evaluate.config import AskConfig, MeasureConfig, ReadConfig
from alttrain.engine.evaluate.continuations import Continuation, OpenedPrompt
from alttrain.engine.evaluate.measure import measure
from alttrain.engine.thinking import Thinking
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers, Shape
from alttrain.nano.evaluation import evaluation_items
from alttrain.nano.folder import write_model_folder
from alttrain.nano.jobs import SHIPPED, SHIPPED_SEED
from alttrain.nano.world import World

WORLD = World(SHIPPED_SEED)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("asked") / "model"
    write_model_folder(folder, WORLD, Shape())
    shutil.copyfile(SHIPPED, folder / "model.safetensors")
    return str(folder)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    """Nine prompts of the small world, of several lengths, with a column that is nobody's."""
    items = evaluation_items(WORLD, EvaluationNumbers(), ExampleNumbers())[:90:10]
    rows = [{"id": item.id, "label": item.label, "prompt": item.prompt, "setting": item.setting} for item in items]
    return write(tmp_path / "prompts.jsonl", rows)


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def lines(file: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def test_a_file_of_prompts_and_what_reads_its_responses(base: str, prompts: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out" / "responses.jsonl")
    said = ask(AskConfig(base, prompts=prompts, output=output, batch=4))
    assert said.splitlines()[0] == "9 prompts: 9 answered"
    assert "columns that were not read: setting (9 rows)" in said
    rows, asked = lines(output), lines(prompts)
    assert [(row["id"], row["prompt"], row["label"]) for row in rows] == [
        (row["id"], row["prompt"], row["label"]) for row in asked
    ]
    for row in rows:
        assert row["opened"]
        assert (row["outcome"], row["finish"]) == ("answered", "stop")
        assert row["response"].split("</think>") == [f"{row['think']} ", f" {row['answer']}"]
        assert row["asked_with"]["temperature"] == 0
    assert "9 traces: 9 answered" in measure(MeasureConfig(output))
    trained = read_rows([output]).rows
    assert [row.spans[-1].text for row in trained] == [row["answer"] for row in rows]


def test_a_killed_run_goes_on_and_ends_as_it_would_have(base: str, prompts: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    config = AskConfig(base, prompts=prompts, output=str(whole), temperature=1.0, seed=5, batch=2)
    ask(config)
    killed.write_bytes(b"".join(whole.read_bytes().splitlines(keepends=True)[3:6]) + b'{"id": "half')
    again = AskConfig(base, prompts=prompts, output=str(killed), temperature=1.0, seed=5, batch=7)
    ask(again)
    assert killed.read_bytes() == whole.read_bytes()
    with pytest.raises(ConfigError, match=r"was asked with seed 5, now 6"):
        ask(AskConfig(base, prompts=prompts, output=str(killed), temperature=1.0, seed=6))


def test_a_budget_is_kept_and_told(base: str, prompts: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out.jsonl")
    said = ask(AskConfig(base, prompts=prompts, output=output, max_think_tokens=3))
    assert "forced" in said
    for row in lines(output):
        assert row["outcome"] in ("forced", "empty", "doubled"), "a model may close what was closed for it"
        assert len(row["think"].split()) == 3
    assert " forced" in measure(MeasureConfig(output)), "measured apart from those that end by themselves"


def test_prompts_that_the_model_cannot_read(base: str, prompts: str, tmp_path: Path) -> None:
    """They are refused before anything is asked or written, by row; or left out and counted."""
    rows = [*lines(prompts)[:1], {"id": "x", "prompt": "the xyzzy"}]
    bad, output = write(tmp_path / "bad.jsonl", rows), tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"bad\.jsonl:2: the prompt has 1 words that the model's tokenizer does not"):
        ask(AskConfig(base, prompts=bad, output=str(output)))
    assert not output.exists()
    skipping = ReadConfig(on_bad_row="skip")
    said = ask(AskConfig(base, prompts=bad, output=str(output), data=skipping))
    assert "1 rows left out; the first: " in said
    assert len(lines(output)) == 1
    none = write(tmp_path / "none.jsonl", rows[1:])
    with pytest.raises(DataError, match="none of the prompts can be asked"):
        ask(AskConfig(base, prompts=none, output=str(tmp_path / "b.jsonl"), data=skipping))


def test_one_prompt_is_answered_on_the_screen(base: str, prompts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = lines(prompts)[0]["prompt"]
    said = ask(AskConfig(base, prompt=prompt))
    assert said.startswith("reasoning:\n")
    assert "\n\nanswer:\n" in said
    assert said.endswith("finish stop]")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{prompt}\n"))
    assert ask(AskConfig(base)) == said
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    with pytest.raises(ConfigError, match="--prompt is missing, and nothing came on stdin"):
        ask(AskConfig(base))
    with pytest.raises(DataError, match="the first is 'xyzzy'"):
        ask(AskConfig(base, prompt="the xyzzy"))


def test_the_outcome_of_a_response() -> None:
    prompt = OpenedPrompt("a", [1], opened=True)

    def outcome(text: str, *, was_forced: bool = False) -> str:
        record = response_record(Continuation(text, 3, "stop", was_forced), prompt, Thinking())
        assert record["response"] == text
        return str(record["outcome"])

    assert outcome("A</think>B") == "answered"
    assert outcome("A</think>B", was_forced=True) == "forced"
    assert outcome("A</think>", was_forced=True) == "empty"
    assert outcome("A</think>B</think>", was_forced=True) == "doubled"
    assert outcome("A") == "unfinished"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prompt": "a", "prompts": "b", "output": "c.jsonl"}, "--prompts is given beside --prompt"),
        ({"prompts": "b"}, "--output is missing"),
        ({"prompt": "a", "output": "c.jsonl"}, "--output is given without --prompts"),
        ({"prompts": "b", "output": "c.json"}, r"--output is 'c\.json': it must end in \.jsonl"),
        ({"prompts": "b.jsonl", "output": "./b.jsonl"}, "--output is the file of the prompts"),
        ({"temperature": -1.0}, "--temperature is"),
        ({"temperature": float("nan")}, "--temperature is"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p is"),
        ({"top_p": 0.9}, "--top-p has no effect at --temperature 0"),
        ({"max_think_tokens": 0}, "--max-think-tokens is 0"),
        ({"max_answer_tokens": 0}, "--max-answer-tokens is 0"),
        ({"batch": 0}, "--batch is 0"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        check_settings(AskConfig("m", **settings))


def test_what_is_not_there(base: str, tmp_path: Path) -> None:
    for config in (
        AskConfig(str(tmp_path / "gone"), prompt="a"),
        AskConfig(base, prompt="a", chat_template=str(tmp_path / "gone.jinja")),
        AskConfig(base, prompts=str(tmp_path / "gone.jsonl"), output=str(tmp_path / "out.jsonl")),
    ):
        with pytest.raises(AlttrainError, match="gone"):
            ask(config)
