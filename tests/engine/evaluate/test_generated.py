"""Reading what models wrote, in every shape of row, and which rows of two files belong together."""

import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.evaluate.config import GeneratedConfig
from alttrain.engine.evaluate.generated import GeneratedRow, normalised, pair, read_generated
from alttrain.engine.trace.outcomes import Generated

AUTO = GeneratedConfig()


def read(tmp_path: Path, *rows: Any, config: GeneratedConfig = AUTO, name: str = "rows") -> list[GeneratedRow]:
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_generated(str(file), config).rows


def outcomes(rows: list[GeneratedRow]) -> list[str]:
    return [row.generated.outcome for row in rows]


def test_shapes_of_rows(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "p"}
    rows = read(
        tmp_path,
        {"prompt": "p", "response": "<think>A</think>B"},
        {"messages": [turn], "response": "A</think>B"},
        {"messages": [turn, {"role": "assistant", "content": "<think>A</think>B"}]},
        {"question": "p", "spans": [{"role": "reasoning", "text": "A"}, {"role": "answer", "text": "B"}]},
        {"id": 7, "question": "p", "spans": [{"role": "reasoning", "text": "A"}]},
        {"id": "x", "text": "A"},
        {"instruction": "p", "response": ""},
    )
    assert [row.id for row in rows] == ["rows-1", "rows-2", "rows-3", "rows-4", "7", "x", "rows-7"]
    assert outcomes(rows) == ["answered"] * 4 + ["empty", "unfinished", "empty"]
    assert [row.generated.think for row in rows] == ["A"] * 6 + [""]
    assert [row.answer for row in rows] == ["B"] * 4 + [None] * 3
    assert {row.prompt for row in rows} == {(("user", "p"),), None}


def test_a_text_without_marks_is_what_the_rows_or_the_flag_say(tmp_path: Path) -> None:
    bare, closed, marked = (
        {"prompt": str(number), "response": text}
        for number, text in enumerate(("A.", "A.</think>B", "<think>A.</think>B"))
    )
    assert outcomes(read(tmp_path, bare)) == ["no reasoning"]
    assert outcomes(read(tmp_path, bare, closed)) == ["unfinished", "answered"], "the template opens it"
    assert outcomes(read(tmp_path, bare, closed, marked)) == ["no reasoning", "answered", "answered"]
    assert outcomes(read(tmp_path, bare | {"opened": True}, marked)) == ["unfinished", "answered"]
    assert outcomes(read(tmp_path, bare | {"opened": False}, closed)) == ["no reasoning", "answered"]
    assert outcomes(read(tmp_path, bare, config=GeneratedConfig(opened="yes"))) == ["unfinished"]
    assert outcomes(read(tmp_path, bare, closed, config=GeneratedConfig(opened="no"))) == ["no reasoning", "answered"]


def test_reasoning_that_was_closed_by_force_is_told_apart(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": "A</think>B", "outcome": "forced"}
    (found,) = read(tmp_path, row)
    assert (found.generated.outcome, found.answer) == ("forced", "B")
    (found,) = read(tmp_path, row | {"response": "A</think>B</think>"})
    assert found.generated.outcome == "doubled", "it is the response that is measured"


def test_marks_of_other_families(tmp_path: Path) -> None:
    config = GeneratedConfig(think_open="<r>", think_close="</r>")
    assert outcomes(read(tmp_path, {"prompt": "p", "response": "<r>A</r>B"}, config=config)) == ["answered"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "p"}, "has no spans and no response"),
        ({"response": "A"}, "prompt is missing or null"),
        ({"prompt": "p", "response": 7}, "response is a number"),
        ({"prompt": "p", "response": "A", "id": True}, "id is true or false"),
        (
            {"messages": [{"role": "user", "content": None}], "response": "A"},
            r"messages\[0\]\.content is missing, null or empty",
        ),
        (
            {"messages": [{"role": "user", "content": "p"}], "prompt": "q", "response": "A"},
            "has both messages and prompt",
        ),
        ([], "not an object"),
    ],
)
def test_rows_that_cannot_be_measured(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"prompt": "q", "response": "A"}
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{reason}"):
        read(tmp_path, good, row)
    file = str(tmp_path / "rows.jsonl")
    skipping = read_generated(file, GeneratedConfig(on_bad_row="skip"))
    assert (len(skipping.rows), skipping.num_read, len(skipping.skipped)) == (1, 2, 1)


def test_an_id_has_one_prompt(tmp_path: Path) -> None:
    """Further responses to one prompt may share its id; another prompt may not, and 7 and "7" are one id."""
    rows = read(tmp_path, {"id": 7, "prompt": "p", "response": "A"}, {"id": "7", "prompt": "p ", "response": "B"})
    assert [row.id for row in rows] == ["7", "7"]
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the id '7' has another prompt there: .*rows\.jsonl:1\."):
        read(tmp_path, {"id": 7, "prompt": "p", "response": "A"}, {"id": "7", "prompt": "q", "response": "A"})
    with pytest.raises(DataError, match="stands there too"):
        read(tmp_path, {"id": "x", "text": "A"}, {"id": "x", "text": "A"})


