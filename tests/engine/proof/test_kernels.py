"""Every kernel of the project has its trials."""

from pathlib import Path

import pytest
import torch

from alttrain.engine.proof import kernels
from alttrain.engine.proof.kernels import TRIALS, try_kernel
from alttrain.engine.proof.shapes import SMALL_SHAPES

ROOT = Path(__file__).resolve().parents[3]


def test_every_kernel_has_trials() -> None:
    assert set(TRIALS) == {file.stem for file in (ROOT / "kernels").glob("*.py")} - {"backend"}


def test_what_goes_wrong_before_the_first_trial_is_the_kernels_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has 1 GiB in all.")

    monkeypatch.setattr(kernels, "TRIALS", {"rope": no_memory})
    verdict = try_kernel("rope", SMALL_SHAPES, torch.device("cpu"))
    assert verdict.outcome == "raised"
    assert verdict.reason == "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."
