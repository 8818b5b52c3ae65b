"""What a world's size makes of a run: the stage, the dtypes of the optimizer, and the engine."""

import dataclasses
from typing import Any

import pytest

from alttrain.engine.config import ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.distributed.choice import settled
from alttrain.engine.errors import ConfigError

BF16, FP32 = "bfloat16", "float32"


def run(stage: int = 2, offload: Any = "none", dtype: Any = BF16, **optim: Any) -> RunConfig:
    return RunConfig(
        model=ModelConfig(dtype=dtype), zero=ZeroConfig(stage=stage, offload=offload), optim=OptimConfig(**optim)
    )


@pytest.mark.parametrize(
    ("world_size", "stage", "offload", "becomes"),
    [
        (1, 0, "none", 0),
        (1, 1, "none", 1),
        (1, 2, "none", 1),
        (1, 3, "none", 1),
        (1, 2, "optimizer", 2),  # gradients leave the GPU as they come
        (1, 3, "all", 3),
        (2, 2, "none", 2),
        (8, 3, "none", 3),
    ],
)
def test_one_process_takes_stage_1_and_says_so(world_size: int, stage: int, offload: Any, becomes: int) -> None:
    config, notes = settled(run(stage, offload), world_size)
    assert config.zero == ZeroConfig(stage=becomes, offload=offload)
    said = [f"--zero.stage {stage} -> {becomes}: one process has nothing to partition"]
    assert notes == (said if becomes != stage else [])


@pytest.mark.parametrize(
    ("world_size", "offload", "dtype", "moments", "gradients"),
    [
        (1, "none", BF16, BF16, BF16),
        (1, "none", FP32, FP32, FP32),
        (1, "optimizer", BF16, FP32, FP32),
        (2, "none", BF16, BF16, FP32),
        (2, "none", FP32, FP32, FP32),
        (2, "optimizer", BF16, FP32, FP32),
    ],
)
def test_auto_is_decided_by_weights_and_world(
    world_size: int, offload: Any, dtype: Any, moments: str, gradients: str
) -> None:
    config, _ = settled(run(2, offload, dtype), world_size)
    assert (config.optim.moments, config.optim.gradients) == (moments, gradients)


def test_what_is_asked_for_stays() -> None:
    asked = {"moments": FP32, "gradients": FP32, "master": BF16}
    config, _ = settled(run(**asked), 1)
    assert config.optim == OptimConfig(**asked)  # type: ignore[arg-type]
    config, _ = settled(run(offload="optimizer", moments=BF16), 2)
    assert config.optim.moments == BF16


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_settled_run_stays_as_it_is(world_size: int) -> None:
    once, _ = settled(run(3), world_size)
    assert settled(once, world_size) == (once, [])


def test_nothing_else_changes() -> None:
    before = run(1)
    after, _ = settled(before, 2)
    same = dataclasses.replace(after, optim=before.optim)
    assert same == before


@pytest.mark.parametrize(
    ("world_size", "offload", "optim", "said"),
    [
        (2, "none", {"master": BF16}, "--optim.master is bfloat16 with 2 ranks"),
        (1, "optimizer", {"master": BF16}, "--optim.master is bfloat16 with --zero.offload optimizer"),
        (8, "none", {"gradients": BF16}, "--optim.gradients is bfloat16 with 8 ranks"),
        (1, "optimizer", {"gradients": BF16}, "--optim.gradients is bfloat16 with --zero.offload optimizer"),
    ],
)
def test_what_zero_does_not_do_is_refused(world_size: int, offload: Any, optim: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settled(run(2, offload, **optim), world_size)
    settled(run(2), 1)  # the way out
