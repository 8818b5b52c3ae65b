"""This process's rank, device and process group, read once from the launcher's environment.

torchrun sets the variables. A run under plain `python` has one process, for which the same variables are set here, so
that the rest of the code need not tell the two apart.
"""

import datetime
import os
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
import torch.distributed as dist

from alttrain.engine.errors import ConfigError

# How long a collective waits for the other ranks. gloo's default is thirty minutes; reading a 32B's weights from a slow
# disk may take one rank several minutes.
TIMEOUT = datetime.timedelta(minutes=15)


@dataclass(frozen=True)
class World:
    """The processes of a run and this one's rank; a context manager that closes the process group."""

    rank: int
    local_rank: int
    size: int
    device: torch.device

    @classmethod
    def from_environment(cls) -> Self:
        """Join the process group that the launcher describes.

        Raises:
            ConfigError: the node has fewer GPUs than processes.
        """
        if "RANK" not in os.environ:
            _describe_world_of_one()
        rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
        size = int(os.environ["WORLD_SIZE"])
        device = _device(local_rank)
        backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
        return cls(rank=rank, local_rank=local_rank, size=size, device=device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After an error another rank may be in a collective: destroying the group would wait for it, exiting does not.
        if kind is None and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files and its messages."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of `tensor` over all ranks, on every rank, without waiting for the device."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the elementwise maximum of `tensor` over all ranks, on every rank."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def _reduced(self, tensor: torch.Tensor, operation: "dist.ReduceOp.RedOpType") -> torch.Tensor:
        reduced = tensor.clone()
        if self.size > 1:
            dist.all_reduce(reduced, op=operation)
        return reduced

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.size > 1:
            dist.barrier()


def _describe_world_of_one() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ConfigError(
            f"local rank {local_rank}: this node has {count} GPUs, one for each process. "
            f"Start at most {count} processes on it (torchrun --nproc_per_node {count})."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
