"""The versions of a run's libraries, and the commit of its code."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from alttrain.engine.version import __version__

LIBRARIES = ("torch", "deepspeed", "transformers", "tokenizers", "safetensors")

# Variables by which git is told of a repository, as it tells its own hooks: they would name another one than asked for.
_OF_A_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)


def library_versions() -> dict[str, str]:
    """Return the versions of alttrain, of Python and of every library that decides what a run computes."""
    return {"alttrain": __version__, "python": platform.python_version()} | {
        library: version(library) for library in LIBRARIES
    }


def git_commit() -> str | None:
    """Return the commit of the project's own checkout, with `-dirty` after it where files were changed since.

    None where this file is not tracked in a repository whose top is the folder that holds `engine/`: where the project
    is installed, the repository around it, if any, is somebody else's, and the version says which code it was. None
    also where there is no git.
    """
    file = Path(__file__).resolve()
    root = file.parents[2]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    if _git(root, "ls-files", "--error-unmatch", "--", str(file.relative_to(root))) is None:
        return None
    # Without tags: they would take the commit's place.
    return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints of the repository that holds `folder`; None where it fails or prints nothing."""
    if shutil.which("git") is None:
        return None
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, env=environment
    )
    return done.stdout.strip() or None if done.returncode == 0 else None