def test_a_file_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read(tmp_path)
    with pytest.raises(DataError, match="none of the 1 rows can be used"):
        read(tmp_path, {"prompt": "p"}, config=GeneratedConfig(on_bad_row="skip"))


def row(id_: str, prompt: str | None) -> GeneratedRow:
    turns = None if prompt is None else (("user", normalised(prompt)),)
    return GeneratedRow(id_, "", turns, "f:1", Generated("empty", "", ""))


def test_rows_pair_by_prompt_then_by_id_then_in_order() -> None:
    before = [row("1", "p"), row("2", "p"), row("3", "p"), row("4", "q"), row("x", None)]
    after = [row("8", "p"), row("3", "p"), row("4", "r"), row("9", " q\u00a0"), row("x", None), row("1", None)]
    assert pair(before, after).indices == [(0, 0), (2, 1), (3, 3), (4, 4)]
    assert len(set(pair(before, after).keys)) == 3
    assert pair([], after).indices == []


def test_prompts_are_compared_without_their_spacing_and_composed() -> None:
    assert normalised(" cafe\u0301 \n\n au\u00a0lait ") == "café au lait"
    assert normalised("A") != normalised("a")


def test_a_response_in_any_shape_is_measured(tmp_path: Path) -> None:
    """The reader is training's: reasoning may stand apart, and a prompt in turns."""
    file = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "p"}]
    rows = [
        {"messages": [*turns, {"role": "assistant", "content": "B", "reasoning_content": "A"}]},
        {"prompt": turns, "completion": [{"role": "assistant", "content": "<think>A</think>B"}]},
        {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "<think>A</think>B"}]},
        {"prompt": "p", "response": ""},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = read_generated(str(file), GeneratedConfig())
    assert [row.generated.outcome for row in read.rows] == ["answered"] * 3 + ["empty"]
    assert {(row.generated.think, row.generated.answer) for row in read.rows[:3]} == {("A", "B")}
    assert {row.prompt for row in read.rows} == {(("user", "p"),)}


def test_reasoning_in_the_marks_of_another_family_is_no_answer_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "p", "response": "<think>A</think>B"}, {"prompt": "q", "response": "[THINK]A[/THINK]B"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"rows\.jsonl:2: .+ --data\.think-open '\[THINK\]' --data\.think-close '\[/THINK\]'"
    ):
        read_generated(str(file), GeneratedConfig())
    assert len(read_generated(str(file), GeneratedConfig(on_bad_row="skip")).rows) == 1


@pytest.mark.parametrize(
    ("value", "label", "unknown"),
    [
        ("harmful", "harmful", {}),
        ("Harmful", "harmful", {}),
        ("unsafe", "harmful", {}),
        ("vanilla_harmful", "harmful", {}),
        (["benign"], "benign", {}),
        ("Safe.", "benign", {}),
        (1, "", {"1": 2}),
        (False, "", {"False": 2}),
        ("odd", "", {"'odd'": 2}),
        ("rather safe, I think", "", {"other text": 2}),
        ("", "", {}),
        (None, "", {}),
    ],
)
def test_labels_in_any_spelling(tmp_path: Path, value: Any, label: str, unknown: dict[str, int]) -> None:
    file = tmp_path / "rows.jsonl"
    spans = [{"role": "reasoning", "text": "A"}]
    rows = [{"label": value, "prompt": "p", "response": "A"}, {"label": value, "prompt": "p", "spans": spans}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = read_generated(str(file), GeneratedConfig())
    assert [row.label for row in read.rows] == [label, label]
    assert (read.unknown_labels, read.unread) == (unknown, {})


def test_a_label_of_another_name_is_named(tmp_path: Path) -> None:
    rows = [{"is_safe": True, "prompt": "p", "response": "A"}, {"is_safe": False, "prompt": "q", "response": "A"}]
    found = read(tmp_path, *rows, config=GeneratedConfig(columns="label=is_safe"))
    assert [row.label for row in found] == ["benign", "harmful"]


def test_what_nobody_reads_is_counted(tmp_path: Path) -> None:
    """The keys that recipes/ask.py writes are known, in its own rows."""
    file = tmp_path / "rows.jsonl"
    own = {
        "opened": False,
        "outcome": "answered",
        "finish": "stop",
        "num_tokens": 3,
        "think": "A",
        "asked_with": {"a": 1},
    }
    rows = [
        {"prompt": "p", "response": "A", "source": "s", "Label": "harmful", "is_safe": True},
        {"prompt": "p", "spans": [{"role": "reasoning", "text": "A"}], "is_safe": False, "finish": "stop"},
        {"messages": [{"role": "user", "content": "p", "mood": "glad"}], "response": "A"},
        {"prompt": "p", "response": "A", "answer": "A", **own},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = read_generated(str(file), GeneratedConfig())
    assert read.unread == {"Label": 1, "is_safe": 2, "finish": 1, "messages[].mood": 1}
