"""Values that the null device is given: masks on a device only, and only for a while."""

import torch
from torch import Tensor

from null_device.values import masks_select


def test_a_mask_on_the_cpu_selects_what_it_says_and_indexing_is_itself_again() -> None:
    before = Tensor.__getitem__
    values, mask = torch.arange(4), torch.tensor([True, False, True, False])
    with masks_select(lambda: 3):
        assert values[mask].tolist() == [0, 2]
        assert values[1:3].tolist() == [1, 2]
    assert Tensor.__getitem__ is before
