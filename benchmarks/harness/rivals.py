"""Making the implementations that a benchmark compares, with a reason for each that cannot run here.

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
    """Return the implementations that can run here, and the reasons why the others cannot."""
    present, absent = {}, {}
    for name, make in makers.items():
        try:
            present[name] = make()
        except (Absent, ImportError, RuntimeError) as error:  # RuntimeError: from its package or the device
            absent[name] = str(error).strip()[:300]
    return present, absent


def compiled(function: Callable[..., T]) -> Callable[..., T]:
    """Return `function` under torch.compile, for one shape; earlier compilations are dropped.

    Raises:
        Absent: there is no GPU.
    """
    need_cuda("is measured on CUDA only")
    torch.compiler.reset()  # after eight shapes of one function torch would silently run it uncompiled
    return torch.compile(function, dynamic=False)


def load(module: str) -> Any:
    """Return a module of another package's Triton kernels.

    Raises:
        ImportError: the package is not installed.
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
