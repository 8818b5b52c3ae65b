"""Which kernels a model runs on a device, by --model.kernels, and the reason for it.

Each kernel takes a path of its own: one that fails on a GPU is left to PyTorch there, and the others are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch

from alttrain.engine.errors import ConfigError
from alttrain.engine.proof.trial import Verdict
from alttrain.kernels.backend import INTERPRETED, Backend

# The kernels that run inside of others, whose path they share.
INSIDE: Mapping[str, str] = {"weighted_cross_entropy": "linear_cross_entropy"}
UNTRIED = Verdict("raised", "it was not tried")


@dataclass(frozen=True)
class KernelPaths:
    """The path that the calls of each kernel take; by default PyTorch's."""

    adamw: Backend = "torch"
    attention: Backend = "auto"
    """auto: torch's varlen_attn where it takes the heads; torch: SDPA. There is no kernel of Triton's."""
    float8: Backend = "torch"
    """Runs with --model.fp8 only: the passes that quantise."""
    linear_cross_entropy: Backend = "torch"
    rms_norm: Backend = "torch"
    rope: Backend = "torch"
    span_weights: Backend = "torch"
    swiglu: Backend = "torch"


NAMES = tuple(path.name for path in fields(KernelPaths))
TRITON = KernelPaths(**{name: "triton" for name in NAMES if name != "attention"})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kernels:
    """The kernels that a model runs on one device."""

    paths: KernelPaths = field(default_factory=KernelPaths)
    """The path of each kernel."""
    fuses_layers: bool = False
    """Whether the forwards of transformers' layers are replaced by ours."""
    reason: str = "PyTorch"
    """A phrase for the user: which kernels, and why."""
    note: str = ""
    """A further sentence for the user, if any."""
    products: str = ""
    """What the products of the linear layers are, as the user is told; empty where they are the weights' dtype."""

    def sentences(self) -> list[str]:
        """Return what the user is told at the start."""
        return [f"kernels: {self.reason}", *filter(None, [self.note, self.products])]


def choose_kernels(
    wanted: str, device: torch.device, verdicts: Mapping[str, Verdict] | None = None, where: str = ""
) -> Kernels:
    """Return the kernels that --model.kernels = `wanted` selects on `device`.

    Args:
        wanted: auto, triton or torch.
        device: where the model runs.
        verdicts: what the trials of the kernels gave, for `auto` on a GPU; without them it takes PyTorch's path.
        where: the GPU, or GPUs, on which they were tried, as the user is told.

    Raises:
        ConfigError: Triton is asked for where it cannot run.
    """
    if wanted == "torch":
        return Kernels()
    if wanted == "triton":
        if device.type != "cuda" and not INTERPRETED:
            raise ConfigError(
                "triton: this machine has no CUDA device, and Triton's kernels run on nothing else. Use auto.",
                flag="--model.kernels",
            )
        return Kernels(TRITON, True, "Triton")
    if device.type != "cuda":
        return Kernels(KernelPaths(), True, "PyTorch, lean")
    if verdicts is None:
        return Kernels(KernelPaths(), True, "PyTorch, lean: Triton's have not been tried on this GPU")
    everyone = {**verdicts, **{name: UNTRIED for name in (*NAMES, *INSIDE) if name not in verdicts}}
    failed = {name: verdict.reason for name, verdict in everyone.items() if not verdict.passed}
    left = {INSIDE.get(name, name) for name in failed}
    paths = {name: "triton" for name in NAMES if name not in left} | dict.fromkeys(left, "torch")
    if "attention" not in left:
        paths["attention"] = "auto"
    return Kernels(KernelPaths(**paths), True, _reason(failed, left, where))  # type: ignore[arg-type]


def _reason(failed: Mapping[str, str], left: set[str], where: str) -> str:
    on = f" on {where}" if where else ""
    if not failed:
        return f"Triton, each compared with PyTorch{on}"
    same: dict[str, list[str]] = {}
    for name, reason in failed.items():
        same.setdefault(reason, []).append(name)
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in same.items())
    if left >= set(NAMES) - {"attention"}:
        return f"PyTorch, lean, as all of Triton's failed{on} ({reasons})"
    return f"Triton, but PyTorch for {', '.join(sorted(left))}, which failed{on} ({reasons})"
