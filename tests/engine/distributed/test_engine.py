"""What every engine begins with: the weights of a model folder, read a rank's part at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alttrain.engine.distributed import engine
from alttrain.engine.distributed.finite import FiniteCheck
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ModelError


class Counting:
    """A source that gives every element its place in the parameter."""

    def read(self, name: str, shape: tuple[int, ...], start: int, stop: int) -> Tensor:
        return torch.arange(start, stop).float()

    def not_finite(self, names: list[str], dtype: torch.dtype) -> ModelError:
        raise AssertionError("every number is finite")


@pytest.mark.parametrize(("rank", "values"), [(0, [0, 1, 2, 3]), (1, [4, 5, 0, 0]), (2, [0, 0, 0, 0])])
def test_each_rank_reads_its_partition_and_pads_it_with_zeros(rank: int, values: list[int]) -> None:
    model: Any = nn.Module()
    model.weight = nn.Parameter(torch.empty(0))
    model.weight.ds_tensor, model.weight.ds_shape = torch.full((4,), torch.nan), (2, 3)
    check = FiniteCheck(World(rank=rank, local_rank=0, size=1, device=torch.device("cpu")))
    engine._fill(model, Counting(), rank, torch.float32, check)
    assert model.weight.ds_tensor.tolist() == values
    assert check.found() == []


def test_matrices_decay_and_vectors_do_not() -> None:
    layer = nn.Linear(3, 2)
    decayed, plain = engine.parameter_groups(layer, 0.5)
    assert (decayed["params"], decayed["weight_decay"]) == ([layer.weight], 0.5)
    assert (plain["params"], plain["weight_decay"]) == ([layer.bias], 0.0)


def test_a_partitioned_matrix_is_known_by_its_whole_shape() -> None:
    layer: Any = nn.Linear(3, 2)
    layer.weight.data = torch.empty(0)
    layer.weight.ds_shape = torch.Size((2, 3))
    assert engine.whole_shape(layer.weight) == (2, 3)
    assert engine.parameter_groups(layer, 0.5)[0]["params"] == [layer.weight]
