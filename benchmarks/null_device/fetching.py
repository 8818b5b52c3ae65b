"""Fetching a set of versions from the package index, by name, into a virtual environment of its own.

torch's build for CUDA is installed without its dependencies, which are NVIDIA's libraries: the stand-ins take their
place. About 0.8 GB to download and 2.5 GB on disk a set.
"""

import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from null_device.places import CUDA_RUNTIME, FOLDER, HEADERS, Failure, VersionSet

# What torch, deepspeed and the engine's step import, beside what transformers brings.
REST = (
    "numpy", "filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec", "setuptools", "einops", "hjson",
    "msgpack", "packaging", "psutil", "py-cpuinfo", "pydantic", "tqdm", "tyro", "safetensors",
)  # fmt: skip
MOST_SECONDS = 1800


def fetch(versions: VersionSet) -> None:
    """Make the set's virtual environment, unless it is there whole, and the headers and names that both sets share.

    Raises:
        Failure: the Python is too old or too new, the index has no such package, or its torch is not built for CUDA.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Failure(f"this is {platform.system()} on {platform.machine()}: the null device needs Linux on x86-64.")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise Failure(f"Python {sys.version.split()[0]}: the null device needs 3.11 to 3.13, as the engine does.")
    if not (HEADERS / "done").is_file():
        _pip(sys.executable, "install", "--no-deps", "--target", str(HEADERS), f"nvidia-cuda-runtime=={CUDA_RUNTIME}")
        (HEADERS / "done").touch()
    if versions.is_fetched:
        return
    shutil.rmtree(versions.folder, ignore_errors=True)
    try:
        venv.create(versions.folder / "venv", with_pip=True)
    except subprocess.CalledProcessError:
        raise Failure(f"{sys.executable} makes no virtual environment: on Debian, install python3-venv.") from None
    python = str(versions.python)
    _pip(python, "install", f"transformers=={versions.packages['transformers']}", *REST)
    # Three signs of equality: a build with a local version, as 2.13.0+cpu, is another one.
    exact = [f"{name}==={versions.packages[name]}" for name in ("torch", "triton", "deepspeed")]
    _pip(python, "install", "--no-deps", *exact)
    if not (versions.site / "torch" / "lib" / "libtorch_cuda.so").is_file():
        raise Failure(
            f"torch {versions.packages['torch']}: what the package index gave is a build without CUDA "
            "(libtorch_cuda.so is not in it). Name an index that has the one for CUDA 13 (PIP_INDEX_URL)."
        )
    versions.fetched.write_text(versions.listing, encoding="utf-8")


def _pip(python: str | Path, *arguments: str) -> None:
    command: Sequence[str] = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--quiet"]
    environment = dict(os.environ, DS_BUILD_OPS="0")  # deepspeed compiles nothing as it is installed
    sys.stderr.write(f"{FOLDER.name}: pip {' '.join(arguments)}\n")
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"pip took longer than {MOST_SECONDS} s: start the same line again.") from None
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise Failure(f"pip could not install {' '.join(arguments[1:])}: {' '.join(reason[-2:])[:400]}")
