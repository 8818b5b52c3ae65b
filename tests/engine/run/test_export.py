"""Shards: every parameter once, in order, none over the limit but one that is alone; and only finite weights."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from alttrain.engine.config import ModelConfig, RunConfig
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import DivergenceError
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.run import export
from alttrain.engine.run.export import export_model, plan_shards, shard_name
from alttrain.engine.run.folder import RunFolder


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 60))
def test_shards_hold_every_parameter_once(sizes: list[int], limit: int) -> None:
    by_name = {f"p{index}": size for index, size in enumerate(sizes)}
    shards = plan_shards(by_name, limit)
    assert [name for shard in shards for name in shard] == list(by_name)
    assert all(len(shard) == 1 or sum(by_name[name] for name in shard) <= limit for shard in shards)


def test_names_are_those_that_transformers_expects() -> None:
    assert shard_name(0, 1) == "model.safetensors"
    assert shard_name(1, 12) == "model-00002-of-00012.safetensors"


class Weights:
    """What an export asks of the engine, with weights that are given."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def parameter_bytes(self) -> dict[str, int]:
        return {name: tensor.nbytes for name, tensor in self.tensors.items()}

    @contextlib.contextmanager
    def gathered(self, name: str) -> Iterator[torch.Tensor]:
        yield self.tensors[name]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_not_exported(
    write_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    dtype: torch.dtype,
) -> None:
    """A shard that was written before goes too, and the model of an earlier export stays."""
    monkeypatch.setattr(export, "SHARD_BYTES", 1)
    monkeypatch.setattr(export, "model_card", lambda *_: "")
    config = RunConfig(model=ModelConfig(path=str(write_model(tmp_path / "source"))), output=str(tmp_path / "run"))
    backbone, folder = open_backbone(config), RunFolder(tmp_path / "run")
    world = World(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
    engine: Any = Weights({"a": torch.ones(4, dtype=dtype), "b": torch.zeros(3, dtype=dtype)})
    export_model(engine, backbone, config, folder, world)
    before = {file.name: file.read_bytes() for file in folder.model.iterdir()}
    assert load_file(folder.model / "model-00002-of-00002.safetensors").keys() == {"b"}

    engine.tensors["b"][1] = value
    with pytest.raises(DivergenceError, match=r"^b holds NaN or infinity after the last step: no model is exported"):
        export_model(engine, backbone, config, folder, world)
    assert {file.name: file.read_bytes() for file in folder.model.iterdir()} == before
    assert [file.name for file in folder.path.iterdir()] == ["model"]
