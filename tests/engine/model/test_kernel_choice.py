"""What --model.kernels means on each kind of device, and what becomes of kernels that did not pass their trials."""

import dataclasses
from typing import Any

import pytest
import torch

from alttrain.engine.errors import ConfigError
from alttrain.engine.model import kernel_choice
from alttrain.engine.model.kernel_choice import INSIDE, NAMES, KernelPaths, Kernels, choose_kernels
from alttrain.engine.proof.kernels import TRIALS
from alttrain.engine.proof.trial import Verdict

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
PASSED = dict.fromkeys(TRIALS, Verdict("passed"))
TRITON = {name: "auto" if name == "attention" else "triton" for name in NAMES}


def paths(kernels: Kernels) -> dict[str, str]:
    return dataclasses.asdict(kernels.paths)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_torch_leaves_the_layers_to_transformers(device: torch.device) -> None:
    assert choose_kernels("torch", device, PASSED) == Kernels(KernelPaths(), False, "PyTorch")
    assert set(paths(choose_kernels("torch", device)).values()) == {"torch", "auto"}


def test_auto_without_a_gpu_replaces_layers_but_interprets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "INTERPRETED", True)
    assert choose_kernels("auto", CPU) == Kernels(KernelPaths(), True, "PyTorch, lean")


@pytest.mark.parametrize(("device", "interpreted"), [(CPU, True), (CUDA, False)])
def test_triton_is_taken_at_its_word_where_it_can_run(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, interpreted: bool
) -> None:
    monkeypatch.setattr(kernel_choice, "INTERPRETED", interpreted)
    chosen = choose_kernels("triton", device)
    assert (paths(chosen), chosen.fuses_layers, chosen.reason) == (TRITON, True, "Triton")


def test_triton_without_cuda_or_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "INTERPRETED", False)
    with pytest.raises(ConfigError, match=r"--model.kernels triton: this machine has no CUDA device"):
        choose_kernels("triton", CPU)


def test_every_kernel_has_a_path_or_runs_inside_one_that_has() -> None:
    assert set(TRIALS) == set(NAMES) | set(INSIDE)
    assert set(INSIDE.values()) <= set(NAMES)


def test_auto_takes_what_passed() -> None:
    chosen = choose_kernels("auto", CUDA, PASSED, "Card 9")
    assert (paths(chosen), chosen.fuses_layers) == (TRITON, True)
    assert chosen.reason == "Triton, each compared with PyTorch on Card 9"


@pytest.mark.parametrize("kernel", TRIALS)
@pytest.mark.parametrize("outcome", ["wrong", "raised"])
def test_auto_leaves_what_failed_to_pytorch_and_says_which(kernel: str, outcome: Any) -> None:
    chosen = choose_kernels("auto", CUDA, PASSED | {kernel: Verdict(outcome, "y is off by 1.0e-01")}, "Card 9")
    left = INSIDE.get(kernel, kernel)
    assert (paths(chosen), chosen.fuses_layers) == (TRITON | {left: "torch"}, True)
    assert chosen.reason == f"Triton, but PyTorch for {left}, which failed on Card 9 ({kernel}: y is off by 1.0e-01)"


def test_one_sentence_for_several() -> None:
    failed = {"rope": Verdict("wrong", "off"), "adamw": Verdict("raised", "no compiler")}
    chosen = choose_kernels("auto", CUDA, PASSED | failed)
    assert chosen.reason == "Triton, but PyTorch for adamw, rope, which failed (rope: off; adamw: no compiler)"


def test_where_all_failed_the_same_reason_is_said_once() -> None:
    failed = dict.fromkeys(TRIALS, Verdict("raised", "could not be tried: no compiler"))
    chosen = choose_kernels("auto", CUDA, failed, "Card 9")
    assert (set(paths(chosen).values()), chosen.fuses_layers) == ({"torch"}, True)
    told = f"{', '.join(TRIALS)}: could not be tried: no compiler"
    assert chosen.reason == f"PyTorch, lean, as all of Triton's failed on Card 9 ({told})"
    mixed = choose_kernels("auto", CUDA, failed | {"attention": Verdict("passed")})
    assert mixed.paths == KernelPaths()
    assert mixed.reason.startswith("PyTorch, lean, as all of Triton's failed (rms_norm, rope, swiglu, weighted_")


def test_auto_on_a_gpu_where_nothing_was_tried_takes_pytorch() -> None:
    untried = choose_kernels("auto", CUDA)
    assert (untried.paths, untried.fuses_layers) == (KernelPaths(), True)
    assert "have not been tried" in untried.reason


def test_a_kernel_without_a_verdict_has_not_passed() -> None:
    one = {name: verdict for name, verdict in PASSED.items() if name != "swiglu"}
    chosen = choose_kernels("auto", CUDA, one)
    assert paths(chosen) == TRITON | {"swiglu": "torch"}
    assert chosen.reason == "Triton, but PyTorch for swiglu, which failed (swiglu: it was not tried)"
    assert set(paths(choose_kernels("auto", CUDA, {})).values()) == {"torch"}


def test_a_choice_stays_what_it_is() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        choose_kernels("torch", CPU).paths = KernelPaths(rope="triton")  # type: ignore[misc]
