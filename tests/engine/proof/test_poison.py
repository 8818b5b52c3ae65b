"""Memory full of NaN: everything that hands out memory without a value does so within the block, and not after it."""

import pytest
import torch

from alttrain.engine.proof.poison import PLACES, poisoned


def test_memory_without_a_value_is_poisoned_within_the_block_only() -> None:
    before = [getattr(owner, name) for owner, name in PLACES]
    with poisoned():
        x = torch.empty(3)
        made = [x, torch.empty_like(x), torch.empty_strided((2,), (1,)), x.new_empty(2), torch.empty(2).bfloat16()]
        assert all(bool(tensor.isnan().all()) for tensor in made)
        assert torch.empty(2, dtype=torch.uint8).tolist() == [0, 0]
        assert torch.empty(1, dtype=torch.int32).tolist() == [-(2**31)]
        assert torch.empty(2, dtype=torch.bool).shape == (2,)
        assert not torch.zeros(2).isnan().any()
    assert [getattr(owner, name) for owner, name in PLACES] == before


def test_it_ends_with_an_error_too() -> None:
    before = torch.empty
    with pytest.raises(RuntimeError, match="in the block"), poisoned():
        raise RuntimeError("in the block")
    assert torch.empty is before
