"""Our AdamW in the place of torch's: the same steps, the same state."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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
            parameter.grad = torch.randn(parameter.shape, generator=generator)
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
