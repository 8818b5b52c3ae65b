"""Texts of evaluation sets: what counts as the same, which cells are compared, and in which files they are found."""

import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.restructure.avoid import Avoided, forms_of, normalise, read_avoided
from alttrain.engine.trace.roles import Message


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("What  is\n2 + 2?", "what is 2 + 2"),
        ("Ｗhat？！", "what"),
        ("Straße.", "STRASSE"),
        ("Why?) .", "why"),
        ("Don’t say “no” to ‘me’", "don't say \"no\" to 'me'"),
        ("Say ``no''", 'Say "no"'),
        ("Say «no» ‹now›", 'Say "no" "now"'),
        ("rock\u2019n\u2019roll", "rock'n'roll"),
        ("5′ 6″", "5' 6\""),
        ("e\u2011mail — now", "e-mail - now"),
        ("e‐mail–now", "E-Mail-Now"),
        ("yes — no", "yes--no"),
        ("5 − 3", "5 - 3"),
        ("zero\u200bwidth\ufeff \u2060here", "zerowidth here"),
        ("soft\u00adware", "software"),
        ("a\u00a0b\u3000c\u2028d", "a b c d"),
        ("NUL\x00 here", "nul here"),
        ("wait…", "wait..."),
        ("ﬁre", "fire"),
        ("e\u0301", "é"),
        ("heart ❤\ufe0f", "heart ❤"),
        ('"Quoted whole."', "Quoted whole"),
    ],
)
def test_form_is_disregarded(text: str, same: str) -> None:
    assert normalise(text) == normalise(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [("What is 2 + 2?", "What is 2 + 3?"), ("?", "!"), ("cant", "can't"), ("resume", "résumé"), ("5 - 3", "5 + 3")],
)
def test_wording_is_not(text: str, other: str) -> None:
    assert normalise(text) != normalise(other)


def test_nothing_becomes_empty_but_white_space() -> None:
    assert normalise("?!") == "?!"
    assert normalise(" \u200b\n") == ""


def test_time_is_linear() -> None:
    started = time.perf_counter()
    for piece in ("?", "'", "- ", " ", "a.", "\u200b", "“"):
        normalise(piece * (200_000 // len(piece)))
    assert time.perf_counter() - started < 10


SYSTEM, FIRST, REPLY, LAST = (
    Message("system", "Be kind."),
    Message("user", "How do I boil an egg on a fire?"),
    Message("assistant", "In water."),
    Message("user", "Go on."),
)


def test_the_forms_of_a_prompt() -> None:
    assert forms_of([LAST]) == {"go on"}
    assert forms_of([SYSTEM, LAST]) == {"go on", "be kind. go on"}
    assert forms_of([SYSTEM, FIRST, REPLY, LAST]) == {
        "how do i boil an egg on a fire",
        "how do i boil an egg on a fire? in water. go on",
        "be kind. how do i boil an egg on a fire? in water. go on",
        "be kind. how do i boil an egg on a fire",
        "be kind. go on",
    }


def read(tmp_path: Path, name: str, content: str | bytes) -> Avoided:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_avoided(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,goal\n1,"Boil an\negg"\n'),
        ("a.csv", "id;goal\n1;Boil an egg\n"),
        ("a.csv", "id\tgoal\n1\tBoil an egg\n"),
        ("a.csv", "id|goal\n1|Boil an egg\n"),
        ("a.csv", "goal\nBoil an egg.\nAnother, with a comma\n"),
        ("a.csv", "id,goal\n1,Boil an egg\n".encode("utf-16")),
        ("a.CSV", "id,goal\r\n1,Boil an egg\r\n"),
        ("a.tsv", 'Boil an egg.\t"3\n'),
        ("a.txt", "Boil an egg!\nNow, boil two.\n"),
        ("a.txt", "Boil an egg\n"),
        ("a.txt", "Boil,an egg,now\nBoil an egg,x,y\n"),
        ("a.csv.gz", gzip.compress(b"id,goal\n1,Boil an egg\n", mtime=0)),
        ("a.jsonl", '{"turns": [{"content": "Boil an egg"}]}\n\n'),
        ("a.json", '[{"id": 1, "prompt": "boil an EGG!"}]'),
        ("a.jsonl", '{"instruction": "Boil", "input": "an egg"}\n'),
        ("a.csv", "instruction,input\nBoil,an egg\n"),
        ("a.csv", 'id,turns\n1,"[{""role"": ""user"", ""content"": ""Boil an egg""}]"\n'),
    ],
)
def test_texts_are_found_in_every_kind_of_file(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert "boil an egg" in read(tmp_path, name, content).texts


def test_parquet_is_read_too(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"turns": [[{"content": "Boil an egg"}]]}), tmp_path / "a.parquet")
    assert read_avoided(str(tmp_path / "a.parquet")) == Avoided(frozenset({"boil an egg"}), 1, 0)


