"""Values that a trainer of others reads back from the device, and that the null device has to be given.

`tensor[mask]` asks the device how many elements of the mask are true. The null device answers 0, so that a loss over
labelled tokens alone would be one over none. While `masks_select` holds, a mask over tokens selects as many
as it is told.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


@contextlib.contextmanager
def masks_select(count: Callable[[], int]) -> Iterator[None]:
    """In this context indexing by a mask on the device selects `count()` elements, by the kernels that it takes."""
    index = Tensor.__getitem__

    def select(tensor: Tensor, key: Any) -> Tensor:
        if not (isinstance(key, Tensor) and key.dtype == torch.bool and key.is_cuda):
            return index(tensor, key)
        key.nonzero()  # what finds the places, and waits for their number
        places = torch.empty(min(count(), key.numel()), dtype=torch.int64, device=key.device)
        return index(tensor.flatten(0, key.dim() - 1), places)

    Tensor.__getitem__ = select  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Tensor.__getitem__ = index  # type: ignore[method-assign]
