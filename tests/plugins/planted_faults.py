"""Kernels made wrong on purpose: a change in the text of a kernel's file, as a slip of the pen might make it.

The file with the fault is imported beside the real one, and the trials of the kernel take it where they ask for the
kernel and not for PyTorch.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

FORWARD, GRADIENT, EDGE, RAISING = "forward", "gradient", "edge", "raising"
ROOT = Path(__file__).resolve().parents[2]


class Fault(NamedTuple):
    """One change of a kernel's source: where, what it makes wrong, the text, and what stands there instead."""

    kernel: str
    kind: str
    old: str
    new: str

    def __str__(self) -> str:
        """Return the name of a test's case."""
        return f"{self.kernel}-{self.kind}-{self.old.split(chr(10))[0].strip()[:24]}"


def import_with(fault: Fault, folder: Path) -> ModuleType:
    """Import the kernel's file with its fault from a file of its own, as Triton reads the source once more."""
    source = (ROOT / "kernels" / f"{fault.kernel}.py").read_text(encoding="utf-8")
    assert fault.old in source, "the fault no longer fits the kernel"
    file = folder / f"{fault.kernel}.py"
    file.write_text(source.replace(fault.old, fault.new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"planted_{fault.kernel}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plant_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Fault], None]:
    """Return a function that makes the trials ask a kernel with a fault; PyTorch's path stays as it is."""
    from alttrain.engine.proof import layer_trials, step_trials

    def use(fault: Fault) -> None:
        module = import_with(fault, tmp_path)
        for trials in (layer_trials, step_trials):
            for name, real in list(vars(trials).items()):
                is_its = getattr(real, "__module__", "") == f"alttrain.kernels.{fault.kernel}"
                if is_its and inspect.isfunction(real) and "backend" in inspect.signature(real).parameters:
                    monkeypatch.setattr(trials, name, _one_of(real, getattr(module, name)))

    return use


def _one_of(real: Any, wrong: Any) -> Any:
    return lambda *args, backend, **given: (real if backend == "torch" else wrong)(*args, **given, backend=backend)
