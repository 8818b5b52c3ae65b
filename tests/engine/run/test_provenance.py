"""What a run records of where it comes from."""

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.run import provenance
from alttrain.engine.version import __version__
from skips import NO_GIT


def test_versions_are_those_of_what_runs() -> None:
    versions = provenance.library_versions()
    assert versions["alttrain"] == __version__
    assert versions["python"] == platform.python_version()
    for library in ("torch", "deepspeed", "transformers", "tokenizers", "safetensors"):
        assert versions[library] == metadata.version(library)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the file that asks, as if it were installed there."""
    if shutil.which("git") is None:
        pytest.skip(NO_GIT)
    file = tmp_path / "engine" / "run" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("# the code of a run\n")
    monkeypatch.setattr(provenance, "__file__", str(file))
    # No checkout around the temporary folder, and nobody's own settings, may speak for it.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir("/")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done: Any = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return str(done.stdout.strip())


def test_the_commit_is_that_of_the_code_and_says_when_it_was_changed(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert provenance.git_commit() == commit
    (checkout / "engine" / "run" / "provenance.py").write_text("# changed\n")
    assert provenance.git_commit() == f"{commit}-dirty"


def test_code_that_is_no_checkout_has_no_commit(checkout: Path) -> None:
    assert provenance.git_commit() is None


def commit_all(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return git(folder, "rev-parse", "HEAD")


def test_a_tag_does_not_take_the_commits_place(checkout: Path) -> None:
    commit = commit_all(checkout)
    git(checkout, "tag", "--annotate", "v9", "--message", "a release")
    assert provenance.git_commit() == commit


def test_the_commit_of_a_repository_around_the_project_is_not_the_projects(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed into an environment inside somebody's checkout, or copied into it and even tracked there."""
    file = checkout / ".venv" / "alttrain" / "engine" / "run" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("# the code of a run\n")
    monkeypatch.setattr(provenance, "__file__", str(file))
    commit_all(checkout)
    assert git(file.parent, "ls-files") == "provenance.py", "git finds the repository from there"
    assert provenance.git_commit() is None


def test_a_repository_that_does_not_track_the_code_does_not_speak_for_it(checkout: Path) -> None:
    (checkout / ".gitignore").write_text("engine/\n")
    commit_all(checkout)
    assert provenance.git_commit() is None


def test_a_repository_that_the_environment_names_is_not_asked(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As inside a hook of git, which names its own repository to all that it starts."""
    other = tmp_path_factory.mktemp("other")
    (other / "file").write_text("theirs")
    theirs = commit_all(other)
    ours = commit_all(checkout)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert provenance.git_commit() == ours != theirs


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None
