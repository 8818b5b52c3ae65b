"""Which prompts a file asks, what of a row goes to the output, and which rows are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.evaluate.config import ReadConfig
from alttrain.engine.evaluate.questions import read_questions

PLAIN = ReadConfig()
USER = {"role": "user", "content": "q"}
SYSTEM = {"role": "system", "content": "s"}
ANSWER = {"role": "assistant", "content": "a"}


def read(tmp_path: Path, *rows: Any, data: ReadConfig = PLAIN) -> Any:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_questions(str(file), data)


def test_every_shape_of_prompt(tmp_path: Path) -> None:
    rows = [
        {"id": 3, "label": "harmful", "source": "S", "prompt": " p\n", "response": "<think>A</think>B", "n": 1},
        {"question": "p"},
        {"instruction": "p", "label": 3},
        {"messages": [SYSTEM, USER]},
        {"messages": [USER, ANSWER]},
        {"messages": [USER, ANSWER, USER]},
    ]
    questions, skipped = read(tmp_path, *rows)
    assert skipped == []
    assert [question.kept for question in questions] == [
        {"id": "3", "label": "harmful", "source": "S", "prompt": " p\n"},
        {"id": "asked-2", "prompt": "p"},
        {"id": "asked-3", "prompt": "p"},
        {"id": "asked-4", "messages": [SYSTEM, USER]},
        {"id": "asked-5", "prompt": "q"},
        {"id": "asked-6", "messages": [USER, ANSWER, USER]},
    ]
    assert questions[0].messages == [{"role": "user", "content": " p\n"}]
    assert questions[0].not_read == ("n",)
    assert questions[4].not_read == ()
    assert "secret" not in repr(read(tmp_path, {"prompt": "secret"})[0])


def test_named_columns(tmp_path: Path) -> None:
    ((question,), _) = read(tmp_path, {"goal": "p", "nr": 8}, data=ReadConfig(columns="prompt=goal,id=nr"))
    assert (question.kept, question.not_read) == ({"id": "8", "prompt": "p"}, ())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"response": "a"}, "prompt is missing or null"),
        ({"messages": [USER, SYSTEM]}, "has no prompt"),
        ({"messages": [ANSWER]}, "has no prompt"),
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": "p", "messages": [USER]}, "has both messages and prompt"),
        ({"id": "x", "prompt": "other"}, r"the id 'x' stands at .*asked\.jsonl:1 too"),
        ("p", "not an object"),
    ],
)
def test_rows_that_cannot_be_asked(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"id": "x", "prompt": "p"}
    with pytest.raises(DataError, match=rf"asked\.jsonl:2: .*{reason}"):
        read(tmp_path, good, row)
    questions, skipped = read(tmp_path, good, row, data=ReadConfig(on_bad_row="skip"))
    assert (len(questions), len(skipped)) == (1, 1)


def test_a_file_without_a_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no prompts"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"holds no prompts; the first row: .*prompt is missing"):
        read(tmp_path, {"a": 1}, data=ReadConfig(on_bad_row="skip"))
