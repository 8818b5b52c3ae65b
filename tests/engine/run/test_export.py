"""Shards: every parameter once, in order, none over the limit but one that is alone."""

from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.run.export import plan_shards, shard_name


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 60))
def test_shards_hold_every_parameter_once(sizes: list[int], limit: int) -> None:
    by_name = {f"p{index}": size for index, size in enumerate(sizes)}
    shards = plan_shards(by_name, limit)
    assert [name for shard in shards for name in shard] == list(by_name)
    assert all(len(shard) == 1 or sum(by_name[name] for name in shard) <= limit for shard in shards)


def test_names_are_those_that_transformers_expects() -> None:
    assert shard_name(0, 1) == "model.safetensors"
    assert shard_name(1, 12) == "model-00002-of-00012.safetensors"
