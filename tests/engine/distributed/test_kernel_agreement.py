"""One choice of kernels for a world: a kernel is used where it passed everywhere."""

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alttrain.engine.config import ModelConfig
from alttrain.engine.distributed import kernel_agreement
from alttrain.engine.distributed.kernel_agreement import agreed_kernels, joined
from alttrain.engine.distributed.world import World
from alttrain.engine.model.kernel_choice import TRITON, choose_kernels
from alttrain.engine.proof.kernels import TRIALS
from alttrain.engine.proof.proving import Proof
from alttrain.engine.proof.trial import Verdict

PASSED = dict.fromkeys(TRIALS, Verdict("passed"))
OFF = Verdict("wrong", "y is off by 1.0e-01")
BACKBONE: Any = SimpleNamespace(config=None)


@pytest.fixture(autouse=True)
def attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_agreement, "flash_attention_3", lambda device: "")


def found(name: str, **others: Verdict) -> tuple[str, str, Mapping[str, Verdict]]:
    return name, "Card 9", PASSED | others


def test_a_kernel_that_passed_everywhere_has_passed() -> None:
    assert joined([found("rank 0"), found("rank 8")]) == PASSED


def test_a_kernel_that_failed_anywhere_has_failed_and_it_is_said_where() -> None:
    verdicts = joined([found("rank 0"), found("rank 8 on b", rope=OFF), found("rank 16 on c", rope=OFF, adamw=OFF)])
    assert {name for name, verdict in verdicts.items() if not verdict.passed} == {"rope", "adamw"}
    assert verdicts["rope"].reason == "on rank 8 on b, y is off by 1.0e-01"
    assert verdicts["adamw"].reason == "on rank 16 on c, y is off by 1.0e-01"


def test_one_that_tried_it_alone_is_not_named() -> None:
    assert joined([found("rank 0", rope=OFF)])["rope"] == OFF


def test_what_somebody_has_no_verdict_of_has_not_passed() -> None:
    one = {name: verdict for name, verdict in PASSED.items() if name != "rope"}
    for everyone in ([found("a"), ("b", "Card 9", one)], [("b", "Card 9", one), found("a")]):
        assert joined(everyone)["rope"].reason == "on b, it was not tried"
    assert joined([]) == {}


@pytest.mark.parametrize("wanted", ["auto", "torch"])
def test_without_a_choice_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, wanted: Any) -> None:
    monkeypatch.setattr(kernel_agreement, "prove", None)
    world = World(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
    assert agreed_kernels(ModelConfig(kernels=wanted), BACKBONE, world) == choose_kernels(wanted, world.device)
    gpu = World(rank=0, local_rank=0, size=1, device=torch.device("cuda", 0))
    assert agreed_kernels(ModelConfig(kernels="triton"), BACKBONE, gpu) == choose_kernels("triton", gpu.device)


def test_a_world_of_one_takes_what_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_agreement, "shapes_of", lambda config, dtype: dtype)
    monkeypatch.setattr(kernel_agreement, "identity_of", lambda device, shapes: {"gpu": "Card 9", "shapes": shapes})

    def prove(device: torch.device, shapes: str, *, progress: bool) -> Proof:
        assert (str(device), shapes, progress) == ("cuda:0", "bfloat16", True)
        return Proof(PASSED | {"rope": OFF}, "It is not kept.")

    monkeypatch.setattr(kernel_agreement, "prove", prove)
    world = World(rank=0, local_rank=0, size=1, device=torch.device("cuda", 0))
    kernels = agreed_kernels(ModelConfig(), BACKBONE, world)
    assert kernels.paths == dataclasses.replace(TRITON, rope="torch")
    assert kernels.reason == "Triton, but PyTorch for rope, which failed on Card 9 (rope: y is off by 1.0e-01)"
    assert kernels.note == "It is not kept."


@pytest.mark.parametrize("wanted", ["auto", "torch", "triton"])
def test_what_attention_runs_on_is_said_where_it_is_not_torchs_own(
    monkeypatch: pytest.MonkeyPatch, wanted: Any
) -> None:
    monkeypatch.setattr(kernel_agreement, "flash_attention_3", lambda device: "FlashAttention 3")
    monkeypatch.setattr(kernel_agreement, "shapes_of", lambda config, dtype: dtype)
    monkeypatch.setattr(kernel_agreement, "identity_of", lambda device, shapes: {"gpu": "Card 9", "shapes": shapes})
    world = World(rank=0, local_rank=0, size=1, device=torch.device("cuda", 0))
    for verdict, is_said in ((Verdict("passed"), True), (OFF, wanted != "auto")):
        proof = Proof(PASSED | {"attention": verdict})
        monkeypatch.setattr(kernel_agreement, "prove", lambda *args, proof=proof, **options: proof)
        reason = agreed_kernels(ModelConfig(kernels=wanted), BACKBONE, world).reason
        assert reason.endswith("; attention by FlashAttention 3") == is_said, reason
