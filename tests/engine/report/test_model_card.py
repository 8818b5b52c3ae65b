"""The README of an exported model: what it states, as the hub's Markdown, and names that do nothing."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from alttrain.engine.config import DataConfig, LossConfig, ModelConfig, RunConfig, ScheduleConfig
from alttrain.engine.report.model_card import model_card

Reader = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))["Reader"]
HOSTILE = "<script>alert(1)</script> & | `<b>`\n# x: y"
CONFIG = RunConfig(
    model=ModelConfig(path="some-org/some-model"),
    data=DataConfig(train=("rows.jsonl",)),
    loss=LossConfig(assessment=2.0),
    schedule=ScheduleConfig(epochs=3),
)
RECORD: dict[str, Any] = {
    "num_steps": 20,
    "world_size": 2,
    "versions": {"torch": "2.13.0", "deepspeed": "0.19.8"},
    "data": {
        "files": ["rows.jsonl"],
        "train": {
            "rows": 30,
            "examples": 29,
            "structures": {},
            "forms": {"understanding > assessment > reasoning > answer": 27, "unsegmented": 2},
            "placed": {"listed": 30},
            "skipped": [],
        },
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, RECORD)
    lines = [{"step": 1, "loss": 7.21436}, {"step": 20, "loss": 4.0274}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    lines = [{"step": 0, "nll": {"answer": 8.3724}}, {"step": 20, "nll": {"answer": 4.0367}}]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return tmp_path


def write(folder: Path, record: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")


def front_matter(card: str) -> Any:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_the_card_states(folder: Path) -> None:
    card = model_card(CONFIG, folder)
    assert front_matter(card) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "some-org/some-model",
        "tags": ["alttrain", "safety", "reasoning"],
    }
    assert "# Aligned by reasoning structure\n" in card
    assert "fine-tuning of `some-org/some-model` with alttrain. 27 of 29 traces have the form understanding, " in card
    assert "| forms | understanding &gt; assessment &gt; reasoning &gt; answer 27, unsegmented 2 |" in card
    assert "| length | 3 epochs, 20 optimizer steps of 16 examples |" in card
    assert "| seed, ranks, ZeRO stage | 0, 2, " in card
    assert "| versions | torch 2.13.0, deepspeed 0.19.8 |" in card
    weights = LossConfig(assessment=2.0).weights()
    assert f"| {' | '.join(weights)} |\n|{' --- |' * len(weights)}\n" in card
    assert f"| {' | '.join(f'{weight:g}' for weight in weights.values())} |" in card
    assert "Files: `rows.jsonl`." in card
    assert "| rows | 30 |\n| examples | 29 |\n" in card
    assert "| placed | listed 30 |\n| skipped | 0 |" in card
    assert "Training loss 7.2144 at step 1, 4.0274 at step 20." in card
    assert "| role | step 0 | step 20 |\n| --- | --- | --- |\n| answer | 8.3724 | 4.0367 |" in card
    assert card.endswith("Safety and capability have to be measured on this model before it is used.\n")


def test_a_folder_and_random_weights_are_no_base_model(folder: Path) -> None:
    here = replace(CONFIG, model=ModelConfig(path=str(folder)))
    assert "base_model" not in front_matter(model_card(here, folder))
    card = model_card(replace(CONFIG, model=ModelConfig(path="some-org/x", random_init=True)), folder)
    assert "base_model" not in front_matter(card)
    assert "fine-tuning of random weights with alttrain" in card


def test_one_evaluation_or_none_is_no_table(folder: Path) -> None:
    (folder / "eval.jsonl").unlink()
    assert "| role |" not in model_card(CONFIG, folder)


def test_names_do_nothing(folder: Path) -> None:
    train = RECORD["data"]["train"] | {"placed": {HOSTILE: 1}}
    record = RECORD | {"versions": {"torch": HOSTILE}, "data": {"files": [HOSTILE], "train": train}}
    write(folder, record)
    card = model_card(replace(CONFIG, model=ModelConfig(path=HOSTILE)), folder)
    assert front_matter(card)["base_model"] == HOSTILE
    shown = " ".join(HOSTILE.split())
    assert f"fine-tuning of ``{shown}`` with alttrain" in card
    assert f"Files: ``{shown}``." in card
    in_cell = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \\| \\`&lt;b&gt;\\` # x: y"
    assert f"| versions | torch {in_cell} |" in card
    assert f"| placed | {in_cell} 1 |" in card


def test_a_reader_of_markdown_sees_names_and_no_markup(folder: Path) -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    train = RECORD["data"]["train"] | {"placed": {HOSTILE: 1}}
    write(folder, RECORD | {"versions": {"torch": HOSTILE}, "data": {"files": [HOSTILE], "train": train}})
    card = model_card(replace(CONFIG, model=ModelConfig(path=HOSTILE)), folder)
    page = Reader(markdown.render(card.split("---\n", 2)[2]))
    assert page.elements["table"] == 4
    assert page.elements["code"] == 3
    assert not page.elements.keys() & {"script", "b"}
    assert page.text.count(" ".join(HOSTILE.split())) == 4


def test_a_resumed_run_says_what_was_not_as_before(folder: Path) -> None:
    starts = [{"step": 0, "changes": []}, {"step": 9, "changes": ["torch 2.13.1, before 2.13.0"]}]
    write(folder, RECORD | {"starts": starts})
    assert "| resumed after step 9 | torch 2.13.1, before 2.13.0 |" in model_card(CONFIG, folder)


def card_of(folder: Path, **train: Any) -> str:
    write(folder, RECORD | {"data": {"files": ["a.jsonl"], "train": RECORD["data"]["train"] | train}})
    return model_card(CONFIG, folder)


def test_a_control_is_called_a_control(folder: Path) -> None:
    """Also where its traces have AltTrain's form, as those of no-conditional, and where it is mixed with others."""
    card = card_of(folder, structures={"full": 9, "no-conditional": 20})
    assert "# A control of AltTrain: no-conditional\n" in card
    assert "made as a control of AltTrain (`no-conditional` in 20 rows), to be compared with it" in card
    assert "Aligned by" not in card
    assert front_matter(card)["tags"] == ["alttrain-control"]
    assert "# Aligned by reasoning structure\n" in card_of(folder, structures={"full": 29})


def test_nothing_is_called_aligned_whose_traces_have_another_form(folder: Path) -> None:
    card = card_of(folder, forms={"understanding > reasoning > assessment > answer": 20, "answer": 9})
    assert "# Fine-tuned with alttrain\n" in card
    assert "No trace has the form understanding, assessment, reasoning that depends on it, answer (AltTrain" in card
    assert front_matter(card)["tags"] == ["alttrain"]
