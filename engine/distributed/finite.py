"""Looking for NaN and infinity in tensors on whatever device, all ranks together, waiting for the device once."""

import torch
from torch import Tensor

from alttrain.engine.distributed.world import World


class FiniteCheck:
    """Collects a flag for each tensor that it is shown; `found` reads them all at once.

    Every rank must add the same names in the same order, each with the part of the tensor that it holds.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._flags: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, name: str, part: Tensor | None) -> None:
        """Look at this rank's part of a tensor; None, or an empty one, where it holds nothing of it.

        The smallest and the largest number are NaN where any is, and finding them needs no memory.
        """
        if part is None or part.numel() == 0:
            self._flags[name] = torch.zeros((), dtype=torch.uint8, device=self._world.device)
            return
        smallest, largest = torch.aminmax(part)
        is_finite = smallest.isfinite() & largest.isfinite()
        self._flags[name] = (~is_finite).to(device=self._world.device, dtype=torch.uint8, non_blocking=True)

    def found(self) -> list[str]:
        """Return the names of the tensors of which any rank holds a number that is NaN or infinite, on every rank."""
        if not self._flags:
            return []
        flags = self._world.max(torch.stack(list(self._flags.values()))).tolist()
        return [name for name, flag in zip(self._flags, flags, strict=True) if flag]
