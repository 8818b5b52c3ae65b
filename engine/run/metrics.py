"""The metrics of a step, summed over ranks; each line of metrics.jsonl is written one step later.

The numbers are copied from the device without waiting, and read after the next step has been queued, so that logging
never stalls the device.
"""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from tqdm import tqdm

from alttrain.engine.console import bar_stream
from alttrain.engine.data.steps import DrawnStep
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import DivergenceError
from alttrain.engine.files import append_line
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.trace.roles import ROLES

GIB = 2**30

# Dense bf16 peak by name, FLOP/s, from the makers' data sheets; mfu is null on a device that is not listed.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "B200": 2250e12,
    "L40S": 362e12,
}


@dataclass(frozen=True)
class StepStats:
    """One optimizer step, summed over the world and still on the device."""

    loss: Tensor  # ()
    nll_sums: Tensor  # (num_roles,)
    token_counts: Tensor  # (num_roles,)
    weight_sum: Tensor  # ()
    grad_norm: Tensor  # ()


class MetricsLog:
    """Writes metrics.jsonl and the progress bar on rank 0; raises on every rank if loss or norm is not finite."""

    def __init__(
        self, folder: RunFolder, world: World, *, dtype: str, pack_tokens: int, first_step: int, num_steps: int
    ) -> None:
        self.folder = folder
        self.world = world
        self.pack_tokens = pack_tokens
        self.peak_flops = _peak_flops(world.device) if dtype == "bfloat16" else None
        self.pending: _Pending | None = None
        self.last_time = time.perf_counter()
        self.bar = tqdm(
            file=bar_stream(),
            total=num_steps,
            initial=first_step,
            unit="step",
            disable=not world.is_first,
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
            dynamic_ncols=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._settle()
        self.bar.close()

    def add(self, step: int, lr: float, drawn: DrawnStep, stats: StepStats) -> None:
        """Store the numbers of step `step`, and write the line of the step before it."""
        now = time.perf_counter()
        seconds, self.last_time = now - self.last_time, now
        # torch.full fills the tensor on the device: a copy from the host would wait for the device.
        peak = torch.full((), _peak_memory_bytes(self.world.device), dtype=torch.float64, device=self.world.device)
        scalars = torch.stack([stats.loss, stats.grad_norm, stats.weight_sum, self.world.max(peak)])
        copy = _HostCopy(torch.cat([scalars, stats.nll_sums, stats.token_counts]))
        self.flush()
        self.pending = _Pending(step, lr, drawn, seconds, copy)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """In this context time counts for no step (evaluation, checkpoint); the pending line is written before."""
        self._settle()
        yield
        self.last_time = time.perf_counter()

    def _settle(self) -> None:
        """Wait until the device has finished the last step, add that time to the step's seconds, and write its line."""
        if self.pending is not None:
            self.pending.copy.wait()
            self.pending.seconds += time.perf_counter() - self.last_time
        self.flush()

    def flush(self) -> None:
        """Write the pending line, if there is one.

        Raises:
            DivergenceError: the loss or the gradient norm of that step is not finite.
        """
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        line = self._line(pending)
        if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
            raise DivergenceError(
                f"step {line['step']}: loss is {line['loss']}, grad_norm is {line['grad_norm']}; both must be finite. "
                "Start a new run with a lower --optim.lr, or look at the step's rows."
            )
        if self.world.is_first:
            append_line(self.folder.metrics, line)
            bar_values = {"loss": line["loss"], "norm": line["grad_norm"], "tok/s": line["tokens_per_second"]}
            self.bar.set_postfix({name: f"{value:.4g}" for name, value in bar_values.items()}, refresh=False)
            self.bar.update(1)

    def _line(self, pending: "_Pending") -> dict[str, Any]:
        """Return the fields of a line in the order that the README documents."""
        loss, grad_norm, weight_sum, peak, *by_role = pending.copy.read()
        drawn, seconds = pending.drawn, pending.seconds
        world_peak = None if self.peak_flops is None else self.peak_flops * self.world.size
        return {
            "step": pending.step,
            "epoch": round(drawn.epoch, 6),
            "loss": loss,
            "nll": nll_by_role(by_role[: len(ROLES)], by_role[len(ROLES) :]),
            "weight_sum": weight_sum,
            "num_tokens": drawn.num_tokens,
            "pack_fill": drawn.num_tokens / (drawn.num_packs * self.pack_tokens),
            "grad_norm": grad_norm,
            "lr": pending.lr,
            "seconds": seconds,
            "tokens_per_second": drawn.num_tokens / seconds,
            "mfu": None if world_peak is None else drawn.flops / seconds / world_peak,
            "peak_memory_gib": peak / GIB,
        }


def nll_by_role(nll_sums: list[float], token_counts: list[float]) -> dict[str, float]:
    """Return the mean nll of every role that has tokens."""
    return {role: total / count for role, total, count in zip(ROLES, nll_sums, token_counts, strict=True) if count > 0}


class _HostCopy:
    """A copy of a device tensor to the host that may still be under way."""

    def __init__(self, tensor: Tensor) -> None:
        self.event: torch.cuda.Event | None = None
        self.host = tensor
        if tensor.device.type == "cuda":
            self.host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self.host.copy_(tensor, non_blocking=True)
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record()

    def wait(self) -> None:
        if self.event is not None:
            self.event.synchronize()

    def read(self) -> list[float]:
        self.wait()
        values: list[float] = self.host.tolist()
        return values


def _peak_flops(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of the device's allocator, or on CPU the largest resident size of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass
class _Pending:
    """A step whose line has not been written yet."""

    step: int
    lr: float
    drawn: DrawnStep
    seconds: float
    copy: _HostCopy
