"""The versions of a run's libraries, and the commit of its code."""

import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from alttrain.engine.version import __version__

LIBRARIES = ("torch", "deepspeed", "transformers", "tokenizers", "safetensors")


def library_versions() -> dict[str, str]:
    """Return the versions of alttrain, of Python and of every library that decides what a run computes."""
    return {"alttrain": __version__, "python": platform.python_version()} | {
        library: version(library) for library in LIBRARIES
    }


def git_commit() -> str | None:
    """Return the commit of the checkout that holds this file, or None where there is no checkout or no git."""
    if shutil.which("git") is None:
        return None
    folder = Path(__file__).resolve().parent
    done = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
