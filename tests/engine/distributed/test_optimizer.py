"""Our AdamW in the place of torch's: the same steps, the same state."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alttrain.engine.distributed import optimizer as optimizer_room
from alttrain.engine.distributed.optimizer import FlatAdamW

HYPER: dict[str, Any] = {"lr": 3e-3, "betas": (0.9, 0.95)}


def make_parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((1000,), (7, 5), (3,))]


def groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": parameters[:2], "weight_decay": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]


def run(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], first: int, last: int) -> list[Tensor]:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        for group in optimizer.param_groups:
            group["lr"] = HYPER["lr"] / (1 + step)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_it_steps_as_torch_does(backend: str) -> None:
    ours, theirs = make_parameters(), make_parameters()
    found = run(FlatAdamW(groups(ours), **HYPER, backend=backend), ours, 0, 8)  # type: ignore[arg-type]
    wanted = run(torch.optim.AdamW(groups(theirs), **HYPER), theirs, 0, 8)
    for value, truth in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, truth, rtol=2e-6, atol=1e-7)


def test_a_state_of_torch_goes_on_as_ours() -> None:
    theirs, ours = make_parameters(), make_parameters()
    before = torch.optim.AdamW(groups(theirs), **HYPER)
    run(before, theirs, 0, 3)
    for mine, other in zip(ours, theirs, strict=True):
        mine.data.copy_(other.data)
    after = FlatAdamW(groups(ours), **HYPER)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert after.state_dict()["state"][0].keys() == before.state_dict()["state"][0].keys()
    for value, truth in zip(run(after, ours, 3, 6), run(before, theirs, 3, 6), strict=True):
        torch.testing.assert_close(value, truth, rtol=2e-6, atol=1e-7)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    parameters = make_parameters()
    before = [parameter.detach().clone() for parameter in parameters]
    FlatAdamW(groups(parameters), **HYPER).step()
    assert all(torch.equal(parameter, old) for parameter, old in zip(parameters, before, strict=True))


def lean(parameters: list[nn.Parameter], **changes: Any) -> FlatAdamW:
    return FlatAdamW(groups(parameters), **HYPER, **{"moments": torch.bfloat16, "backend": "torch", **changes})


def bf16_parameters() -> list[nn.Parameter]:
    return [nn.Parameter(parameter.detach().bfloat16()) for parameter in make_parameters()]


@pytest.mark.parametrize("keeps_master", [True, False])
def test_a_lean_state_goes_on_to_the_bit(keeps_master: bool) -> None:
    """Moments stay bfloat16 and low bits int16: torch's own loading would make all of them the parameter's dtype."""
    whole, begun, resumed = (bf16_parameters() for _ in range(3))
    first, second = lean(whole, keeps_master=keeps_master), lean(begun, keeps_master=keeps_master)
    run(first, whole, 0, 6)
    run(second, begun, 0, 3)
    for mine, other in zip(resumed, begun, strict=True):
        mine.data.copy_(other.data)
    third = lean(resumed, keeps_master=keeps_master)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    run(third, resumed, 3, 6)
    for mine, other in zip(resumed, whole, strict=True):
        assert torch.equal(mine, other)
        wanted, found = first.state[other], third.state[mine]
        assert (
            wanted.keys()
            == found.keys()
            == {"step", "exp_avg", "exp_avg_sq", "first_place"} | ({"low_bits"} if keeps_master else set())
        )
        for name in ("exp_avg", "exp_avg_sq", *(["low_bits"] if keeps_master else [])):
            assert found[name].dtype == wanted[name].dtype == (torch.int16 if name == "low_bits" else torch.bfloat16)
            assert torch.equal(found[name], wanted[name]), name


def places(monkeypatch: pytest.MonkeyPatch, optimizer: FlatAdamW, parameters: list[nn.Parameter]) -> list[int]:
    """Return the place of each tensor's random bits, in the order of a step."""
    found = []
    monkeypatch.setattr(optimizer_room, "adamw_step", lambda *_, offset, **__: found.append(offset))
    run(optimizer, parameters, 0, 1)
    return found


def test_no_two_tensors_of_any_rank_share_random_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []
    for rank in range(3):
        parameters = bf16_parameters()
        optimizer = lean(parameters, rank=rank, num_ranks=3)
        starts = places(monkeypatch, optimizer, parameters)
        assert starts == places(monkeypatch, optimizer, parameters)
        taken += [(start, start + p.numel()) for start, p in zip(starts, parameters, strict=True)]
    taken.sort()
    assert all(start % 4 == 0 for start, _ in taken)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(taken))


def test_tensors_that_are_shown_one_at_a_time_keep_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ZeRO-3 does, which puts one part of a group after the other into it, and nothing between steps."""
    parameters = bf16_parameters()
    at_once = places(monkeypatch, lean(parameters), parameters)
    optimizer, found = lean(parameters), []
    for group in optimizer.param_groups:
        group["params"] = []
    for _ in range(2):
        for parameter in parameters:
            optimizer.param_groups[0]["params"] = [parameter]
            found += places(monkeypatch, optimizer, [parameter])
    assert found == 2 * at_once
