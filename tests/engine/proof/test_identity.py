"""What verdicts are kept under: everything that may change what a kernel does."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from alttrain.engine.proof import identity
from alttrain.engine.proof.identity import driver_version, identity_of, sources_hash
from alttrain.engine.proof.shapes import SMALL_SHAPES, KernelShapes

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card 9")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(identity, "driver_version", lambda: "580.65.06")
    monkeypatch.setattr(identity, "flash_attention_3", lambda device: "")


def test_the_same_machine_is_the_same() -> None:
    assert identity_of(GPU, SMALL_SHAPES) == identity_of(GPU, dataclasses.replace(SMALL_SHAPES))
    assert identity_of(GPU, SMALL_SHAPES)["gpu"] == "Card 9"


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (torch.cuda, "get_device_name", lambda device: "Card 9 Lite"),
        (torch.cuda, "get_device_capability", lambda device: (10, 0)),
        (identity, "driver_version", lambda: "590.10"),
        (torch, "__version__", "2.99.0"),
        (identity, "TRITON_VERSION", "3.99.0"),
        (identity, "flash_attention_3", lambda device: "FlashAttention 3"),
        (identity, "sources_hash", lambda: "another"),
        (identity, "INTERPRETED", "neither"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_part_counts(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any) -> None:
    before = identity_of(GPU, SMALL_SHAPES)
    monkeypatch.setattr(owner, name, value)
    now = identity_of(GPU, SMALL_SHAPES)
    assert sum(now[part] != before[part] for part in before) == 1


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(KernelShapes)])
def test_every_shape_counts(field: str) -> None:
    other: Any = {"dtype": "bfloat16", "has_qkv_bias": False, "normalises_heads": False, "eps": 1e-5}.get(field, 8)
    changed = dataclasses.replace(SMALL_SHAPES, **{field: other})
    assert identity_of(GPU, changed) != identity_of(GPU, SMALL_SHAPES)


def test_the_text_of_kernels_and_trials_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = sources_hash()
    assert sources_hash() == before
    for owner, name in ((identity.backend, "backend.py"), (identity.this_room, "shapes.py")):
        source = Path(owner.__file__).parent
        copy = tmp_path / source.name
        copy.mkdir()
        for file in source.glob("*.py"):
            (copy / file.name).write_bytes(file.read_bytes())
        with monkeypatch.context() as moved:
            moved.setattr(owner, "__file__", str(copy / name))
            assert sources_hash() == before, "it does not matter where they lie"
            (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
            assert sources_hash() != before


@pytest.mark.parametrize(
    ("module", "smi", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\n", "", "580.65.06"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release\n", "", "570.86"),
        (None, "595.10.1\n595.10.1\n", "595.10.1"),
        (None, None, ""),
    ],
)
def test_the_driver_is_asked_for_its_version(
    monkeypatch: pytest.MonkeyPatch, module: str | None, smi: str | None, version: str
) -> None:
    def read(self: Path, **_: object) -> str:
        if module is None:
            raise FileNotFoundError(self)
        return module

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(identity.shutil, "which", lambda name: None if smi is None else name)
    done = subprocess.CompletedProcess([], 0, smi or "", "")
    monkeypatch.setattr(identity.subprocess, "run", lambda *_, **__: done)
    assert driver_version() == version
