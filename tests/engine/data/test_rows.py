"""Rows of several files: which are used, which are not, and the account of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.config import DataConfig
from alttrain.engine.data.columns import Format
from alttrain.engine.data.rows import read_rows, row_format
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.thinking import KNOWN, Thinking


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


def test_an_id_stands_once_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", row("y"), row("x"), row("y"))
    with pytest.raises(DataError) as error:
        read_rows((path,))
    assert str(error.value) == (
        f"{path}:3: the id 'y' stands at {path}:1 too; an id stands for one row of a file. Change one, or leave "
        "the ids unread with --data.ignore id."
    )
    assert [r.id for r in read_rows((path,), Format(ignored=frozenset({"id"}))).rows] == ["a-1", "a-2", "a-3"]


def test_files_with_the_same_ids_train_together(tmp_path: Path) -> None:
    """Each file counts from 0, as most do; every row keeps an id of its own."""
    (tmp_path / "sub").mkdir()
    files = [write(tmp_path / name, row("0"), row("1")) for name in ("a.jsonl", "b.jsonl", "sub/b.jsonl")]
    read = read_rows((*files, files[0]))
    ids = ["0", "1", "b/0", "b/1", f"{files[2]}/0", f"{files[2]}/1", "a/0", "a/1"]
    assert [r.id for r in read.rows] == ids
    without = [write(tmp_path / f"{folder}c.jsonl", row(None)) for folder in ("", "sub/")]
    assert len({r.id for r in read_rows(without).rows}) == 2


def test_a_row_of_weight_0_is_left_out_and_is_no_bad_row(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes.", "weight": 0}]
    path = write(tmp_path / "a.jsonl", row("x", weight=0), row("y", weight=0.5), {"id": "z", "messages": turns})
    read = read_rows((path,))
    assert [(r.id, r.weight) for r in read.rows] == [("y", 0.5)]
    assert read.skipped == [
        f"{path}:1: its weight is 0, so nothing of it is trained.",
        f"{path}:3: every turn of the assistant has the weight 0, so nothing of it is trained.",
    ]


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello?", "time": 5}, {"role": "assistant", "content": "Yes."}]
    path = write(tmp_path / "a.jsonl", row("x", score=1), row("y", score=2, note="n"), {"id": "z", "messages": turns})
    assert read_rows((path,)).unread == {"score": 2, "note": 1, "messages[].time": 1}
    assert read_rows((path,), Format(ignored=frozenset({"score", "time"}))).unread == {"note": 1}


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


def test_the_settings_say_how_rows_are_written() -> None:
    config = DataConfig(
        columns="prompt=q", think_open="[T]", think_close="[/T]", answer_open="<a>", answer_close="</a>", turns="all",
        ignore="x, y,", foreign_marks="keep", target_open="<|im_start|>think", target_close="<|im_start|>answer",
    )  # fmt: skip
    assert row_format(config) == Format(
        {"prompt": "q"}, Thinking("[T]", "[/T]"), ("<a>", "</a>"), KNOWN[1], "all", frozenset({"x", "y"}), True
    )
    assert row_format(DataConfig()) == Format()
    with pytest.raises(
        ConfigError, match=r"^--data\.think-(open|close) is empty: it must hold what (open|close)s the reasoning\.$"
    ):
        row_format(DataConfig(think_close=""))


def test_rows_of_every_format(asset_rows: Path) -> None:
    read = read_rows((str(asset_rows),))
    assert len(read.rows) == read.num_read == 30
    assert read.placed == {"listed": 22, "first_sentence": 4, "first_assessment": 3, "plain_text": 2}
    assert read.num_unsegmented == 5
    assert len({row.id for row in read.rows}) == 30
    assert {message.role for row in read.rows for message in row.messages} == {"system", "user", "assistant"}
    # An earlier turn is the template's to write, thoughts and all.
    turns = next(row for row in read.rows if row.id == "turns-thought").messages
    assert turns[1].content.endswith("</think>\n\nNo.")


def test_real_rows(shared_data: Path) -> None:
    star = read_rows((str(shared_data / "train/STAR-1.json"),))
    assert len(star.rows) == star.placed["first_sentence"] == 1000
    assert star.placed["first_assessment"] >= 950
    assert star.num_unsegmented == 0
    maths = shared_data / "train/benign_math_think_deepseekchat_460.jsonl"
    tagged = Format({"prompt": "question"}, answer_marks=("<answer>", "</answer>"))
    assert len(read_rows((str(maths),), tagged).rows) == 460
    with pytest.raises(
        DataError, match=r"460\.jsonl:1: the answer holds '<answer>' or '</answer>', .+ --data\.answer-open"
    ):
        read_rows((str(maths),), Format({"prompt": "question"}))
    with pytest.raises(DataError, match=r"460\.jsonl:1: has the columns prompt and question"):
        read_rows((str(maths),))
    dialogues = read_rows((str(shared_data / "train/nanochat_safety_accepted.jsonl"),))
    assert dialogues.num_unsegmented == len(dialogues.rows) == 936
