"""Which traces stay: what counts as the same prompt, and in which files it is found."""

from dataclasses import replace
from pathlib import Path

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.restructure.curate import choose, curate, normalise, read_texts
from alttrain.engine.restructure.structures import Trace
from alttrain.engine.trace.roles import Message

BENIGN = Trace(
    "made-2", "benign", (), (Message("user", "What is 2 + 2?"),), "Two and two.", "4", "made", "made.jsonl:2"
)
OTHER = replace(BENIGN, id="made-1", messages=(Message("user", "What is 2 + 3?"),), where="made.jsonl:1")


@pytest.mark.parametrize(
    ("text", "same"),
    [("What  is\n2 + 2?", "what is 2 + 2"), ("Ｗhat？！", "what"), ("Straße.", "STRASSE"), ("Why?) .", "why")],
)
def test_normalised_prompts_disregard_form(text: str, same: str) -> None:
    assert normalise(text) == normalise(same)


def test_prompts_that_differ_stay_apart() -> None:
    assert normalise("What is 2 + 2?") != normalise("What is 2 + 3?")
    assert normalise("?!") == ""


def test_curate_drops_duplicates_and_avoided_prompts() -> None:
    again = replace(BENIGN, id="made-3", where="made.jsonl:3")
    kept, dropped = curate([OTHER, BENIGN, again], {"a.csv": {"what is 2 + 2"}, "b.csv": {"what is 2 + 2"}})
    assert kept == [OTHER]
    assert [(one.where, one.avoided_in) for one in dropped] == [("made.jsonl:2", "a.csv"), ("made.jsonl:3", "")]
    assert dropped[1].reason == "its prompt has come before"


def test_a_smaller_choice_is_the_beginning_of_a_larger_one() -> None:
    traces = [replace(BENIGN, id=f"made-{number}") for number in range(20)]
    chosen = choose(traces, 12, seed=3)
    assert choose(traces[::-1], 5, seed=3) == chosen[:5]
    assert choose(traces, 99, seed=3)[:12] == chosen
    assert choose(traces, 12, seed=4) != chosen
    assert chosen != traces[:12]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,goal\n1,"Boil an\negg"\n'),
        ("a.tsv", 'Boil an egg.\t"3\n'),
        ("a.jsonl", '{"turns": [{"content": "Boil an egg"}]}\n\n'),
        ("a.json", '[{"id": 1, "prompt": "boil an EGG!"}]'),
    ],
)
def test_texts_to_avoid_are_found_in_every_kind_of_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert "boil an egg" in read_texts(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "cannot be read"),
        ("a.csv", b"goal\n\xff\xfe\n", "not UTF-8"),
        ("a.jsonl", b'{"goal": \n', "a.jsonl:1: not JSON"),
        ("a.txt", b"egg", "its name ends in '.txt'"),
    ],
)
def test_files_to_avoid_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_texts(str(tmp_path / name))