def test_cells_of_any_size_are_compared(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", f'id,goal\n1,Boil an egg\n2,"{"long, " * 40_000}"\n')
    assert found.num_cells == 2
    assert max(map(len, found.texts)) > 200_000
    assert csv.field_size_limit() == 131_072


def test_words_of_labels_are_left_aside_and_counted(tmp_path: Path) -> None:
    """A training prompt that is the one word Kill or Safe is in no evaluation set because a label says so."""
    rows = "".join(
        f"{n},Is this prompt number {n} fine?,{'safe' if n % 2 else 'unsafe'},kind {n % 3}\n" for n in range(40)
    )
    found = read(tmp_path, "a.csv", f"id,prompt,label,how\n{rows}")
    assert (found.num_cells, found.num_short) == (40, 80)
    assert not {"safe", "unsafe", "kind 1", "label", "7"} & found.texts
    records = [{"prompt": f"Hi {n}", "label": "safe", "meta": {"category": "hi"}} for n in range(3)]
    found = read(tmp_path, "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert found == Avoided(frozenset({"hi 0", "hi 1", "hi 2"}), 3, 6)


def test_short_prompts_are_compared_all_the_same(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", "prompt\n" + "Hi!\n" * 9).texts == {"hi"}
    assert read(tmp_path, "a.csv", "题目\n三加五等于几？\n").texts == {"题目", "三加五等于几"}
    assert read(tmp_path, "a.csv", "id,sum\n1,2+2=\n2,3+3=\n").texts == {"2+2=", "3+3="}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: cannot be read"),
        ("none.jsonl", None, "none.jsonl: no such file"),
        ("a.csv", b"goal\n\xff\xfe\n", "a.csv:2: not UTF-8"),
        ("a.csv", b'id,goal\n1,"open\n', "a.csv:2: a cell begins with a quote"),
        ("a.csv", b"id,goal\n1,Boil, now\n", "a.csv:2: has 3 cells and the first row 2"),
        ("a.csv", b"", "holds no text to compare with"),
        ("a.csv", b"id,goal\n", "holds no text to compare with"),
        ("a.csv", b"id,goal\n1,2\n", "holds no text to compare with"),
        ("a.jsonl", b"", "holds no text to compare with"),
        ("a.jsonl", b'{"goal": \n', "a.jsonl:1: not JSON"),
        ("a.pdf", b"egg", "its name ends in '.pdf'"),
    ],
)
def test_files_that_cannot_be_compared(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_avoided(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "prompts"),
    [("xstest_prompts.csv", 450), ("advbench_harmful_behaviors.csv", 520), ("gsm8k_test.jsonl", 1319)],
)
def test_every_prompt_of_real_sets_is_compared(shared_data: Path, name: str, prompts: int) -> None:
    (file,) = shared_data.glob(f"*/{name}")
    rows: list[dict[str, Any]]
    text = file.read_text(encoding="utf-8")
    rows = (
        list(csv.DictReader(text.splitlines())) if name.endswith(".csv") else list(map(json.loads, text.splitlines()))
    )
    asked = {normalise(row.get("prompt") or row.get("goal") or row["question"]) for row in rows}
    assert len(rows) == prompts
    assert asked <= read_avoided(str(file)).texts
