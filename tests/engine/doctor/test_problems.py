"""Problems with a way out: each is found where it is, and none where nothing is wrong."""

import os
from collections import namedtuple
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from alttrain.engine.doctor import problems as room
from alttrain.engine.doctor.machine import GIB
from alttrain.engine.doctor.problems import Problem, problems
from alttrain.kernels import backend

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a machine with one GPU and nothing wrong."""
    monkeypatch.setattr(os, "environ", {"PATH": "/usr/bin"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(backend, "INTERPRETED", False)
    monkeypatch.setattr(room, "free_disk", lambda: dict.fromkeys(room.ENOUGH_DISK, 100 * GIB))
    monkeypatch.setattr(room, "requires", lambda name: ["torch>=2.11,<2.14", "pytest; extra == 'dev'"])
    monkeypatch.setattr(room, "version", lambda name: "2.13.0+cu130")
    monkeypatch.setattr(room.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: Usage(64 * GIB, 0, 64 * GIB))


def only() -> Problem:
    (problem,) = problems()
    return problem


def test_nothing_is_wrong() -> None:
    assert problems() == []


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that makes torch see no GPU, and says whether the driver is there."""

    def hide(has_driver: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(Path, "exists", lambda self: has_driver)
        monkeypatch.setattr(room.shutil, "which", lambda name: "gcc" if name == "gcc" else None)

    return hide


def test_a_machine_without_a_gpu_has_no_problem(no_gpu: Callable[[bool], None]) -> None:
    no_gpu(False)
    assert problems() == []


def test_a_torch_without_cuda_beside_a_driver(monkeypatch: pytest.MonkeyPatch, no_gpu: Callable[[bool], None]) -> None:
    no_gpu(True)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert only().is_grave
    assert "built without CUDA" in only().text


def test_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, no_gpu: Callable[[bool], None]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040).\nUpdate it")

    no_gpu(True)
    monkeypatch.setattr(torch, "zeros", refuse)
    assert only().is_grave
    assert "(The NVIDIA driver on your system is too old (found version 12040))" in only().text


@pytest.mark.parametrize("value", ["", "-1"])
def test_hidden_gpus(monkeypatch: pytest.MonkeyPatch, no_gpu: Callable[[bool], None], value: str) -> None:
    no_gpu(True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert only() == Problem("CUDA_VISIBLE_DEVICES hides every GPU. Unset it to use them.")


def test_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert only().text.endswith("Give --model.dtype float32.")


def test_versions_out_of_range_and_libraries_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "version", lambda name: "2.20.0")
    assert only() == Problem("torch is 2.20.0, and torch<2.14,>=2.11 is tested. pip install 'torch<2.14,>=2.11'.")

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(room, "version", missing)
    assert only() == Problem("torch is not installed. pip install 'torch<2.14,>=2.11'.", is_grave=True)
    monkeypatch.setattr(room, "requires", missing)
    assert problems() == [], "a checkout that is not installed asks for nothing"


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "which", lambda name: None)
    assert "Install gcc, or name one in the variable CC." in only().text
    monkeypatch.setenv("CC", "zig cc")
    monkeypatch.setattr(room.shutil, "which", lambda name: name if name == "zig" else None)
    assert problems() == []


@pytest.mark.parametrize("place", room.ENOUGH_DISK)
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    free = dict.fromkeys(room.ENOUGH_DISK, 100 * GIB) | {place: GIB // 2}
    monkeypatch.setattr(room, "free_disk", lambda: free)
    assert only().text.startswith(f"The {place} has 0.5 GiB free")


def test_little_shared_memory_matters_between_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: Usage(64 << 20, 0, 64 << 20))
    assert problems() == []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert only().text.endswith("Start the container with --shm-size 8g.")


def test_an_interpreter_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "INTERPRETED", True)
    assert only().is_grave
    assert "Unset it." in only().text


@pytest.mark.parametrize(("path", "found"), [("/usr/local/cuda-12.4/lib64", 1), ("/opt/lib", 0)])
def test_libraries_of_another_cuda(monkeypatch: pytest.MonkeyPatch, path: str, found: Any) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", path)
    assert len(problems()) == found
