"""Which kernels a model runs on a device, by --model.kernels, and the reason for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from alttrain.engine.errors import ConfigError
from alttrain.kernels.backend import INTERPRETED, Backend

# GPUs on which every kernel has passed its native tests, and the folder under benchmarks/results whose tests.json shows
# it; what must be in that file is listed in benchmarks/harness/proof.py.
PROVEN_GPUS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Kernels:
    """The kernels that a model runs on one device."""

    backend: Backend
    """The path that every kernel call takes: Triton or PyTorch."""
    fuses_layers: bool
    """Whether the forwards of transformers' layers are replaced by ours."""
    reason: str
    """A phrase for the user: which kernels, and why."""


def choose_kernels(wanted: str, device: torch.device) -> Kernels:
    """Return the kernels that --model.kernels = `wanted` selects on `device`.

    Raises:
        ConfigError: Triton is asked for where it cannot run.
    """
    if wanted == "torch":
        return Kernels("torch", False, "PyTorch")
    if wanted == "triton":
        if device.type != "cuda" and not INTERPRETED:
            raise ConfigError(
                "triton: this machine has no CUDA device, and Triton's kernels run on nothing else. Use auto.",
                flag="--model.kernels",
            )
        return Kernels("triton", True, "Triton")
    if device.type != "cuda":
        return Kernels("torch", True, "PyTorch, lean")
    gpu = torch.cuda.get_device_name(device)
    if gpu in PROVEN_GPUS:
        return Kernels("triton", True, f"Triton, proven on {gpu}")
    return Kernels(
        "torch", False, f"PyTorch, as Triton's are not proven on {gpu} yet (--model.kernels triton uses them)"
    )
