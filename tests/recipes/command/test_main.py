"""The command `alttrain`: which program a word starts, and what it says to a word that it does not know."""

import subprocess
import sys

import pytest

from alttrain.command.__main__ import PROGRAMS
from alttrain.engine.version import __version__


def alttrain(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alttrain.command", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_lists_its_flags(program: str) -> None:
    done = alttrain(program, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: alttrain {program}" in done.stdout
    assert "--output" in done.stdout


def test_help_names_every_program_and_the_version_is_the_installed_one() -> None:
    shown = alttrain("--help").stdout
    assert all(f"alttrain {program}" in shown for program in PROGRAMS)
    assert alttrain("--version").stdout == f"alttrain {__version__}\n"


@pytest.mark.parametrize(("words", "what"), [((), "no program is named"), (("trian",), "no program 'trian'")])
def test_an_unknown_word_is_refused_in_a_sentence(words: tuple[str, ...], what: str) -> None:
    done = alttrain(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert "nano, build, ask, measure, doctor, train" in done.stderr


def test_a_program_refuses_as_its_recipe_does() -> None:
    done = alttrain("train", "--model.path", "somewhere", "--data.train", "none.jsonl")
    assert (done.returncode, done.stderr) == (2, "--output is missing: give the run folder.\n")
