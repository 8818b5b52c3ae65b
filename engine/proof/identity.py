"""What a verdict on kernels depends on: GPU, driver, torch, Triton, the kernels' own text, and the shapes."""

import contextlib
import hashlib
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from alttrain.engine.proof import shapes as this_room
from alttrain.engine.proof.shapes import KernelShapes
from alttrain.kernels import backend
from alttrain.kernels.attention import flash_attention_3
from alttrain.kernels.backend import INTERPRETED, TRITON_VERSION

Identity = dict[str, Any]
# The names under which FlashAttention 3 is installed.
FLASH_ATTENTION_3 = ("flash_attn_3", "flash_attn", "hopper")


def identity_of(device: torch.device, shapes: KernelShapes) -> Identity:
    """Return everything that the verdicts on `device` at `shapes` are kept under; two that are equal share them."""
    facts: Identity = {"torch": torch.__version__, "triton": TRITON_VERSION, "sources": sources_hash()}
    facts |= {"interpreted": INTERPRETED, "shapes": shapes.as_dict()}
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        facts |= {
            "gpu": torch.cuda.get_device_name(device),
            "capability": f"{major}.{minor}",
            "driver": driver_version(),
            "attention": _attention(device),
        }
    else:
        facts |= {"gpu": device.type, "capability": "", "driver": "", "attention": ""}
    return facts


def _attention(device: torch.device) -> str:
    """Return what attention runs on where that is not torch's own, with its version."""
    found = flash_attention_3(device)
    for package in FLASH_ATTENTION_3 if found else ():
        with contextlib.suppress(PackageNotFoundError):
            return f"{found} ({package} {version(package)})"
    return found


def sources_hash() -> str:
    """Return the SHA-256 over the text of the kernels and of their trials."""
    total = hashlib.sha256()
    for folder in (Path(backend.__file__).parent, Path(this_room.__file__).parent):
        for file in sorted(folder.glob("*.py")):
            total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def driver_version() -> str:
    """Return the version of NVIDIA's driver, as its module or nvidia-smi says it; empty where neither does."""
    module = Path("/proc/driver/nvidia/version")
    try:
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", module.read_text(encoding="utf-8"))
        if found:
            return found[1]
    except OSError:
        pass
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""
