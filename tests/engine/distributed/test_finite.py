"""NaN and infinity are found wherever they stand, in every dtype; what is large is not taken for them."""

from typing import Any

import pytest
import torch

from alttrain.engine.distributed.finite import FiniteCheck
from alttrain.engine.distributed.world import World

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def world(device: torch.device) -> World:
    return World(rank=0, local_rank=0, size=1, device=device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 40_000])
def test_one_number_is_enough(world: World, dtype: torch.dtype, value: float, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    check = FiniteCheck(world)
    places = {0, size - 1, size // 2, *torch.randint(size, (20,), generator=generator).tolist()}
    for place in places:
        tensor = torch.randn(size, generator=generator).to(world.device, dtype)
        check.add(f"finite {place}", tensor)
        tensor[place] = value
        check.add(f"{place}", tensor)
    assert check.found() == [f"{place}" for place in places]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_numbers_are_finite(world: World, dtype: torch.dtype) -> None:
    check = FiniteCheck(world)
    check.add("large", torch.full((8, 8), torch.finfo(dtype).max, dtype=dtype, device=world.device))
    check.add("small", torch.full((8, 8), torch.finfo(dtype).min, dtype=dtype, device=world.device))
    check.add("tiny", torch.full((8, 8), torch.finfo(dtype).tiny / 2, dtype=dtype, device=world.device))
    assert check.found() == []


def test_a_rank_may_hold_nothing_of_a_tensor(world: World) -> None:
    check = FiniteCheck(world)
    assert check.found() == []
    check.add("a", None)
    check.add("b", torch.empty(0))
    check.add("c", torch.tensor(torch.nan, device=world.device))
    assert check.found() == ["c"]


def test_what_another_rank_found_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags of all ranks are joined at once, in the order of the names."""
    joined: list[Any] = []

    def maximum(_: World, flags: torch.Tensor) -> torch.Tensor:
        joined.append(flags.tolist())
        return torch.maximum(flags, torch.tensor([0, 1, 0], dtype=torch.uint8, device=flags.device))

    monkeypatch.setattr(World, "max", maximum)
    check = FiniteCheck(world)
    for name in "abc":
        check.add(name, torch.tensor([1.0, torch.inf if name == "c" else 0.0]))
    assert check.found() == ["b", "c"]
    assert joined == [[0, 0, 1]]
