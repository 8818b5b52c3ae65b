"""What is wrong with a machine, each with a way out."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from alttrain.engine.doctor.machine import GIB, free_disk

# A 7B's exported weights, and the verdicts with Triton's compiled kernels.
ENOUGH_DISK = {
    "working folder": 20 * GIB,
    "cache of verdicts": GIB,
    "cache of models": 20 * GIB,
    "temporary folder": GIB,
}
ENOUGH_SHARED_MEMORY = GIB


class Problem(NamedTuple):
    """A sentence or two, and whether a run would suffer from it here and now."""

    text: str
    is_grave: bool = False


def problems() -> list[Problem]:
    """Return what is wrong with devices, versions, compiler and disk; kernels are not asked."""
    rules: tuple[Callable[[], Iterator[Problem]], ...] = (
        _device,
        _versions,
        _compiler,
        _disk,
        _shared_memory,
        _clashes,
    )
    return [problem for rule in rules for problem in rule()]


def _device() -> Iterator[Problem]:
    import torch

    if torch.cuda.is_available():
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            yield Problem("This GPU does not compute in bfloat16. Give --model.dtype float32.")
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        yield Problem("CUDA_VISIBLE_DEVICES hides every GPU. Unset it to use them.")
    elif not (Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")):
        return  # no GPU here
    elif torch.version.cuda is None:
        yield Problem(
            f"There is an NVIDIA driver, and torch {torch.__version__} is built without CUDA, so that everything runs "
            "on the CPU. Install the torch of PyPI: pip install --force-reinstall --no-deps torch==VERSION.",
            is_grave=True,
        )
    else:
        yield Problem(
            f"There is an NVIDIA driver, and torch cannot use it ({_why_no_cuda()}). Compare the driver with CUDA "
            f"{torch.version.cuda}, for which torch is built; in a container, start it with --gpus all.",
            is_grave=True,
        )


def _why_no_cuda() -> str:
    import torch

    try:
        torch.zeros(1, device="cuda")
    except Exception as error:  # whatever it is, it is the reason
        return str(error).strip().splitlines()[0].rstrip(".")[:160]
    return "it sees no GPU"


def _versions() -> Iterator[Problem]:
    """Yield what setup.py asks for and is not there; nothing where the project is not installed."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("alttrain") or ()]
    except PackageNotFoundError:
        return
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Problem(f"{requirement.name} is not installed. pip install '{requirement}'.", is_grave=True)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield Problem(f"{requirement.name} is {found}, and {requirement} is tested. pip install '{requirement}'.")


def _compiler() -> Iterator[Problem]:
    import torch

    command = os.environ.get("CC", "").split()
    found = [name for name in (*command[:1], "gcc", "clang", "cc") if shutil.which(name)]
    if torch.cuda.is_available() and not found:
        yield Problem(
            "There is no C compiler, which Triton needs to launch kernels. Install gcc, or name one in the variable CC."
        )


def _disk() -> Iterator[Problem]:
    for name, free in free_disk().items():
        if free < ENOUGH_DISK[name]:
            yield Problem(
                f"The {name} has {free / GIB:.1f} GiB free, and {ENOUGH_DISK[name] / GIB:.0f} are soon used. "
                "Make room, or start from another place (XDG_CACHE_HOME, HF_HOME and TMPDIR name the others)."
            )


def _shared_memory() -> Iterator[Problem]:
    import torch

    folder = Path("/dev/shm")
    if torch.cuda.device_count() > 1 and folder.is_dir() and shutil.disk_usage(folder).total < ENOUGH_SHARED_MEMORY:
        yield Problem(
            "Shared memory is below 1 GiB, and NCCL needs it between GPUs. Start the container with --shm-size 8g."
        )


def _clashes() -> Iterator[Problem]:
    import torch

    from alttrain.kernels.backend import INTERPRETED

    if INTERPRETED and torch.cuda.is_available():
        yield Problem("TRITON_INTERPRET is set, so that kernels are interpreted and not run. Unset it.", is_grave=True)
    # cuBLAS and cuDNN of another CUDA, found before torch's own, are a common cause of crashes.
    if re.search(r"cuda", os.environ.get("LD_LIBRARY_PATH", "")) and torch.version.cuda:
        yield Problem(
            "LD_LIBRARY_PATH names a folder of CUDA, whose libraries may be taken in the place of torch's own. "
            "If something fails to load, unset it."
        )
