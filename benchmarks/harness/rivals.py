"""Who else can do the work: each implementation is made where it can run, and its absence has a reason.

A maker returns the implementation; it raises ImportError where a package is missing and Absent where it cannot run.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Absent(Exception):
    """This implementation cannot do this work here; the message says why."""


def probe(makers: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Return what could be made, and for the others the reason why not."""
    made, absent = {}, {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except (Absent, ImportError, RuntimeError) as error:  # RuntimeError: its package or the device refuses
            absent[name] = str(error).strip()[:300]
    return made, absent


def compiled(function: Callable[..., T]) -> Callable[..., T]:
    """Return `function` under torch.compile, for one shape; earlier compilations are dropped.

    Raises:
        Absent: there is no GPU.
    """
    need_cuda("is measured on CUDA only")
    torch.compiler.reset()  # beyond eight shapes of one function it would go on uncompiled, in silence
    return torch.compile(function, dynamic=False)


def load(module: str) -> Any:
    """Return a module of Triton kernels by somebody else.

    Raises:
        ImportError: the package is not here.
        Absent: there is no GPU.
    """
    if importlib.util.find_spec(module.split(".")[0]) is None:
        raise ImportError(f"{module.split('.')[0]} is not installed")
    need_cuda("runs on CUDA only")
    return importlib.import_module(module)


def need_cuda(why: str) -> None:
    """Raise Absent where there is no GPU."""
    if not torch.cuda.is_available():
        raise Absent(why)
