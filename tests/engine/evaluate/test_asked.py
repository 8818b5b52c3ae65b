"""The output while it grows: what a later start keeps of it, what it refuses, and when two models are the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.data.model_folder import fetch_folder
from alttrain.engine.errors import ConfigError
from alttrain.engine.evaluate.asked import Answers, model_fingerprint

WITH = {"model": "m", "temperature": 0.0}
ASKED: dict[str, dict[str, Any]] = {id_: {"id": id_, "prompt": f"p {id_}"} for id_ in "abc"}


def answered(file: Path, *ids: str, **changes: Any) -> Answers:
    answers = Answers(file, WITH)
    answers.begin(ASKED, overwrite=False)
    for id_ in ids:
        answers.add({**ASKED[id_], "outcome": "answered", **changes})
    return answers


def again(file: Path, asked_with: dict[str, Any] | None = None, *, overwrite: bool = False) -> Answers:
    answers = Answers(file, asked_with or WITH)
    answers.begin(ASKED, overwrite=overwrite)
    return answers


def test_rows_are_kept_by_a_later_start_and_ordered_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "new" / "out.jsonl"
    answered(file, "c", "a")
    with file.open("a") as stream:
        stream.write('{"id": "b", "prom')  # killed while writing
    later = again(file)
    assert later.ids == {"a", "c"}
    assert file.read_text().count("\n") == 2
    later.add({**ASKED["b"], "outcome": "empty"})
    later.finish(["a", "b", "c"])
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert all(row["asked_with"] == WITH for row in rows)
    assert sorted(again(file).outcomes()) == ["answered", "answered", "empty"]


def test_rows_of_another_model_setting_or_prompt_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    answered(file, "a")
    before = file.read_bytes()
    for asked_with, said in (
        ({**WITH, "model": "other"}, "with model m, now other"),
        ({**WITH, "temperature": 1.0}, "with temperature 0.0, now 1.0"),
        ({**WITH, "seed": 1}, "with seed None, now 1"),
    ):
        with pytest.raises(ConfigError, match=f"--output .*out.jsonl:1: was asked {said}.*--overwrite"):
            again(file, asked_with)
    with pytest.raises(ConfigError, match="answers no prompt that is asked now"):
        Answers(file, WITH).begin({"b": ASKED["b"]}, overwrite=False)
    with pytest.raises(ConfigError, match="answers no prompt that is asked now"):
        Answers(file, WITH).begin({"a": {"id": "a", "prompt": "another"}}, overwrite=False)
    assert file.read_bytes() == before
    assert again(file, overwrite=True).ids == set()
    assert file.read_bytes() == b""


@pytest.mark.parametrize("line", ["not JSON", "7", '{"id": "a", "prompt": "p a", "response": "x"}'])
def test_another_programs_file_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match="no response that this program wrote"):
        again(file)
    assert file.read_text() == f"{line}\n"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output .*cannot be written"):
        again(tmp_path / "file" / "out.jsonl")


def test_which_folder_a_name_means(tmp_path: Path) -> None:
    assert fetch_folder(str(tmp_path), "MODEL") == tmp_path
    for name in ("nowhere", "./a/b", "a/b/c", "/gone"):
        with pytest.raises(ConfigError, match=r"no such folder\. Give a model folder, or a hub id"):
            fetch_folder(name, "MODEL")


def test_a_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "config.json").write_text("{}")
    (one / "model.safetensors").write_bytes(bytes(3 << 20))
    two = shutil.copytree(one, tmp_path / "two")
    (two / "README.md").write_text("a note")
    (tmp_path / "link").symlink_to(two)
    assert model_fingerprint(one) == model_fingerprint(two) == model_fingerprint(tmp_path / "link")
    found = {model_fingerprint(one)}
    for name, content in (
        ("model.safetensors", bytes((3 << 20) - 1) + b"x"),
        ("model.safetensors", bytes((3 << 20) + 1)),
        ("config.json", b"{ }"),
        ("chat_template.jinja", b"x"),
    ):
        (two / name).write_bytes(content)
        found.add(model_fingerprint(two))
    assert len(found) == 5
