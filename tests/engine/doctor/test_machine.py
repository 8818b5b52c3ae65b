"""What the machine is, in rows; what cannot be found is said and stops nothing."""

import importlib.metadata
import os
import re
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from alttrain.engine.doctor import machine
from alttrain.engine.proof import identity
from alttrain.engine.version import __version__

Properties = namedtuple("Properties", "name total_memory major minor multi_processor_count")


def test_processor_and_memory_are_those_of_this_machine() -> None:
    rows = dict(machine.machine_rows())
    assert rows["system"].startswith("Linux ")
    assert rows["processor"].endswith(f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores usable")
    sizes = [float(number) for number in re.findall(r"\d+\.\d", rows["memory"])]
    assert sizes[0] >= sizes[1] > 0


@pytest.mark.parametrize(("limit", "told"), [("2147483648\n", ", of which this group may use 2.0"), ("max\n", "")])
def test_the_limit_of_a_container_is_told(monkeypatch: pytest.MonkeyPatch, limit: str, told: str) -> None:
    def read(self: Path, **_: object) -> str:
        return limit if self.name == "memory.max" else "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n"

    monkeypatch.setattr(Path, "read_text", read)
    assert machine._memory() == f"8.0 GiB, 4.0 available{told}"


def test_a_machine_without_these_files_is_described_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Path, **_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", read)
    rows = dict(machine.machine_rows())
    assert rows["memory"] == "unknown"
    assert "cores usable" in rows["processor"]


def test_every_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "driver_version", lambda: "580.65.06")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: Properties(f"Card {index}", 2**34, 9, 0, 132)
    )

    def free(index: int) -> tuple[int, int]:
        if index:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
        return 2**33, 2**34

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    assert machine.gpu_rows() == [
        ("driver", "580.65.06, torch built for CUDA 13.0"),
        ("GPU 0", "Card 0, 16.0 GiB, 8.0 free, capability 9.0, 132 multiprocessors"),
        ("GPU 1", "Card 1, 16.0 GiB, and no process of ours may use it, capability 9.0, 132 multiprocessors"),
    ]


def test_no_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "driver_version", lambda: "")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.gpu_rows() == [("driver", "none found, torch built without CUDA"), ("GPU", "none")]


def test_versions_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(machine.version_rows())
    assert rows["alttrain"].startswith(__version__)
    assert rows["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {name: rows[name] for name in machine.LIBRARIES} == {
        name: importlib.metadata.version(name) for name in machine.LIBRARIES
    }
    assert machine.installed("a-library-nobody-has") == "not installed"
    monkeypatch.setattr(machine, "git_commit", lambda: None)
    assert dict(machine.version_rows())["alttrain"] == __version__


def test_only_variables_that_change_a_run_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"TRITON_INTERPRET": "1", "NCCL_DEBUG": "INFO", "CC": "clang", "CUDA_VISIBLE_DEVICES": "0"}
    hidden = {"HF_TOKEN": "secret", "WANDB_API_KEY": "secret", "CCC": "1", "USER": "somebody", "AWS_SECRET": "x"}
    monkeypatch.setattr(os, "environ", shown | hidden)
    assert dict(machine.variable_rows()) == shown


def test_free_disk_is_that_of_the_nearest_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []

    def usage(folder: Any) -> Any:
        asked.append(Path(folder))
        return namedtuple("Usage", "total used free")(0, 0, 3 << 30)

    monkeypatch.setattr(machine.shutil, "disk_usage", usage)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert set(machine.disk_rows()) >= {("working folder", "3.0 GiB free"), ("cache of verdicts", "3.0 GiB free")}
    assert asked[:3] == [tmp_path] * 3
