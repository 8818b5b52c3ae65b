"""This process's rank, device and process group, and the steps that all processes of a run take together."""

import datetime
import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist

from alttrain.engine.distributed.launcher import find_place, place_name
from alttrain.engine.errors import AlttrainError, ConfigError

Result = TypeVar("Result")

# How long a collective waits for the other ranks. gloo's default is thirty minutes; reading a 32B's weights from a slow
# disk may take one rank several minutes.
TIMEOUT = datetime.timedelta(minutes=15)


class OtherRankError(AlttrainError):
    """Another rank cannot go on, so that this one cannot either."""


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
            ConfigError: the environment does not say which process this is, or the node has fewer GPUs than processes.
        """
        place = find_place(os.environ)
        _let_segments_grow(os.environ)
        device = _device(place.local_rank)
        backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=place.rank, world_size=place.size, timeout=TIMEOUT)
        return cls(rank=place.rank, local_rank=place.local_rank, size=place.size, device=device)

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

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, by rank, on every rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def together(self, prepare: Callable[[], Result]) -> Result:
        """Return what `prepare` returns here, once it has returned on every rank.

        Raises:
            AlttrainError: it failed here, or on another rank, so that every rank ends as soon as all have tried.
        """
        failure: Exception | None = None
        result: Result | None = None
        try:
            result = prepare()
        except Exception as error:  # whatever it is, the other ranks must not wait for this one
            failure = error
        said = f"{place_name(self.rank)}: {failure}" if failure else ""
        failed = [each for each in self.gather(said) if each]
        if failure:
            raise failure
        if failed:
            raise OtherRankError(f"{failed[0]} ({len(failed)} of {self.size} ranks failed)")
        return result  # type: ignore[return-value]  # it returned, as nothing failed

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.size > 1:
            dist.barrier()


def _let_segments_grow(environment: MutableMapping[str, str]) -> None:
    """Have torch's allocator extend its segments, before CUDA starts; a setting of the user's own stays.

    Segments of fixed sizes leave gigabytes that fit nothing: an 8B at 16,384 tokens was refused 2 GiB of 139 with 2.2
    GiB reserved and free.
    """
    if not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & environment.keys():
        environment["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


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
