"""Memory that is handed out full of NaN, so that what a kernel leaves unwritten shows.

A device that has just started is full of zeros: a row that has to be zeros would be right by luck.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

PLACES: tuple[tuple[Any, str], ...] = (
    (torch, "empty"),
    (torch, "empty_like"),
    (torch, "empty_strided"),
    (Tensor, "new_empty"),
)


@contextmanager
def poisoned() -> Iterator[None]:
    """Within it, what `torch.empty` and its kin return is full of NaN, and of integers the lowest. For this process."""
    before = [(owner, name, getattr(owner, name)) for owner, name in PLACES]
    try:
        for owner, name, make in before:
            setattr(owner, name, _filling(make))
        yield
    finally:
        for owner, name, make in before:
            setattr(owner, name, make)


def _filling(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(*args: Any, **options: Any) -> Tensor:
        tensor = make(*args, **options)
        with torch.no_grad():
            if tensor.dtype.is_floating_point:
                return tensor.fill_(torch.nan)
            return tensor if tensor.dtype == torch.bool else tensor.fill_(torch.iinfo(tensor.dtype).min)

    return call
