"""What the builder writes is what training reads: every shape of row comes back as the row that it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from alttrain.engine.data.columns import Format
from alttrain.engine.data.formats import parse_row
from alttrain.engine.data.sources import Item
from alttrain.engine.errors import DataError
from alttrain.engine.restructure.config import BenignConfig
from alttrain.engine.restructure.record import as_record, check_read_back
from alttrain.engine.restructure.structures import Structure, TemplateAssessor, restructure
from alttrain.engine.restructure.traces import read_ordinary
from alttrain.engine.trace.roles import Message, Row, Span

PUBLISHED = json.loads((Path(__file__).parents[2] / "assets/published.json").read_text(encoding="utf-8"))
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
EARLIER = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Add.", "name": "Ada"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "5", "tool_call_id": "c", "name": "add"},
    {"role": "assistant", "content": "Five.", "reasoning_content": "Two and three."},
    {"role": "user", "content": "Again."},
]
ROW = Row("a-1", "benign", (Message("user", "Ask."),), (Span("reasoning", "A."), Span("answer", "B.")), "a", "a:1")


def read_back(row: Row) -> Row:
    return parse_row(Item(row.where, 1, json.loads(json.dumps(as_record(row)))), "a", Format())[0]


@pytest.mark.parametrize("structure", get_args(Structure))
def test_every_shape_that_gives_a_trace_is_read_back(tmp_path: Path, structure: Structure) -> None:
    answer = {"role": "assistant", "content": "<think>A thought about it. More.</think>Six."}
    cases = [*PUBLISHED, {"name": "every key of a turn", "flags": {}, "row": {"messages": [*EARLIER, answer]}}]
    taken = []
    for number, case in enumerate(cases):
        file = tmp_path / f"set{number}.jsonl"
        file.write_text(json.dumps(case["row"]) + "\n", encoding="utf-8")
        for trace in read_ordinary(BenignConfig(str(file), **case["flags"])).traces:
            row = restructure(trace, structure, TemplateAssessor(), 0)
            assert read_back(row) == row, case["name"]
            taken.append(case["name"])
    assert len(taken) >= 20
    assert "every key of a turn" in taken
    assert "Alpaca with history" in taken


def test_a_turn_is_written_as_training_reads_it() -> None:
    messages = [Message("user", "p"), Message("assistant", "", {"tool_calls": [CALL]}), Message("tool", "5")]
    record = as_record(replace(ROW, messages=tuple(messages)))
    assert record["messages"] == [
        {"role": "user", "content": "p"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "5"},
    ]
    assert as_record(ROW)["prompt"] == "Ask."
    assert "prompt" not in as_record(replace(ROW, messages=(Message("user", "p", {"name": "Ada"}),)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spans": (Span("reasoning", "A."), Span("answer", "[THINK]B."))}, r"training would refuse .*\[THINK\]"),
        ({"spans": (Span("reasoning", "A.<think>"),)}, "training would refuse .*<think>"),
        ({"spans": ()}, "training would refuse"),
        ({"messages": (Message("user", "p", {"name": 7.5j}),)}, "JSON"),
        ({"messages": (Message("user", "p", {"mood": "glad"}),)}, "as another row"),
        ({"weight": 0.5}, "as another row"),
        ({"tool_calls": (CALL,)}, "as another row"),
    ],
)
def test_what_would_not_be_read_back_is_refused(change: dict[str, Any], reason: str) -> None:
    check_read_back(ROW)
    with pytest.raises(DataError, match=reason):
        check_read_back(replace(ROW, **change))
