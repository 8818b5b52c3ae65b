"""What --model.kernels means on each kind of device."""

import dataclasses

import pytest
import torch

from alttrain.engine.errors import ConfigError
from alttrain.engine.model import kernel_choice
from alttrain.engine.model.kernel_choice import Kernels, choose_kernels

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def two_kinds_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make GPU 0 one that is proven, and GPU 1 another whose name begins alike."""
    monkeypatch.setattr(kernel_choice, "PROVEN_GPUS", {"Card 9": "card-9"})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: ["Card 9", "Card 9 Lite"][device.index])


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_torch_leaves_the_layers_to_transformers(device: torch.device) -> None:
    assert choose_kernels("torch", device) == Kernels("torch", False, "PyTorch")


def test_auto_without_a_gpu_replaces_layers_but_interprets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "INTERPRETED", True)
    chosen = choose_kernels("auto", CPU)
    assert (chosen.backend, chosen.fuses_layers) == ("torch", True)


def test_auto_takes_triton_on_the_very_gpu_that_is_proven() -> None:
    proven = choose_kernels("auto", CUDA)
    assert (proven.backend, proven.fuses_layers) == ("triton", True)
    assert proven.reason == "Triton, proven on Card 9"
    other = choose_kernels("auto", torch.device("cuda", 1))
    assert (other.backend, other.fuses_layers) == ("torch", False)


@pytest.mark.parametrize(("device", "interpreted"), [(CPU, True), (CUDA, False), (torch.device("cuda", 1), False)])
def test_triton_is_taken_at_its_word_where_it_can_run(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, interpreted: bool
) -> None:
    monkeypatch.setattr(kernel_choice, "INTERPRETED", interpreted)
    assert choose_kernels("triton", device) == Kernels("triton", True, "Triton")


def test_a_choice_stays_what_it_is() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        choose_kernels("torch", CPU).backend = "triton"  # type: ignore[misc]


def test_triton_without_cuda_or_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "INTERPRETED", False)
    with pytest.raises(ConfigError, match=r"--model.kernels triton: this machine has no CUDA device"):
        choose_kernels("triton", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU nobody has tried")
    unproven = choose_kernels("auto", torch.device("cuda"))
    assert (unproven.backend, unproven.fuses_layers) == ("torch", False)
    assert "not proven on a GPU nobody has tried" in unproven.reason
