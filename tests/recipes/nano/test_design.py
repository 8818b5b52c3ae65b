"""A study's folder: free, or the same study's; settings, versions and code that differ are refused by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import ConfigError
from alttrain.nano import design
from alttrain.nano.config import StudyConfig, WorldNumbers
from alttrain.nano.design import DESIGN, begin, check_folder, code_digest, read_design


@pytest.fixture
def begun(tmp_path: Path) -> StudyConfig:
    config = StudyConfig(output=str(tmp_path / "study"))
    check_folder(config)
    begin(config)
    return dataclasses.replace(config, resume=True)


def refusal(config: StudyConfig) -> str:
    with pytest.raises(ConfigError) as error:
        check_folder(config)
    return str(error.value).replace(config.output, "OUT")


def test_a_study_goes_on_only_when_told_to(begun: StudyConfig) -> None:
    check_folder(begun)
    check_folder(dataclasses.replace(begun, output=begun.output + "/../study"))
    assert refusal(dataclasses.replace(begun, resume=False)) == (
        "--output OUT: holds a study. Go on with it by --resume, give another folder, or remove this one."
    )


def test_what_was_begun_is_kept(begun: StudyConfig) -> None:
    before = (Path(begun.output) / DESIGN).read_bytes()
    begin(dataclasses.replace(begun, seeds=9))
    assert (Path(begun.output) / DESIGN).read_bytes() == before
    assert read_design(Path(begun.output))["settings"]["seeds"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 2}, "--seeds is 2, and the study in OUT was begun with 1. Take that value, or give another folder."),
        ({"arms": ("full",)}, "--arms is ['full'], and the study in OUT was begun with ['no-assessment', 'full']."),
        ({"world": WorldNumbers(hops=1)}, "--world.hops is 1, and the study in OUT was begun with 2."),
        ({"from_scratch": True}, "--from-scratch is True, and the study in OUT was begun with False."),
    ],
)
def test_other_settings_are_named_by_their_flags(begun: StudyConfig, changes: dict[str, Any], message: str) -> None:
    assert refusal(dataclasses.replace(begun, **changes)).startswith(message)


def test_other_versions_are_named(begun: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = design.library_versions()
    monkeypatch.setattr(design, "library_versions", lambda: now | {"torch": "9.9"})
    assert refusal(begun).startswith(f"--output OUT: its runs are of torch {now['torch']}, and this is 9.9. Give ")


def test_other_code_is_refused(begun: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(design, "code_digest", lambda: "another")
    assert refusal(begun).startswith("--output OUT: its runs are of other code than this (commit ")


def test_the_code_is_every_file_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(design, "find_spec", lambda name: Spec)
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("a = 1\n")
    first = code_digest()
    (tmp_path / "room" / "a.pyc").write_text("of no interest")
    assert code_digest() == first
    (tmp_path / "room" / "a.py").rename(tmp_path / "room" / "b.py")
    second = code_digest()
    (tmp_path / "room" / "b.py").write_text("a = 2\n")
    assert len({first, second, code_digest()}) == 3


@pytest.mark.parametrize("resume", [False, True])
def test_other_folders_are_not_taken(tmp_path: Path, resume: bool) -> None:
    folder = tmp_path / "study"
    config = StudyConfig(output=str(folder), resume=resume)
    folder.write_text("")
    assert refusal(config) == "--output OUT: is a file; give a folder."
    folder.unlink()
    folder.mkdir()
    check_folder(config)
    for content in ("not JSON", "[]", json.dumps({"settings": {}})):
        (folder / DESIGN).write_text(content)
        assert refusal(config).startswith(f"--output OUT: not empty, and without the {DESIGN} of a study. Give another")
