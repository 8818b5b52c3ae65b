"""Which path a call takes, for every backend on every kind of device."""

import pytest
import torch

from alttrain.kernels import backend as switch
from skips import HAS_GPU

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize("interpreted", [False, True])
def test_auto_is_triton_on_cuda_only(monkeypatch: pytest.MonkeyPatch, interpreted: bool) -> None:
    """The interpreter is for tests: nobody is given it who has not asked for Triton."""
    monkeypatch.setattr(switch, "INTERPRETED", interpreted)
    assert switch.runs_triton("auto", CUDA)
    assert not switch.runs_triton("auto", CPU)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_torch_is_torch_everywhere(device: torch.device) -> None:
    assert not switch.runs_triton("torch", device)


def test_triton_runs_on_cuda_and_under_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "INTERPRETED", False)
    assert switch.runs_triton("triton", CUDA)
    monkeypatch.setattr(switch, "INTERPRETED", True)
    assert switch.runs_triton("triton", CPU)


def test_triton_on_a_cpu_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "INTERPRETED", False)
    with pytest.raises(ValueError, match=r"backend is 'triton' and the tensors are on cpu: set TRITON_INTERPRET=1"):
        switch.runs_triton("triton", CPU)


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("backend", ["cuda", "Triton", ""])
def test_no_backend_is_refused_wherever_the_tensors_are(device: torch.device, backend: str) -> None:
    with pytest.raises(ValueError, match=rf"backend is '{backend}': it must be auto, triton or torch"):
        switch.runs_triton(backend, device)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason=HAS_GPU)
def test_these_tests_run_kernels_under_the_interpreter() -> None:
    assert switch.INTERPRETED
