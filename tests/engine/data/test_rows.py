"""Rows of several files: which are used, which are not, and the account of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.data.rows import read_rows
from alttrain.engine.errors import ConfigError, DataError


def row(name: str | None = "a", **changes: Any) -> dict[str, Any]:
    return {"id": name, "prompt": "Hello?", "spans": [{"role": "answer", "text": "Yes."}], **changes}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def test_files_are_read_in_order(tmp_path: Path) -> None:
    foreign = {"question": "Hello?", "response": "It asks. It is harmless.</think>Yes."}
    first = write(tmp_path / "b.jsonl", row("x"), foreign, {**foreign, "response": "Yes."})
    second = write(tmp_path / "a.jsonl", row("y"))
    read = read_rows((first, second))
    assert [r.id for r in read.rows] == ["x", "b-2", "b-3", "y"]
    assert read.num_read == 4
    assert read.placed == {"listed": 2, "first_sentence": 1, "first_assessment": 1}
    assert read.num_unsegmented == 1


def test_an_id_stands_once_in_all_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", row("x")), write(tmp_path / "b.jsonl", row("y"), row("x"))
    with pytest.raises(DataError) as error:
        read_rows((first, second))
    assert str(error.value) == f"{second}:2: the id 'x' stands at {first}:1 too; ids are unique. Change one."


def test_skipped_rows_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, row("x"), row("y", prompt=""), row("x"), row("z"))
    path.write_text("{\n" + path.read_text())
    read = read_rows((str(path),), on_bad_row="skip")
    assert [r.id for r in read.rows] == ["x", "z"]
    assert [reason.partition(": ")[0] for reason in read.skipped] == [f"{path}:{line}" for line in (1, 3, 4)]
    with pytest.raises(DataError, match=r"a\.jsonl:1: not JSON"):
        read_rows((str(path),))


def test_a_file_without_rows_and_one_without_good_rows(tmp_path: Path) -> None:
    empty, bad = write(tmp_path / "empty.jsonl"), write(tmp_path / "bad.jsonl", row(prompt=""), 5)
    with pytest.raises(DataError) as error:
        read_rows((empty,), on_bad_row="skip")
    assert str(error.value) == f"{empty}: holds no rows. Give a file with at least one."
    with pytest.raises(DataError) as error:
        read_rows((bad,), on_bad_row="skip")
    assert str(error.value).startswith(
        f"{bad}: none of the 2 rows read can be used; the first: {bad}:1: prompt is empty"
    )


def test_a_delimiter_must_not_be_empty(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^--data\.think-(open|close) is empty: it must hold what (open|close)s the reasoning\.$"
    ):
        read_rows((write(tmp_path / "a.jsonl", row()),), think_close="")


def test_rows_of_every_format(asset_rows: Path) -> None:
    read = read_rows((str(asset_rows),))
    assert len(read.rows) == read.num_read == 30
    assert read.placed == {"listed": 22, "first_sentence": 4, "first_assessment": 3, "plain_text": 2}
    assert read.num_unsegmented == 5
    assert len({row.id for row in read.rows}) == 30
    assert {message.role for row in read.rows for message in row.messages} == {"system", "user", "assistant"}
    # An earlier turn keeps its answer alone.
    turns = next(row for row in read.rows if row.id == "turns-thought").messages
    assert [message.content for message in turns] == ["Is 91 prime?", "No.", "And 97?"]


def test_real_rows(shared_data: Path) -> None:
    star = read_rows((str(shared_data / "train/STAR-1.json"),))
    assert len(star.rows) == star.placed["first_sentence"] == 1000
    assert star.placed["first_assessment"] >= 950
    assert star.num_unsegmented == 0
    maths = shared_data / "train/benign_math_think_deepseekchat_460.jsonl"
    assert len(read_rows((str(maths),), "prompt=question").rows) == 460
    with pytest.raises(DataError, match=r"460\.jsonl:1: has the columns prompt and question"):
        read_rows((str(maths),))
    dialogues = read_rows((str(shared_data / "train/nanochat_safety_accepted.jsonl"),))
    assert dialogues.num_unsegmented == len(dialogues.rows) == 936
