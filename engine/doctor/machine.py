"""What the machine is: processor, memory, GPUs, versions, variables and free disk, each as rows of a table."""

import os
import platform
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from alttrain.engine.run.provenance import git_commit
from alttrain.engine.version import __version__

GIB = 1 << 30
LIBRARIES = ("torch", "triton", "transformers", "deepspeed", "tokenizers", "safetensors", "datasets")
# Variables that change how a run computes or where it keeps things; no other is shown.
VARIABLES = re.compile(
    r"(?:TRITON|NCCL|TORCH|PYTORCH|CUDA|DS|OMP|MKL)_\w+|LD_LIBRARY_PATH|XDG_CACHE_HOME|HF_HOME|HF_HUB_OFFLINE|CC"
)

Rows = list[tuple[str, str]]


def machine_rows() -> Rows:
    """Return system, processor, memory and shared memory."""
    libc = " ".join(platform.libc_ver())
    usable, cores = len(os.sched_getaffinity(0)), os.cpu_count() or 0
    rows = [
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}, {libc}".rstrip(", ")),
        ("processor", f"{_processor()}, {usable} of {cores} cores usable"),
        ("memory", _memory()),
    ]
    if Path("/dev/shm").is_dir():
        rows.append(("shared memory", f"{shutil.disk_usage('/dev/shm').total / GIB:.1f} GiB"))
    return rows


def gpu_rows() -> Rows:
    """Return driver and every GPU that torch sees; one row that says so where it sees none."""
    import torch

    from alttrain.engine.proof.identity import driver_version

    build = f"torch built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch built without CUDA"
    driver = driver_version()
    rows = [("driver", f"{driver or 'none found'}, {build}")]
    if not torch.cuda.is_available():
        return [*rows, ("GPU", "none")]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        told = f"{facts.name}, {facts.total_memory / GIB:.1f} GiB{_free_memory(index)}"
        told += f", capability {facts.major}.{facts.minor}, {facts.multi_processor_count} multiprocessors"
        rows.append((f"GPU {index}", told))
    return rows


def _free_memory(index: int) -> str:
    import torch

    try:
        return f", {torch.cuda.mem_get_info(index)[0] / GIB:.1f} free"
    except RuntimeError:  # another process may have it for itself
        return ", and no process of ours may use it"


def version_rows() -> Rows:
    """Return the versions of alttrain, of Python and of every library that decides what a run computes."""
    commit = git_commit()
    rows = [("alttrain", f"{__version__}, commit {commit}" if commit else __version__)]
    rows.append(("python", platform.python_version()))
    return rows + [(library, installed(library)) for library in LIBRARIES]


def installed(library: str) -> str:
    """Return a library's version, or that it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def variable_rows() -> Rows:
    """Return the variables that are set, of those that change how a run computes."""
    return [(name, value) for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)]


def disk_rows() -> Rows:
    """Return the free disk of each place that a run writes to, named by what it is for."""
    return [(name, f"{free / GIB:.1f} GiB free") for name, free in free_disk().items()]


def free_disk() -> dict[str, int]:
    """Return the free bytes of each place that a run writes to."""
    from alttrain.engine.proof.keeping import cache_folder

    models = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    places = {
        "working folder": Path.cwd(),
        "cache of verdicts": cache_folder(),
        "cache of models": Path(models),
        "temporary folder": Path(tempfile.gettempdir()),
    }
    return {name: shutil.disk_usage(_existing(place)).free for name, place in places.items()}


def _existing(place: Path) -> Path:
    """Return the folder itself, or the nearest above it that is there."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def _memory() -> str:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return "unknown"
    found = re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.MULTILINE)
    sizes = {name: int(kilobytes) * 1024 / GIB for name, kilobytes in found}
    told = f"{sizes.get('MemTotal', 0.0):.1f} GiB, {sizes.get('MemAvailable', 0.0):.1f} available"
    limit = _memory_limit()
    return f"{told}, of which this group may use {limit / GIB:.1f}" if limit else told


def _memory_limit() -> int | None:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
