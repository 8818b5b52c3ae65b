"""Verdicts in the user's cache: found again under the same identity and no other, and never in the way."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.proof.keeping import cache_folder, file_of, keep_verdicts, kept_verdicts
from alttrain.engine.proof.trial import Verdict

IDENTITY: dict[str, Any] = {
    "gpu": "Card 9", "capability": "9.0", "driver": "580.1", "torch": "2.13.0", "triton": "3.9.0", "sources": "abc",
    "interpreted": False, "shapes": {"hidden_size": 8, "dtype": "bfloat16"},
}  # fmt: skip
VERDICTS = {"rope": Verdict("passed", "", 0.5), "adamw": Verdict("wrong", "param is off by 1.0e-01", 1.5)}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "alttrain" / "kernels"


def test_what_is_kept_is_found(cache: Path) -> None:
    assert kept_verdicts(IDENTITY) == {}
    assert keep_verdicts(IDENTITY, VERDICTS) == ""
    assert kept_verdicts(IDENTITY) == VERDICTS
    assert [file.suffix for file in cache.iterdir()] == [".json"], "nothing is left of the writing"


@pytest.mark.parametrize("part", IDENTITY)
def test_another_identity_finds_nothing(part: str) -> None:
    keep_verdicts(IDENTITY, VERDICTS)
    other: Any = {**IDENTITY["shapes"], "hidden_size": 16} if part == "shapes" else not IDENTITY[part]
    assert kept_verdicts(IDENTITY | {part: other}) == {}
    assert kept_verdicts(IDENTITY) == VERDICTS


def test_what_raised_is_not_kept() -> None:
    others = {"swiglu": Verdict("raised", "no compiler"), "rms_norm": Verdict("wrong", "off", torch_failed=True)}
    keep_verdicts(IDENTITY, VERDICTS | others)
    assert kept_verdicts(IDENTITY) == VERDICTS


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '"text"', '{"identity": {}}',
        json.dumps({"identity": IDENTITY}), json.dumps({"identity": IDENTITY, "verdicts": []}),
        json.dumps({"identity": IDENTITY, "verdicts": {"rope": {"outcome": "passed", "colour": "red"}}}),
        json.dumps({"identity": IDENTITY, "verdicts": {"rope": "passed"}}),
        json.dumps({"identity": IDENTITY | {"gpu": "another"}, "verdicts": {"rope": {"outcome": "passed"}}}),
    ],
)  # fmt: skip
def test_a_damaged_file_counts_as_none_and_is_written_anew(text: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    file_of(IDENTITY).write_text(text)
    assert kept_verdicts(IDENTITY) == {}
    assert keep_verdicts(IDENTITY, VERDICTS) == ""
    assert kept_verdicts(IDENTITY) == VERDICTS


def test_bytes_that_are_no_text_count_as_none(cache: Path) -> None:
    cache.mkdir(parents=True)
    file_of(IDENTITY).write_bytes(b"\xff\xfe\x00")
    assert kept_verdicts(IDENTITY) == {}


def test_an_outcome_that_nobody_knows_is_not_taken(cache: Path) -> None:
    cache.mkdir(parents=True)
    verdicts = {"rope": {"outcome": "splendid"}, "adamw": {"outcome": "passed"}}
    file_of(IDENTITY).write_text(json.dumps({"identity": IDENTITY, "verdicts": verdicts}))
    assert kept_verdicts(IDENTITY) == {"adamw": Verdict("passed")}


@pytest.mark.parametrize("in_the_way", ["cache", "cache/alttrain", "cache/alttrain/kernels"])
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, in_the_way: str) -> None:
    file = tmp_path / in_the_way
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("a file where a folder should be")
    said = keep_verdicts(IDENTITY, VERDICTS)
    assert said.startswith("The verdicts on the kernels are not kept, so that the next start tries them again")
    assert "Set XDG_CACHE_HOME" in said
    assert str(tmp_path) not in said
    assert kept_verdicts(IDENTITY) == {}


def test_nothing_half_written_is_left_where_the_disk_is_full(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "(No space left on device)" in keep_verdicts(IDENTITY, VERDICTS)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("named", ["", "relative/folder"])
def test_without_a_folder_of_its_own_it_is_that_of_the_home(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/alttrain/kernels")
